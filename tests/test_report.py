"""Reading runs and laying them out."""

import json

import pandas as pd
import pytest

from lmms_awares.report.read.folders import find_runs, newest_run
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.read.summary import summarize
from lmms_awares.report.tables.run_summary import print_summary
from lmms_awares.trace import TraceError

CONDITIONS = dict.fromkeys(
    ("revision", "dtype", "attention", "lowres_base", "device", "lmms_awares", "lmms_eval", "transformers", "torch"),
    "x",
) | {"min_pixels": 1, "max_pixels": 2}


def trace(**fields):
    base = {"schema_version": 1, "model": "awares", "policy": "model", "prompt": "own", "conditions": CONDITIONS}
    return base | fields


def answered(tokens, full, score, *, status=None, latency=1.0):
    call = {"status": status, "ids": [] if status == "invalid" else ["0"], "text": "GET_CROPS"} if status else None
    fields = {"visual_tokens": tokens, "full_tokens": full, "rtr": tokens / full, "tool_call": call}
    return {"score": score, "awares": trace(**fields, latency_s=latency)}


ROWS = [
    answered(25, 100, 1.0, latency=1.0),
    answered(300, 400, 0.0, status="valid", latency=3.0),
    answered(50, 100, 1.0, status="invalid", latency=2.0),
    {"awares": trace(failed="OSError: no")},
]


