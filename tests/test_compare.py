"""`awares compare`: the tables, their formats, and what is said about them."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from report_runs import CHART, POPE, awares, cells, failed, pope, sample, write
from scipy import stats
from test_report import ROWS, answered, trace, write_run

from lmms_awares.report.read.benchmarks import in_order
from lmms_awares.report.read.folders import find_runs, newest_run
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.read.summary import summarize
from lmms_awares.report.tables import calls, per_benchmark, render
from lmms_awares.report.tables.intervals import interval
from lmms_awares.report.tables.main import long_table, main_table
from lmms_awares.report.tables.table import Table, frame_of

LONG = ["method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n"]


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


def test_where_the_latency_goes_by_hand(tmp_path):
    """Sums over turns, means over samples, means over benchmarks; a part that one turn does not say is unknown."""

    def turn(tokens, vision, prefill, decode, **fields):
        times = {"vision_s": vision, "prefill_s": prefill, "decode_s": decode}
        return {"text": "x", "new_tokens": tokens, "seconds": 9.0, **times, **fields}

    direct = sample(1.0, latency=4.0, preprocess_s=0.5, turns=[turn(5, 1.0, 2.0, 1.0)])
    called = [turn(3, 1.0, 1.0, 0.5), turn(2, 2.0, 0.0, 0.5, preprocess_s=0.25)]
    called = sample(1.0, ids=["0"], latency=8.0, preprocess_s=0.25, turns=called)
    quick = sample(1.0, latency=1.0, preprocess_s=0.5, turns=[turn(1, 0.5, 0.5, 0.0)])
    run = write(tmp_path / "told", {CHART: [direct, called], POPE: [quick, failed()]})
    row = cells(per_benchmark.latency_table(collect([run])), "awares")
    parts = {name.removeprefix("of the average "): text for name, text in row.items() if "of the average" in name}
    assert parts == {
        "preprocess s": "0.500",  # ((0.5 + 0.5) / 2 + 0.5) / 2
        "vision s": "1.250",  # ((1 + 3) / 2 + 0.5) / 2
        "prefill s": "1.000",  # ((2 + 1) / 2 + 0.5) / 2
        "decode s": "0.500",  # ((1 + 1) / 2 + 0) / 2
        "tokens/s": "3.5",  # (4 + 2 + 1 + 0) tokens behind the first ones in 2 s
    }
    assert row["average latency s"] == "3.500"
    direct["awares"]["turns"][0]["vision_s"] = None
    called["awares"]["turns"][1]["preprocess_s"] = None  # as before schema 4: only the first turn's is known
    run = write(tmp_path / "silent", {CHART: [direct, called], POPE: [quick]})
    row = cells(per_benchmark.latency_table(collect([run])), "awares")
    silent = [row[f"of the average {part} s"] for part in ("preprocess", "vision", "prefill", "decode")]
    assert silent == ["-", "-", "1.000", "0.500"]


def test_latency_length_calls_and_form_by_hand(pair):
    lineup = collect(pair)
    assert cells(per_benchmark.latency_table(lineup), "awares")["ChartQA latency s"] == "3.000"
    assert cells(per_benchmark.latency_table(lineup), "awares")["of the average decode s"] == "-"  # nobody says it
    row = cells(per_benchmark.length_table(lineup), "ChartQA", "benchmark")
    assert row["awares chars"] == "4.0 ± 0.0"
    assert row["awares tokens"] == "3.3 ± 1.2"  # two calls of two turns, one answer of one, 2 tokens each
    assert row["qwen2_5_vl_lowres ratio"] == "1.00"  # 4 characters to 4
    row = cells(calls.calls_table(lineup), "awares")
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
    row = cells(calls.format_table(collect([write(tmp_path / "a", {POPE: rows})])), "awares")
    assert row == {
        "calls": "4",
        "valid": "50.00",
        "corrupt outputs total": "50.00",
        "corrupt outputs recoverable": "25.00",
        "corrupt outputs incorrect": "25.00",
    }


def test_hard_split_by_hand(pair, tmp_path):
    """ChartQA documents 0 and 2, POPE document 1, which awares failed to answer."""
    table = per_benchmark.hard_table(collect(pair))
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
    table = per_benchmark.hard_table(collect([*halves, pair[1]]))
    row = cells(table, "awares")
    assert (row["ChartQA score"], row["POPE score"]) == ("50.00", "100.00")
    assert table.notes == ["hard samples, where qwen2_5_vl_lowres scores below 0.5: ChartQA 2 of 3, POPE 1 of 2"]


LOWRES = {
    "baseline": ({"method": "other_lowres", "policy": None, "nominal": 0.25}, "other_lowres"),
    "control": ({"method": "awares:never", "policy": "never", "nominal": None}, "awares:never"),
    "pruned control": ({"method": "awares:never+holov@0.7", "policy": "never", "nominal": 0.7}, None),
    "may call": ({"method": "visionthink", "policy": None, "nominal": None}, None),
    "full view": ({"method": "holov@0.25", "policy": None, "nominal": 0.25, "view": "full"}, None),
}


@pytest.mark.parametrize(("fields", "reference"), LOWRES.values(), ids=LOWRES)
def test_the_hard_split_needs_a_run_of_the_lowres_view_alone(tmp_path, fields, reference):
    """By what its traces say, whatever the model is called."""
    said = {"schema_version": 3, "view": "lowres"} | fields
    run = write(tmp_path / "low", {POPE: [sample(0.0, **said), sample(1.0, **said)]}, model="other")
    lineup = collect([run])
    if reference is None:
        with pytest.raises(RunError, match="needs a low-res run"):
            per_benchmark.hard_table(lineup)
    else:
        assert f"where {reference} scores below 0.5: POPE 1 of 2" in per_benchmark.hard_table(lineup).notes[0]


def test_family_and_engine_are_told_where_they_are_not_the_usual_ones(tmp_path):
    said = {"schema_version": 3, "method": "a", "view": "lowres"}
    one = write(tmp_path / "one", {POPE: [sample(**said)]}, conditions={"family": "qwen3_vl", "engine": "server"})
    other = [sample(**said | {"method": "b"})]
    two = write(tmp_path / "two", {POPE: other}, conditions={"family": "qwen2_5_vl", "engine": "local"})
    assert "family qwen3_vl, engine server" in awares("compare", one).stdout
    shown = awares("compare", one, two).stdout
    assert not any(word in awares("compare", two).stdout for word in ("family", "engine"))
    assert "family: qwen3_vl (a); qwen2_5_vl (b)" in shown
    assert "warning: rows differ in engine, so scores and RTR do not compare: server (a); local (b)" in shown


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
    assert "warning: prompt differs within awares, whose averages do not compare: own and other (POPE)" in shown
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


@pytest.mark.parametrize("kind", ["main", "latency", "length", "cost", "calls", "format", "hard"])
@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json", "latex", "html"])
def test_every_table_in_every_format(kind, form, pair):
    shown = awares("compare", *pair, "--table", kind, "--format", form).stdout
    begins = {"terminal": "-----", "markdown": "|:--", "csv": ",", "json": '"rows": [', "html": "<table"}
    assert begins.get(form, r"\toprule") in shown
    assert ("Qwen2.5-VL (low-res)" if form == "latex" else "qwen2_5_vl_lowres") in shown
    if form == "csv":
        widths = {len(row) for row in csv.reader(shown.splitlines())}
        assert len(widths) == 1


LATEX_TABLES = (
    *(["compare", "--table", kind] for kind in ("main", "latency", "length", "cost", "calls", "format", "hard")),
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
    body = [line.replace(r"\ifdim\width>\linewidth", "") for line in body]
    assert not re.search(r"(?<!\\)[&%_#]", caption)
    text = re.sub(r"\$[^$]*\$", "", "\n".join(body))
    assert not re.search(r"(?<!\\)[%_#<>$±]", text)
    widths = {len(re.split(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\") and "multicolumn" not in line}
    assert len(widths) <= sum(r"\begin{tabular}" in line for line in body)


def test_latex_escapes_what_a_folder_is_called():
    frame = frame_of([{("", "a_b"): "50% & #1 ~ \\x {y} ^ $", ("IoU", "IoU>=0.25"): "1 ± 2"}])
    shown = render.latex(Table("100% of a_b & c", frame, []))
    assert r"\caption[{100\% of a\_b \& c}]{100\% of a\_b \& c. " in shown
    assert r"a\_b & IoU$\ge$0.25" in shown
    assert r"50\% \& \#1 \textasciitilde{} \textbackslash{}x \{y\} \textasciicircum{} \$ & 1 $\pm$ 2" in shown


def test_written_files_hold_the_printed_cells(pair, tmp_path):
    shown = awares("compare", *pair, "-o", tmp_path / "out", "--format", "markdown").stdout
    assert (tmp_path / "out" / "table.md").read_text() == shown
    for name in ("table.tex", "table.html", "table.json", "table_wide.csv"):
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


def test_order_of_benchmarks():
    tasks = ["mmmu_val", "awares_graded_chartqa", "awares_mini_pope", "awares_pope", "awares_chartqa"]
    tasks.append("awares_mini_chartqa")
    ordered = ["awares_chartqa", "awares_pope", "awares_mini_chartqa", "awares_mini_pope", "awares_graded_chartqa"]
    assert in_order(tasks) == [*ordered, "mmmu_val"]


def test_graded_tasks_stand_beside_the_mini_ones(tmp_path):
    tasks = ["awares_graded_pope", "awares_mini_pope"]
    run = write(tmp_path / "run", {task: [sample()] for task in tasks})
    shown = awares("compare", run, "--paper").stdout
    assert shown.index("POPE (mini)") < shown.index("POPE (graded)")
    assert "(mini): synthetic" in shown and "(graded): synthetic suite with faint print" in shown
    assert "[paper]" not in shown
    alone = awares("compare", write(tmp_path / "one", {tasks[0]: [sample()]})).stdout
    assert "(graded): " in alone and "(mini): " not in alone
    summary = collect([run]).summary
    assert set(long_table(summary)["benchmark"]) == {"mini_pope", "graded_pope"}
    assert set(long_table(summary[summary["task"] == tasks[0]])["benchmark"]) == {"pope"}


def test_a_results_file_is_a_run_too(pair):
    (run,) = find_runs(pair[0])
    assert awares("compare", run.path).stdout.splitlines()[-1] == awares("compare", pair[0]).stdout.splitlines()[-1]


def test_light_imports():
    """No torch or lmms-eval behind a table or figure; nothing heavy at all behind the help, which is quick."""
    code = "import sys, lmms_awares.report.tables.comparison, lmms_awares.report.figures.plots; print(*sys.modules)"
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
