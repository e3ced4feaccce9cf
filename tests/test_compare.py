"""`awares compare`: the tables, their formats, what is said about them, and bad input."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from report_runs import awares, exit_of, failed, pope, sample, write
from scipy import stats
from test_report import ROWS, answered, trace, write_run

from lmms_awares.cli import main
from lmms_awares.report import kinds, render, samples, tables
from lmms_awares.report.collect import collect, in_order
from lmms_awares.report.intervals import interval
from lmms_awares.report.runs import find_runs, newest_run, summarize
from lmms_awares.report.tables import main_table

LONG = ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n"]
POPE, CHART = "awares_pope", "awares_chartqa"


def set_model_args(folder, text, model):
    file = next(folder.glob("*_results.json"))
    results = json.loads(file.read_text())
    results["config"] |= {"model": model, "model_args": text}
    file.write_text(json.dumps(results))


def pruned(tokens, score):
    row = answered(tokens, 100, score)
    row["awares"] |= {"model": "visionzip", "policy": None}
    return row


def test_long_table_by_hand(tmp_path):
    """The contract: columns, scale, method names; worked out by hand from the rows."""
    write_run(tmp_path / "a", ROWS)
    write_run(tmp_path / "mini", [answered(30, 100, 0.5, latency=4.0)], task="awares_mini_pope")
    zipped = write_run(tmp_path / "zip", [pruned(52, 1.0), pruned(48, 0.0)])
    set_model_args(zipped, "pretrained=x,retain_ratio=0.5", "visionzip")
    never = write_run(
        tmp_path / "never", [{"score": 1.0, "awares": trace(policy="never", rtr=0.25, full_tokens=4, latency_s=0.0)}]
    )
    result = awares("compare", zipped, never, tmp_path / "mini", tmp_path / "a", "-o", tmp_path / "out")
    assert result.exit_code == 0
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == LONG
    assert [(row["method"], row["benchmark"], row["nominal"]) for row in rows] == [
        ("visionzip@0.5", "pope", "0.5"),
        ("awares:never", "pope", ""),
        ("awares", "mini_pope", ""),
        ("awares", "pope", ""),
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([50, 100, 50, 200 / 3])
    assert [float(row["rtr"]) for row in rows] == pytest.approx([0.5, 0.25, 0.3, 0.5])
    assert [float(row["call_rate"]) for row in rows] == pytest.approx([0, 0, 0, 1 / 3])
    assert [float(row["latency_s"]) for row in rows] == [1, 0, 4, 2]
    assert [row["n"] for row in rows] == ["2", "1", "1", "3"]  # the failed sample of the last run is in no mean


def cells(table, row, heading="method"):
    """One row of a table, by headings."""
    frame = table.frame.set_index(("", heading))
    return {" ".join(column).strip(): text for column, text in frame.loc[row].items()}


@pytest.fixture
def pair(tmp_path):
    """Two runs over two benchmarks; the second also fails once."""
    lowres = {CHART: [sample(0.0), sample(1.0), sample(0.4)], POPE: [pope("yes", "yes"), pope("yes", "no")]}
    aware = {
        CHART: [sample(1.0, rtr=0.5, ids=["0"], latency=3), sample(1.0), sample(0.0, rtr=0.75, ids=["5"], latency=5)],
        POPE: [pope("yes", "yes"), failed()],
    }
    for row in [row for rows in lowres.values() for row in rows]:
        row["awares"] |= {"model": "qwen2_5_vl_lowres", "policy": None, "prompt": "default"}
    return (
        write(tmp_path / "low", lowres, model="qwen2_5_vl_lowres"),
        write(tmp_path / "aware", aware),
    )


def test_main_table_by_hand(pair):
    table = main_table(collect(pair))
    row = cells(table, "awares")
    assert row == {
        "RTR nominal": "-",
        "ChartQA score": "66.67",
        "ChartQA RTR": "0.500",
        "POPE score": "100.00",
        "POPE F1": "100.00",
        "POPE RTR": "0.250",
        "average score": "83.33",
        "average RTR": "0.375",
        "average latency s": "2.000",  # (3 + 1 + 5) / 3 and 1
    }
    assert cells(table, "qwen2_5_vl_lowres")["RTR nominal"] == "0.25"


def test_pope_f1_by_hand(tmp_path):
    """Answers that are neither yes nor no: a miss where yes is right, no false alarm where no is.

    Said yes: 2 of the 4 yes-documents and 1 of the 4 no-documents, so F1 = 2 * 2 / (4 + 3).
    """
    said = [("yes", "yes"), ("yes", "yes"), ("yes", "no"), ("yes", "a cat"), ("no", "no"), ("no", "yes"), ("no", "?")]
    run = newest_run(write(tmp_path / "run", {POPE: [*(pope(*pair) for pair in said), pope("no", ""), failed()]}))
    (row,) = summarize(run).to_dict("records")
    assert row["score"] == pytest.approx(100 * 3 / 8)
    assert row["f1"] == pytest.approx(100 * 4 / 7)
    never = newest_run(write(tmp_path / "never", {POPE: [pope("no", "no"), pope("yes", "?")]}))
    assert summarize(never)["f1"].tolist() == [0]


def test_row_without_a_benchmark_has_no_average(pair, tmp_path):
    alone = write(tmp_path / "alone", {POPE: [sample(1.0)]}, model_args="policy=never")
    row = cells(main_table(collect([*pair, alone])), f"awares ({alone})")
    assert (row["POPE score"], row["ChartQA score"], row["average score"]) == ("100.00", "-", "-")


def test_runs_of_one_method_over_other_tasks_share_a_row(tmp_path):
    runs = [write(tmp_path / task, {task: [sample(1.0)]}) for task in (POPE, CHART)]
    both = write(tmp_path / "both", {POPE: [sample(0.0)], CHART: [sample(0.0)]}, model_args="x=1")
    frame = main_table(collect(runs)).frame
    assert frame["", "method"].tolist() == ["awares"]
    assert frame["average", "score"].tolist() == ["100.00"]
    assert len(main_table(collect([*runs, both])).frame) == 3  # the same method twice: told apart by folder


def test_latency_length_calls_and_form_by_hand(pair):
    sources = collect(pair)
    assert cells(kinds.latency_table(sources), "awares")["ChartQA latency s"] == "3.000"
    row = cells(kinds.length_table(sources), "ChartQA", "benchmark")
    assert row["awares chars"] == "4.0 ± 0.0"
    assert row["awares tokens"] == "3.3"  # two calls of two turns, one answer of one, 2 tokens each
    assert row["ratio"] == "1.0"
    row = cells(kinds.calls_table(sources), "awares")
    assert row == {
        "average score": "83.33",
        "average RTR": "0.375",
        "average call rate": "0.333",
        "area": "0.375",  # a quadrant and a half
    }


def test_form_of_calls_by_hand(tmp_path):
    """Forced calls are nobody's handwriting and do not count."""
    rows = [sample(ids=["0"], status=status) for status in ("valid", "valid", "recovered", "invalid")]
    rows += [sample(ids=["0"], forced=True), sample()]
    row = cells(kinds.format_table(collect([write(tmp_path / "a", {POPE: rows})])), "awares")
    assert row == {
        "calls": "4",
        "valid": "50.00",
        "corrupt outputs total": "50.00",
        "corrupt outputs recoverable": "25.00",
        "corrupt outputs incorrect": "25.00",
    }