def write_run(folder, rows, *, task="awares_pope", model="awares", stamp="1"):
    folder.mkdir(parents=True, exist_ok=True)
    ours = task.startswith("awares_")
    results = {
        "config": {"model": model},
        "results": {task: {"pope_accuracy,none": 0.25}, "awares_suite": {"rtr,none": 1}},
        "configs": {task: {"metric_list": [{"metric": "pope_accuracy"}], "metadata": {"awares_envelope": ours}}},
    }
    (folder / f"{stamp}_results.json").write_text(json.dumps(results))
    lines = [json.dumps({"doc_id": i, **row}) for i, row in enumerate(rows)]
    (folder / f"{stamp}_samples_{task}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_summary_by_hand(tmp_path):
    """Three answered samples and a failed one, worked out by hand."""
    (row,) = summarize(newest_run(write_run(tmp_path, ROWS))).to_dict("records")
    assert row["method"] == "awares"
    assert row["metric"] == "pope_accuracy"
    assert row["score"] == pytest.approx(200 / 3)
    assert row["rtr"] == pytest.approx((0.25 + 0.75 + 0.5) / 3)
    assert row["rtr_pooled"] == pytest.approx(375 / 600)
    assert row["call_rate"] == pytest.approx(1 / 3)
    assert row["invalid_calls"] == 1
    assert row["latency_s"] == pytest.approx(2.0)
    assert (row["n"], row["failed"]) == (4, 1)


def test_runs_without_traces(tmp_path):
    (row,) = summarize(newest_run(write_run(tmp_path, [{}, {}], task="pope", model="qwen2_5_vl"))).to_dict("records")
    assert row["method"] == "qwen2_5_vl"
    assert row["score"] == 0.25  # as lmms-eval printed it
    assert pd.isna(row["rtr"])


def test_newest_run_wins(tmp_path):
    write_run(tmp_path, ROWS, stamp="1")
    write_run(tmp_path / "deeper", ROWS[:1], stamp="2")
    assert len(find_runs(tmp_path)) == 2
    assert summarize(newest_run(tmp_path))["n"].tolist() == [1]


def test_one_of_many_runs_is_said(tmp_path, capsys):
    write_run(tmp_path / "a", ROWS, stamp="1")
    write_run(tmp_path / "a", ROWS, stamp="2")
    newest_run(tmp_path)
    assert not capsys.readouterr().err, "one run, repeated"
    last = write_run(tmp_path / "b", ROWS, stamp="3")
    newest_run(tmp_path)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert f"3 runs lie below {tmp_path}; only the newest is taken, {last / '3_results.json'}" in warning
    assert f"{tmp_path}/*/ gives them all" in warning


def test_printed_tables(tmp_path, capsys):
    table = summarize(newest_run(write_run(tmp_path, ROWS)))
    print_summary(table, tmp_path)
    shown = capsys.readouterr().out
    for words in ("pope", "66.67", "0.500", "0.625", "0.333", "1 of 4 samples of awares_pope failed", "names no crop"):
        assert words in " ".join(shown.split())


@pytest.mark.parametrize(
    ("crops", "words"),
    [
        ({"crops": []}, "could not be run; they got an error and no image"),
        ({"crops": [{"id": "all", "tokens": 100}]}, "names no crop; they got the whole image"),
        ({}, "names no crop; they got the whole image"),  # older files
    ],
)
def test_what_a_call_that_cannot_be_run_got_is_told_by_its_trace(tmp_path, capsys, crops, words):
    row = answered(50, 100, 1.0, status="invalid")
    row["awares"] |= crops
    print_summary(summarize(newest_run(write_run(tmp_path, [row]))), tmp_path)
    assert words in " ".join(capsys.readouterr().out.split())


def test_stock_tasks_count_samples_without_input(tmp_path):
    rows = [{"token_counts": [{"input_tokens": n}]} for n in (0, 12, 0)] + [{"token_counts": [None]}]
    (row,) = summarize(newest_run(write_run(tmp_path, rows, task="pope"))).to_dict("records")
    assert row["failed"] == 2


def test_method_of_a_run_that_failed_entirely(tmp_path):
    failed = {"awares": trace(failed="OSError: no", policy="random")}
    (row,) = summarize(newest_run(write_run(tmp_path, [failed]))).to_dict("records")
    assert (row["method"], row["failed"]) == ("awares:random", 1)


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(RunError, match="holds no results"):
        newest_run(tmp_path)
    run = write_run(tmp_path, ROWS)
    samples = run / "1_samples_awares_pope.jsonl"
    samples.write_text(samples.read_text()[:-30])
    with pytest.raises(RunError, match=r"samples_awares_pope.jsonl line 4 is not JSON.*truncated"):
        summarize(newest_run(run))
    samples.unlink()
    with pytest.raises(RunError, match="is missing; run with --log_samples"):
        summarize(newest_run(run))
    write_run(tmp_path, [{"awares": trace(schema_version=99)}])
    with pytest.raises(TraceError, match="99"):
        summarize(newest_run(tmp_path))


PRUNED = {
    "visionzip@0.5": ({"model": "visionzip", "policy": None}, "visionzip", ""),
    "pruned+random@0.7": ({"model": "pruned", "policy": None}, "random", ",pruner=random"),
    "awares:oracle+holov@0.7": ({"model": "awares", "policy": "oracle"}, "holov", ",pruner=holov"),
}


@pytest.mark.parametrize("name", PRUNED)
def test_methods_of_older_runs(tmp_path, name):
    """Before schema 3 the run's arguments tell the method, which a sample that failed does not; traces tell it too."""
    from lmms_awares.trace import parse_trace

    counts = dict.fromkeys(("encoded_tokens", "entering_tokens", "mean_post", "mean_input", "final_tokens"), 1)
    fields, pruner, argument = PRUNED[name]
    ratio = float(name.rpartition("@")[2])
    row = answered(1, 2, 1.0)
    row["awares"] |= fields | {"pruning": {"pruner": pruner, "retain_ratio": ratio, "kv_lengths": [], **counts}}
    lost = {"awares": trace(failed="OSError: no", **fields)}
    folder = write_run(tmp_path, [lost, row], model=fields["model"])
    file = folder / "1_results.json"
    results = json.loads(file.read_text())
    results["config"]["model_args"] = f"pretrained=x,retain_ratio={ratio}{argument}"
    file.write_text(json.dumps(results))
    (found,) = summarize(newest_run(folder)).to_dict("records")
    assert (found["method"], found["nominal"]) == (name, ratio)
    told = parse_trace(row["awares"])
    assert (told.method, told.nominal) == (name, ratio)


def test_methods_are_what_the_traces_say(tmp_path):
    """Since schema 3: nothing is read from the model id or its arguments, which here say something else."""
    said = {"schema_version": 3, "method": "other@0.3", "nominal": 0.3, "view": "lowres"}
    rows = [row | {"awares": row["awares"] | said} for row in ROWS]
    folder = write_run(tmp_path, rows, model="qwen2_5_vl_full")
    (row,) = summarize(newest_run(folder)).to_dict("records")
    assert (row["method"], row["nominal"]) == ("other@0.3", 0.3)
