"""Runs as the report commands read them: what is broken is named, and two ways of reading agree."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from report_runs import CHART, POPE, cells, exit_of, failed, sample, write

from lmms_awares.cli import main
from lmms_awares.report.read import samples
from lmms_awares.report.read.folders import newest_run
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.summary import summarize
from lmms_awares.report.tables.main import main_table


def spoil(folder, change):
    """Rewrite the first row of a run's first samples file."""
    file = sorted(folder.glob("*_samples_*.jsonl"))[0]
    first, *rest = file.read_text().splitlines()
    row = json.loads(first)
    change(row)
    file.write_text("\n".join([json.dumps(row), *rest]) + "\n")


SPOILT = {
    "score NaN": (lambda row: row.update(score=float("nan")), "document 0 has score nan"),
    "score text": (lambda row: row.update(score="good"), "is no samples file"),
    "score missing": (lambda row: row.pop("score"), "document 0 has score nan"),
    "score infinite": (lambda row: row.update(score=float("inf")), "document 0 has score inf"),
    "rtr missing": (lambda row: row["awares"].update(rtr=None), "document 0 has rtr nan"),
    "twice": (lambda row: row.update(doc_id=1), "holds document 1 twice"),
    "version": (lambda row: row["awares"].update(schema_version=99), "schema version 99"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_samples_are_named(name, pair, tmp_path, monkeypatch, capsys):
    change, words = SPOILT[name]
    bad = write(tmp_path / "bad", {CHART: [sample(), sample()], POPE: [sample()]})
    spoil(bad, change)
    code, err = exit_of(monkeypatch, capsys, "compare", pair[0], bad)
    assert code == 2
    assert err.startswith("awares: error: ")
    assert words in err
    assert len(err.splitlines()) == 1
    code, err = exit_of(monkeypatch, capsys, "compare", pair[0], bad, "--keep-going", "-o", tmp_path / "out")
    assert code == 2
    assert words in err
    assert "qwen2_5_vl_lowres" in (tmp_path / "out" / "table.csv").read_text()


def test_all_scores_nan_is_not_predict_only(tmp_path):
    run = write(tmp_path / "a", {POPE: [sample(float("nan"))]})
    with pytest.raises(samples.RunError, match="has score nan"):
        collect([run])
    rows = [{"awares": sample()["awares"]}]  # no score at all: --predict_only
    assert cells(main_table(collect([write(tmp_path / "b", {POPE: rows})])), "awares")["POPE score"] == "-"


BAD = {
    "no folder": (["/nowhere"], "/nowhere is no folder"),
    "no results": (["{empty}"], "holds no results"),
    "twice": (["{low}", "{low}"], "low is given twice"),
    "twice, as a file": (["{low}", "{low}/1_results.json"], "low/1_results.json is given twice"),
    "no text": (["{bytes}"], "bytes/1_results.json is not UTF-8"),
    "no model": (["{modelless}"], "modelless/1_results.json does not say which model"),
    "another schema": (["{newer}"], "newer/1_samples_awares_pope.jsonl line 2: trace schema version 99"),
    "other tasks": (["{low}", "{stranger}"], "shares no task with"),
    "no run": ([], None),
    "hard without low-res": (["{aware}", "--table", "hard"], "needs a low-res run"),
    "cdp without labels": (["{aware}", "--table", "cdp"], "need --labels"),
    "labels that the table takes none of": (
        ["{aware}", "--labels", "x"],
        "--labels and --data have no effect on --table",
    ),
    "data that the table takes none of": (["{aware}", "--data", "x"], "--labels and --data have no effect on --table"),
    "data beside a file of labels": (
        ["{aware}", "--table", "cdp", "--labels", "x", "--data", "y"],
        "--data goes with --labels mini",
    ),
    "no such column": (
        ["{aware}", "--columns", "average,speed"],
        "--columns: no column 'speed'; there are RTR, average, ChartQA, POPE; nominal, score, RTR, latency s, F1",
    ),
    "an ablation to transpose": (["--group", "{runs}", "--transpose"], "--transpose and --group exclude each other"),
    "labels missing": (["{aware}", "--table", "cdp", "--labels", "none.jsonl"], "none.jsonl is no file"),
    "group without run": (["--group", "{group}"], "needs a column 'run'"),
    "group missing": (["--group", "none.csv"], "none.csv is no CSV file"),
    "unwritable": (["{aware}", "-o", "/proc/nope"], "cannot be written"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(name, pair, tmp_path, monkeypatch, capsys):
    arguments, words = BAD[name]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "stranger", {"awares_ocrbench": [sample()]}, model="visionzip")
    (tmp_path / "group").write_text("folder,x\na,1\n")
    (tmp_path / "runs").write_text(f"run,x\n{pair[1]},1\n")
    (write(tmp_path / "bytes", {POPE: [sample()]}) / "1_results.json").write_bytes(b"\xff\xfe")
    results = write(tmp_path / "modelless", {POPE: [sample()]}) / "1_results.json"
    results.write_text(results.read_text().replace('"model":', '"name":'))
    write(tmp_path / "newer", {POPE: [sample(), sample(schema_version=99)]})
    code, err = exit_of(monkeypatch, capsys, "compare", *(part.format_map(Places(tmp_path)) for part in arguments))
    assert code == 2
    if words is not None:
        assert words in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["compare", "plot"])
def test_reasons_are_said_where_no_run_is_left(command, tmp_path, monkeypatch, capsys):
    options = ["-o", tmp_path / "out"] if command == "plot" else []
    code, err = exit_of(monkeypatch, capsys, command, "/nowhere", tmp_path, "--keep-going", *options)
    assert code == 2
    first, second, last = err.splitlines()
    assert "/nowhere is no folder" in first
    assert f"{tmp_path} holds no results" in second
    assert last == "awares: error: no run is left to show"


class Places(dict):
    """`{name}` in an argument is a path below the test's folder."""

    def __init__(self, root):
        super().__init__()
        self.root = root

    def __missing__(self, name):
        return self.root / name


def test_stranger_is_left_out_with_keep_going(pair, tmp_path, monkeypatch, capsys):
    write(tmp_path / "stranger", {"awares_ocrbench": [sample()]}, model="visionzip")
    out = tmp_path / "out"
    code, err = exit_of(monkeypatch, capsys, "compare", pair[0], tmp_path / "stranger", "--keep-going", "-o", out)
    assert code == 2
    assert "shares no task" in err
    assert pd.read_csv(out / "table.csv")["method"].unique().tolist() == ["qwen2_5_vl_lowres"]


@pytest.mark.parametrize("command", ["compare", "diagnose", "plot", "report", "regress"])
def test_rows_that_are_missing_at_the_end(command, tmp_path, monkeypatch, capsys):
    """Truncated between two lines: only the count in the results file tells."""
    folder = write(tmp_path / "run", {POPE: [sample(), sample(0.0), sample()]})
    results = json.loads((folder / "1_results.json").read_text())
    results["n-samples"] = {POPE: {"original": 9, "effective": 3}}
    (folder / "1_results.json").write_text(json.dumps(results))
    arguments = [folder, *(["-o", tmp_path / "out"] if command in {"plot", "report"} else [])]
    if command == "regress":
        arguments = ["--baseline", folder, "--candidate", folder]
    assert exit_of(monkeypatch, capsys, command, *arguments)[0] == 0
    file = folder / f"1_samples_{POPE}.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    monkeypatch.setattr("sys.argv", ["awares", command, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert f"{file} holds 2 of 3 rows; is it truncated?" in printed.out + printed.err


def test_rows_of_a_run_that_began_later(tmp_path):
    """lmms-eval's count leaves --offset out."""
    folder = write(tmp_path / "run", {POPE: [sample(), sample()]}, offset=3)
    results = json.loads((folder / "1_results.json").read_text())
    results["n-samples"] = {POPE: {"original": 5, "effective": 4}}
    (folder / "1_results.json").write_text(json.dumps(results))
    assert len(newest_run(folder).frame(POPE)) == 2


def test_both_ways_of_reading_agree(tmp_path):
    """Columns at once, and line by line."""
    rows = [
        sample(),
        sample(0.5, rtr=0.5, ids=["0", "5"], status="recovered"),
        failed(),
        sample(1, ids=[], status="invalid"),
    ]
    rows += [{"score": 0.25, "token_counts": [{"input_tokens": 3}]}, {"score": 1.0, "token_counts": [None]}]
    file = write(tmp_path / "a", {POPE: rows}) / f"1_samples_{POPE}.jsonl"
    quick = samples.read_samples(file, scored=True, model_args={})
    schema = pa.schema(samples._ROW | {"score": pa.float64()})
    slow = samples._flatten(samples._line_by_line(file, schema), {})
    pd.testing.assert_frame_equal(quick, slow)
    assert quick["ids"].fillna("").tolist() == ["", "0,5", "", "", "", ""]
    assert quick["new_tokens"].tolist() == [2, 4, 0, 4, 0, 0]
    assert quick["called"].tolist() == [False, True, False, False, False, False]


def test_summary_against_plain_python(tmp_path):
    """Random rows; the means computed by a loop over the file's lines."""
    generator = np.random.default_rng(3)
    rows = [
        failed()
        if generator.random() < 0.1
        else sample(
            float(generator.random()),
            rtr=float(generator.integers(1, 100)) / 100,
            ids=[str(generator.integers(9))] if generator.random() < 0.4 else None,
            status=str(generator.choice(["valid", "recovered", "invalid"])),
            latency=float(generator.random()),
        )
        for _ in range(300)
    ]
    run = newest_run(write(tmp_path / "a", {POPE: rows}))
    (row,) = summarize(run).to_dict("records")
    good = [line for line, _ in run.samples(POPE) if line["awares"].get("failed") is None]
    traces = [line["awares"] for line in good]
    calls = [call for call in (t["tool_call"] for t in traces) if call and call["status"] != "invalid"]
    assert row["score"] == pytest.approx(100 * sum(line["score"] for line in good) / len(good))
    assert row["rtr"] == pytest.approx(sum(t["rtr"] for t in traces) / len(good))
    assert row["rtr_pooled"] == pytest.approx(sum(t["visual_tokens"] for t in traces) / (100 * len(good)))
    assert row["call_rate"] == pytest.approx(len(calls) / len(good))
    assert row["area"] == pytest.approx(sum(0.5 if int(c["ids"][0]) > 4 else 0.25 for c in calls) / len(calls))
    assert row["latency_s"] == pytest.approx(sum(t["latency_s"] for t in traces) / len(good))
    assert (row["n"], row["failed"]) == (300, 300 - len(good))