def test_hard_split_by_hand(pair, tmp_path):
    """ChartQA documents 0 and 2, POPE document 1, which awares failed to answer."""
    table = kinds.hard_table(collect(pair))
    row = cells(table, "awares")
    assert (row["ChartQA score"], row["ChartQA RTR"], row["POPE score"]) == ("50.00", "0.625", "-")
    assert cells(table, "qwen2_5_vl_lowres")["ChartQA score"] == "20.00"  # the mean of 0 and 0.4
    assert "ChartQA 2 of 3, POPE 1 of 2" in table.notes[0]


def test_hard_split_of_a_run_per_benchmark(pair, tmp_path):
    """The low-res row is made of two runs: both benchmarks have their hard samples."""
    alone = {CHART: [sample(0.0), sample(1.0), sample(0.4)]}, {POPE: [pope("yes", "no"), pope("yes", "yes")]}
    halves = []
    for index, tasks in enumerate(alone):
        for row in next(iter(tasks.values())):
            row["awares"] |= {"model": "qwen2_5_vl_lowres", "policy": None}
        halves.append(write(tmp_path / str(index), tasks, model="qwen2_5_vl_lowres"))
    table = kinds.hard_table(collect([*halves, pair[1]]))
    row = cells(table, "awares")
    assert (row["ChartQA score"], row["POPE score"]) == ("50.00", "100.00")
    assert table.notes == ["hard samples, where qwen2_5_vl_lowres scores below 0.5: ChartQA 2 of 3, POPE 1 of 2"]


