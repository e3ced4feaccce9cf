"""Runs in lmms-eval's format for the tests of tables, diagnostics and plots, and the command in this process."""

import json

from synthetic import write_run
from test_report import trace
from typer.testing import CliRunner

from lmms_awares.cli import app, main

POPE, CHART = "awares_pope", "awares_chartqa"


def awares(*arguments):
    """The command's result; errors of ours are raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def exit_of(monkeypatch, capsys, *arguments):
    """Exit code and stderr as the shell sees them."""
    monkeypatch.setattr("sys.argv", ["awares", *map(str, arguments)])
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    return code, capsys.readouterr().err


def sample(score=1.0, *, rtr=0.25, ids=None, status="valid", forced=False, latency=1.0, chars=4, **fields):
    """One row of a samples file; `ids` makes a call of it."""
    call = None if ids is None else {"status": status, "ids": list(ids), "text": "GET_CROPS", "forced": forced}
    turns = [{"text": "x" * chars, "new_tokens": 2, "seconds": latency}] * (1 if ids is None else 2)
    fields = {"image_size": [100, 60], "full_tokens": 100, "visual_tokens": int(100 * rtr), "turns": turns} | fields
    row = trace(rtr=rtr, tool_call=call, latency_s=latency, response_chars=chars, batch_size=1, **fields)
    return {"score": score, "awares": row}


def pope(truth, said, score=None):
    """A row of POPE, as lmms-eval scores it."""
    score = float(said == truth) if score is None else score
    return sample(score) | {"pope_f1_score": {"score": score, "prediction": said, "ground_truth": truth}}


def failed():
    """A row without an answer."""
    return {"awares": trace(failed="OSError: no")}


def write(folder, tasks, *, model="awares", model_args="", data=None, conditions=None, **config):
    """A run of several tasks: rows by task. Returns its folder."""
    folder.mkdir(parents=True)
    for task, rows in tasks.items():
        lines = []
        for index, given in enumerate(rows):
            row = json.loads(json.dumps({"doc_id": index, "input": f"question {index}?", **given}))
            if row.get("awares"):
                row["awares"]["conditions"] |= conditions or {}
            lines.append(json.dumps(row))
        (folder / f"1_samples_{task}.jsonl").write_text("\n".join(lines) + "\n")
    configs = {
        task: {
            "metric_list": [{"metric": "accuracy"}],
            "metadata": {"awares_envelope": True},
            "dataset_kwargs": {"data_files": {"test": [str(data / task)]}} if data else None,
        }
        for task in tasks
    }
    results = {
        "config": {"model": model, "model_args": model_args, **config},
        "results": {task: {} for task in tasks},
        "configs": configs,
    }
    (folder / "1_results.json").write_text(json.dumps(results))
    return folder


def cells(table, row, heading="method"):
    """One row of a table, by headings."""
    frame = table.frame.set_index(("", heading))
    return {" ".join(column).strip(): text for column, text in frame.loc[row].items()}


def two_runs(folder):
    """Two runs over two benchmarks; the second also fails once."""
    lowres = {CHART: [sample(0.0), sample(1.0), sample(0.4)], POPE: [pope("yes", "yes"), pope("yes", "no")]}
    aware = {
        CHART: [sample(1.0, rtr=0.5, ids=["0"], latency=3), sample(1.0), sample(0.0, rtr=0.75, ids=["5"], latency=5)],
        POPE: [pope("yes", "yes"), failed()],
    }
    for row in [row for rows in lowres.values() for row in rows]:
        row["awares"] |= {"model": "qwen2_5_vl_lowres", "policy": None, "prompt": "default"}
    return (
        write(folder / "low", lowres, model="qwen2_5_vl_lowres"),
        write(folder / "aware", aware),
    )


__all__ = [
    "CHART",
    "POPE",
    "awares",
    "cells",
    "exit_of",
    "failed",
    "pope",
    "sample",
    "trace",
    "two_runs",
    "write",
]


def gate(tmp_path, *arguments, before=None, after=None):
    """Run the command on two folders; returns its result."""
    write_run(tmp_path / "before", before)
    write_run(tmp_path / "after", after)
    return run_gate(tmp_path / "before", tmp_path / "after", *arguments)


def run_gate(before, after, *arguments):
    command = ["regress", "--baseline", str(before), "--candidate", str(after), *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"GITHUB_STEP_SUMMARY": ""})