def test_interval_against_independent_computation():
    """A plain resampling loop and the normal approximation."""
    generator = np.random.default_rng(7)
    scores = 100.0 * (generator.random(2500) < 0.8)
    low, high = interval([scores])
    drawn = generator.choice(scores, (2000, len(scores))).mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.15)
    normal = stats.norm.interval(0.95, scores.mean(), scores.std() / np.sqrt(len(scores)))
    assert (low, high) == pytest.approx(normal, abs=0.15)
    small = 100.0 * (generator.random(100) < 0.5)
    wide = stats.norm.interval(
        0.95, (scores.mean() + small.mean()) / 2, np.hypot(scores.std() / 50, small.std() / 10) / 2
    )
    assert interval([scores, small]) == pytest.approx(wide, abs=0.4)
    assert interval([scores]) == (low, high)
    assert interval([np.full(5, 40.0)]) == (40, 40)
    assert interval([np.array([1.0])]) is None


def test_intervals_on_request(pair):
    shown = awares("compare", *pair, "--ci").stdout
    assert "66.67 [0.00, 100.00]" in shown
    assert "95 % bootstrap interval" in shown
    assert "[" not in awares("compare", *pair).stdout


def test_conditions_are_said_and_differences_warned_of(pair, tmp_path):
    shown = awares("compare", *pair).stdout
    assert "same in all rows: revision x, dtype x" in shown
    assert "prompt: default (qwen2_5_vl_lowres); own (awares)" in shown
    assert "warning: rows differ" not in shown
    assert "1 of 2 samples of awares_pope failed" in shown
    other = write(
        tmp_path / "other",
        {CHART: [sample()] * 3, POPE: [sample()]},
        conditions={"dtype": "float16", "max_pixels": 12845056, "device": "gpu", "revision": "y"},
        limit=1.0,
    )
    shown = awares("compare", pair[1], other).stdout
    for words in (
        "warning: rows differ in dtype, so scores and RTR do not compare: x (awares (",
        "warning: rows differ in max_pixels, so scores and RTR do not compare: 2 (",
        "12845056 (awares (",
        "warning: rows differ in device, so latency does not compare",
        "warning: rows differ in revision",
        "warning: rows differ in limit",
        f"warning: rows differ in the documents of awares_pope, so they do not compare: awares ({pair[1]}) 2",
    ):
        assert words in shown, words


def test_mixed_conditions_within_a_run_are_warned_of(tmp_path):
    rows = [sample(), sample()]
    rows[1]["awares"] |= {"prompt": "other", "batch_size": 8}
    shown = awares("compare", write(tmp_path / "a", {POPE: rows})).stdout
    assert "warning: prompt changed within: own and other (awares)" in shown
    assert "batch_size 8" in shown  # a task's last batch is smaller, which is no change


def test_paper_rows_beside_own_ones(pair, tmp_path):
    lines = awares("compare", *pair, "--paper", "--format", "csv").stdout.splitlines()
    own, published = (next(csv.DictReader([lines[0], line])) for line in (lines[2], lines[12]))
    assert (own["method"], own["ChartQA score"]) == ("awares", "66.67")
    assert (published["method"], published["ChartQA score"], published["POPE RTR"]) == (
        "AwaRes [paper]",
        "80.64",
        "0.27",
    )
    assert published["average score"] == "-"  # of six benchmarks, not of these two
    mini = write(tmp_path / "mini", {"awares_mini_pope": [sample()]})
    shown = awares("compare", mini, "--paper").stdout
    assert "POPE (mini)" in shown
    assert "a demonstration, not a result" in shown
    assert shown.index("Paper, Table 1") > shown.index("awares")
    assert "[paper]" not in shown  # not among the rows


@pytest.mark.parametrize("kind", ["main", "latency", "length", "calls", "format", "hard"])
@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "latex", "html"])
def test_every_table_in_every_format(kind, form, pair):
    shown = awares("compare", *pair, "--table", kind, "--format", form).stdout
    assert {"terminal": "-----", "markdown": "|:--", "csv": ",", "latex": r"\toprule", "html": "<table"}[form] in shown
    assert ("qwen2\\_5\\_vl\\_lowres" if form == "latex" else "qwen2_5_vl_lowres") in shown
    if form == "csv":
        widths = {len(row) for row in csv.reader(shown.splitlines())}
        assert len(widths) == 1


LATEX_TABLES = (
    *(["compare", "--table", kind] for kind in ("main", "latency", "length", "calls", "format", "hard")),
    *(["compare", "--table", kind, "--labels"] for kind in ("cdp", "split")),
    ["diagnose", "--labels"],
)


@pytest.mark.parametrize("arguments", LATEX_TABLES, ids=" ".join)
def test_nothing_in_latex_is_left_unescaped(arguments, pair, tmp_path):
    """No comment inside the table, no subscript, no alignment in a caption, no Spanish question marks."""
    labels = tmp_path / "labels.jsonl"
    label = {"task": CHART, "doc_id": 0, "label": "HR", "targets": ["0"]}
    labels.write_text("".join(json.dumps(label | {"doc_id": i}) + "\n" for i in range(3)))
    command, *options = arguments + ([labels] if "--labels" in arguments else [])
    runs = pair if command == "compare" else pair[1:]
    shown = awares(command, *runs, *options, "--format", "latex").stdout
    body = [line for line in shown.splitlines() if not line.startswith("%")]
    caption = next(line for line in body if r"\caption" in line)
    assert not re.search(r"(?<!\\)[&%_#]", caption)
    text = re.sub(r"\$[^$]*\$", "", "\n".join(body))
    assert not re.search(r"(?<!\\)[%_#<>$±]", text)
    widths = {len(re.split(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\") and "multicolumn" not in line}
    assert len(widths) <= (1 if command == "compare" else 3)  # diagnose prints several tables


def test_latex_escapes_what_a_folder_is_called():
    frame = tables.frame_of([{("", "a_b"): "50% & #1 ~ \\x {y} ^ $", ("IoU", "IoU>=0.25"): "1 ± 2"}])
    shown = render.latex(tables.Table("100% of a_b & c", frame, []))
    assert r"\caption{100\% of a\_b \& c}" in shown
    assert r"a\_b & IoU$\ge$0.25" in shown
    assert r"50\% \& \#1 \textasciitilde{} \textbackslash{}x \{y\} \textasciicircum{} \$ & 1 $\pm$ 2" in shown


def test_written_files_hold_the_printed_cells(pair, tmp_path):
    shown = awares("compare", *pair, "-o", tmp_path / "out", "--format", "markdown").stdout
    assert (tmp_path / "out" / "table.md").read_text() == shown
    for name in ("table.tex", "table.html", "table_wide.csv"):
        assert "66.67" in (tmp_path / "out" / name).read_text()


def test_ablation_layout(pair, tmp_path):
    file = tmp_path / "ablation.csv"
    file.write_text(f"run,block,traj,w\n{pair[1]},trained,v,5\n{pair[0]},baseline,x,-\n")
    lines = awares("compare", "--group", file, "--table", "calls", "--format", "csv").stdout.splitlines()
    rows = list(csv.reader(lines))
    assert rows[0][:4] == ["traj", "w", "method", "average score"]
    assert [row[:3] for row in rows[1:]] == [
        ["trained", "", ""],
        ["v", "5", "awares"],
        ["baseline", "", ""],
        ["x", "-", "qwen2_5_vl_lowres"],
    ]


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
    "labels missing": (["{aware}", "--table", "cdp", "--labels", "none.jsonl"], "none.jsonl is no file"),
    "no paper table": (["--paper-only", "--table", "hard"], "no table of the kind hard"),
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
    quick = samples.read_samples(file, scored=True)
    schema = pa.schema(samples._ROW | {"score": pa.float64()})
    slow = samples._flatten(samples._line_by_line(file, schema))
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


def test_order_of_benchmarks():
    tasks = ["mmmu_val", "awares_mini_pope", "awares_pope", "awares_chartqa", "awares_mini_chartqa"]
    ordered = ["awares_chartqa", "awares_pope", "awares_mini_chartqa", "awares_mini_pope", "mmmu_val"]
    assert in_order(tasks) == ordered


def test_a_results_file_is_a_run_too(pair):
    (run,) = find_runs(pair[0])
    assert awares("compare", run.path).stdout.splitlines()[-1] == awares("compare", pair[0]).stdout.splitlines()[-1]


def test_light_imports():
    """No torch or lmms-eval behind a table or figure; nothing heavy at all behind the help, which is quick."""
    code = "import sys, lmms_awares.report.compare, lmms_awares.report.plots; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "lmms_eval", "datasets"} & set(loaded)
    seconds = []
    for _ in range(3):  # seconds of CPU: another test may hold the core
        before = os.times()
        command = [Path(sys.executable).parent / "awares", "compare", "--help"]
        subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.5
    code = "import sys, lmms_awares.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "pyarrow", "matplotlib", "scipy", "pydantic"} & set(loaded)
