"""What a number belongs to: rows whose documents or conditions differ are not averaged or compared without a word."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from report_runs import CHART, POPE, awares, cells, exit_of, failed, sample, write

from lmms_awares.report.gate.baseline import SCHEMA_VERSION, load, save
from lmms_awares.report.read.content import changed, same_documents
from lmms_awares.report.read.folders import newest_run
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.summary import summarize
from lmms_awares.report.tables import per_benchmark
from lmms_awares.report.tables.main import main_table
from lmms_awares.report.tables.run_summary import print_summary

ROOT = Path(__file__).parents[1]
DIGESTS = ("a" * 16, "b" * 16, "c" * 16)


def rows(score=1.0, *, model="awares", digests=DIGESTS, target="yes", **fields):
    """Three documents with digests of their images."""
    made = [sample(score, schema_version=2, image_digest=digest, **fields) | {"target": target} for digest in digests]
    for row in made:
        row["awares"] |= {"model": model} | ({} if model == "awares" else {"policy": None})
    return made


def other(kind):
    """The same document numbers with something else in the second document."""
    made = rows(0.0, model="visionzip", digests=("a" * 16, "x" * 16, "c" * 16) if kind == "image" else DIGESTS)
    made[1] |= {"question": {"input": "another question?"}, "target": {"target": "no"}}.get(kind, {})
    return made


def frames(*folders):
    return {source.name: source.frames[POPE] for source in collect(folders).sources}


# --- documents


@pytest.mark.parametrize("kind", ["question", "target", "image"])
def test_other_documents_under_the_same_numbers_are_warned_of(kind, tmp_path):
    runs = [
        write(tmp_path / "a", {POPE: rows(), CHART: rows()}),
        write(
            tmp_path / "b",
            {POPE: rows(model="qwen2_5_vl_full"), CHART: rows(model="qwen2_5_vl_full")},
            model="qwen2_5_vl_full",
        ),
        write(tmp_path / "c", {POPE: other(kind), CHART: rows(0.0, model="visionzip")}, model="visionzip"),
    ]
    warning = (
        f"warning: rows differ in the documents of {POPE}, so they do not compare: "
        "awares 3, qwen2_5_vl_full 3, visionzip 3; "
        "visionzip: 1 (document 1) with another question, target or image than awares"
    )
    shown = awares("compare", *runs).stdout
    assert warning in shown
    assert f"documents of {CHART}" not in shown
    table = main_table(collect(runs))
    averages = [cells(table, method)["average score"] for method in ("awares", "qwen2_5_vl_full", "visionzip")]
    assert averages == ["100.00", "100.00", "0.00*"]
    assert table.notes == ["*: an average over what does not compare; the warnings say why"]
    for kind_of_table in ("latency", "calls"):
        shown = awares("compare", *runs, "--table", kind_of_table, "--format", "csv").stdout.splitlines()
        assert [line.count("*") > 0 for line in shown[1:]] == [False, False, True]


def test_of_two_rows_neither_is_the_right_one(tmp_path):
    runs = [write(tmp_path / "a", {POPE: rows()}), write(tmp_path / "b", {POPE: other("target")}, model="visionzip")]
    assert main_table(collect(runs)).frame["average", "RTR"].tolist() == ["0.250*", "0.250*"]


def test_equal_documents_from_another_place_are_no_difference(tmp_path):
    """The path says nothing where the content is known; without digests it is all that is known."""
    runs = [
        write(tmp_path / "a", {POPE: rows()}, data=tmp_path / "here"),
        write(tmp_path / "b", {POPE: rows(model="visionzip")}, model="visionzip", data=tmp_path / "there"),
    ]
    assert "warning" not in awares("compare", *runs).stdout
    old = write(tmp_path / "c", {POPE: [sample() | {"target": "yes"}] * 3}, model="x", data=tmp_path / "third")
    assert f"warning: rows differ in the data of {POPE}" in awares("compare", runs[1], old).stdout


def test_older_traces_are_compared_by_what_they_know(tmp_path):
    old = [sample(image_size=[100, 60]) | {"target": "yes"} for _ in DIGESTS]
    larger = [sample(image_size=[101, 60]) | {"target": "yes"} for _ in DIGESTS]
    named = (
        write(tmp_path / "a", {POPE: rows()}),
        write(tmp_path / "b", {POPE: old}),
        write(tmp_path / "c", {POPE: larger}),
    )
    new, old, larger = frames(*named).values()
    assert changed(new, old) == []
    assert changed(old, larger) == changed(new, larger) == [0, 1, 2]


def test_groups_of_rows_on_the_same_documents(tmp_path):
    """Two runs on different images do not become one by a third that does not know its images."""
    bare = [sample() | {"target": "yes"} for _ in DIGESTS]
    folders = (
        write(tmp_path / "bare", {POPE: bare}),
        write(tmp_path / "one", {POPE: rows()}),
        write(tmp_path / "two", {POPE: rows(digests=("a" * 16, "x" * 16, "c" * 16))}),
        write(tmp_path / "fewer", {POPE: rows()[:2]}),
        write(tmp_path / "unread", {POPE: [*rows()[:2], failed() | {"target": "yes"}]}),
    )
    groups = same_documents({name.rpartition("/")[2]: frame for name, frame in frames(*folders).items()})
    assert groups == [["bare", "one", "unread"], ["two"], ["fewer"]]


def test_targets_that_are_lists(tmp_path):
    """lmms-eval writes them as text; if one does not, its rows are read all the same."""
    first, second = rows(target=["R5", "r5"]), rows(target=["R6"])
    a, b = frames(write(tmp_path / "a", {POPE: first}), write(tmp_path / "b", {POPE: second})).values()
    assert changed(a, b) == [0, 1, 2]
    assert changed(a, a) == []


def test_hard_split_leaves_out_other_documents(tmp_path):
    """The low-res view's wrong answers, by number, are other documents' numbers elsewhere."""
    low = [row | {"score": score} for row, score in zip(rows(model="qwen2_5_vl_lowres"), (0.0, 0.0, 1.0), strict=True)]
    runs = [
        write(tmp_path / "low", {POPE: low}, model="qwen2_5_vl_lowres"),
        write(tmp_path / "a", {POPE: rows(1.0)}),
        write(tmp_path / "b", {POPE: other("image")}, model="visionzip"),
    ]
    table = per_benchmark.hard_table(collect(runs))
    assert cells(table, "awares")["POPE score"] == "100.00"
    assert cells(table, "visionzip")["POPE score"] == "-"
    assert "no cell where the documents are others than those of qwen2_5_vl_lowres: POPE of visionzip" in table.notes


def test_regress_refuses_other_images_of_the_same_size(tmp_path, monkeypatch, capsys):
    before = write(tmp_path / "a", {POPE: rows()})
    after = write(tmp_path / "b", {POPE: rows(digests=("a" * 16, "x" * 16, "c" * 16))})
    saved = tmp_path / "a.json.gz"
    assert exit_of(monkeypatch, capsys, "regress", "save", before, "--output", saved)[0] == 0
    for baseline in (before, saved):
        code, _ = exit_of(
            monkeypatch, capsys, "regress", "--baseline", baseline, "--candidate", after, "--json", tmp_path / "j"
        )
        (reason,) = json.loads((tmp_path / "j").read_text())["reasons"]
        assert (code, reason) == (2, f"{POPE}: different data: 1 (document 1) with another question, target or image")
    assert exit_of(monkeypatch, capsys, "regress", "--baseline", saved, "--candidate", before)[0] == 0


def test_older_baselines_still_load(tmp_path, monkeypatch, capsys):
    """Version 1 knows no pixels: sizes, questions and targets are compared."""
    run = write(tmp_path / "a", {POPE: rows()})
    old = json.loads(load(run).model_dump_json())
    old["schema_version"] = 1
    del old["tasks"][POPE]["image_digests"]
    del old["tasks"][POPE]["conditions"][0]["code"]
    file = tmp_path / "old.json.gz"
    file.write_bytes(gzip.compress(json.dumps(old).encode()))
    assert load(file).schema_version == SCHEMA_VERSION == 2
    assert exit_of(monkeypatch, capsys, "regress", "--baseline", file, "--candidate", run)[0] == 0
    for name, value in (("input", "another?"), ("target", "no")):
        other = write(tmp_path / name, {POPE: [row | {name: value} for row in rows()]})
        assert exit_of(monkeypatch, capsys, "regress", "--baseline", file, "--candidate", other)[0] == 2
    save(load(file), tmp_path / "again.json.gz")
    assert load(tmp_path / "again.json.gz") == load(file)
    assert len(load(ROOT / "results" / "baselines" / "mini.json.gz").tasks) == 6


def test_code_that_was_not_recorded_is_a_note_of_the_gate(tmp_path, monkeypatch, capsys):
    before = write(tmp_path / "a", {POPE: rows()})
    after = write(tmp_path / "b", {POPE: rows()}, conditions={"code": "abc"})
    code, _ = exit_of(
        monkeypatch, capsys, "regress", "--baseline", before, "--candidate", after, "--json", tmp_path / "j"
    )
    assert code == 0
    assert json.loads((tmp_path / "j").read_text())["notes"] == [
        "code differs: not recorded in the baseline, abc in the candidate"
    ]


# --- conditions


def halves(folder, **differing):
    """One method, a run per benchmark, the second under other conditions; beside it a row of one run."""
    settings = {name: differing.pop(name) for name in ("limit", "gen_kwargs", "model_args") if name in differing}
    batch = {"batch_size": differing.pop("batch_size")} if "batch_size" in differing else {}
    prompt = differing.pop("prompt", "own")
    chart = rows(1.0)
    for row in chart:
        row["awares"] |= {"prompt": prompt} | batch
    both = {POPE: rows(model="qwen2_5_vl_full"), CHART: rows(model="qwen2_5_vl_full")}
    return [
        write(folder / "pope", {POPE: rows(0.5)}),
        write(folder / "chart", {CHART: chart}, conditions=differing, **settings),
        write(folder / "full", both, model="qwen2_5_vl_full"),
    ]


def test_a_run_per_benchmark_under_equal_conditions_is_fine(tmp_path):
    shown = awares("compare", *halves(tmp_path)).stdout
    assert "same in all rows: prompt own, revision x, dtype x" in shown
    assert "warning" not in shown and "*" not in shown
    assert "75.00" in shown


DIFFERING = {
    "max_pixels": (30000, "30000 (ChartQA); 2 (POPE)"),
    "revision": ("other", "other (ChartQA); x (POPE)"),
    "dtype": ("float16", "float16 (ChartQA); x (POPE)"),
    "attention": ("eager", "eager (ChartQA); x (POPE)"),
    "transformers": ("5.0", "5.0 (ChartQA); x (POPE)"),
    "prompt": ("default", "default (ChartQA); own (POPE)"),
    "limit": (3.0, "3 (ChartQA); none (POPE)"),
    "gen_kwargs": ("temperature=1", "temperature=1 (ChartQA); none (POPE)"),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_what_differs_within_a_row_is_warned_of_and_its_average_marked(name, tmp_path):
    value, listing = DIFFERING[name]
    runs = halves(tmp_path, **{name: value})
    shown = awares("compare", *runs).stdout
    assert f"warning: {name} differs within awares, whose averages do not compare: {listing}" in shown
    same = next(line for line in shown.splitlines() if line.startswith("same in all rows"))
    assert name not in same
    table = main_table(collect(runs))
    assert cells(table, "awares")["average score"] == "75.00*"
    assert cells(table, "awares")["average latency s"] == "1.000*"
    assert cells(table, "qwen2_5_vl_full")["average score"] == "100.00"
    if name != "revision":  # differs between methods on purpose
        assert f"rows differ in {name} on ChartQA, so scores and RTR do not compare" in shown or name == "prompt"
        assert f"rows differ in {name} on POPE" not in shown


@pytest.mark.parametrize(("name", "value"), [("device", "gpu"), ("batch_size", 8)])
def test_conditions_of_times_mark_times_only(name, value, tmp_path):
    runs = halves(tmp_path, **{name: value})
    row = cells(main_table(collect(runs)), "awares")
    assert (row["average score"], row["average latency s"]) == ("75.00", "1.000*")
    assert (
        f"warning: {name} differs within awares, whose average latency does not compare"
        in awares("compare", *runs).stdout
    )


def test_a_benchmark_shorter_than_a_batch_was_run_at_no_other_size(tmp_path):
    runs = halves(tmp_path, batch_size=2)
    for run, size in zip(runs, ("2", "2", "2"), strict=True):
        file = run / "1_results.json"
        results = json.loads(file.read_text())
        results["config"]["batch_size"] = size
        file.write_text(json.dumps(results))
    assert "batch_size 2" in awares("compare", *runs).stdout
    assert "warning" not in awares("compare", *runs).stdout


def test_arguments_that_no_trace_tells(tmp_path):
    runs = halves(tmp_path, model_args="pretrained=a,journal=b,min_crop_side=28")
    shown = awares("compare", *runs).stdout
    assert "warning: arguments differs within awares" in shown
    assert "min_crop_side=28 (ChartQA); none (POPE)" in shown
    assert cells(main_table(collect(runs)), "awares")["average score"] == "75.00*"


def test_what_a_server_was_asked_with_matters_for_latency_only(tmp_path):
    server = "pretrained=a,base_url=http://h/v1,served_model=m,api_key_env=K,request_timeout=5"
    runs = [
        write(tmp_path / "few", {POPE: rows()}, model_args=f"{server},concurrency=1"),
        write(tmp_path / "many", {POPE: rows()}, model_args=f"{server},concurrency=64"),
        write(tmp_path / "here", {POPE: rows()}, model_args="pretrained=a,workers=2"),
    ]
    shown = awares("compare", *runs).stdout
    (warning,) = [line for line in shown.splitlines() if line.startswith("warning")]
    assert warning.startswith("warning: rows differ in concurrency, so latency does not compare: 1 (")
    assert "64 (" in warning and "here" not in warning
    assert "base_url" not in shown, "one of the rows has none"


def test_a_run_under_two_conditions_names_benchmark_and_values(tmp_path):
    mixed = rows()
    mixed[1]["awares"]["conditions"] = mixed[1]["awares"]["conditions"] | {"max_pixels": 30000}
    run = write(tmp_path / "a", {POPE: rows(), CHART: mixed})
    shown = awares("compare", run).stdout
    assert (
        "warning: max_pixels differs within awares, whose averages do not compare: 2 and 30000 (ChartQA); 2 (POPE)"
        in shown
    )
    assert cells(main_table(collect([run])), "awares")["average score"] == "100.00*"


def test_code_that_was_not_recorded_is_said_once_and_mildly(tmp_path):
    runs = halves(tmp_path, code="abc")
    shown = awares("compare", *runs).stdout
    assert "code abc" not in shown, "not the same in all rows, as far as is known"
    assert shown.count("code: not recorded in all traces of awares, qwen2_5_vl_full") == 1
    assert "warning" not in shown and "*" not in shown
    shown = awares("compare", write(tmp_path / "x", {POPE: rows()})).stdout
    assert "code" not in shown, "nothing to compare with"
    shown = awares("compare", write(tmp_path / "known", {POPE: rows()}, conditions={"code": "abc"})).stdout
    assert "code abc" in next(line for line in shown.splitlines() if line.startswith("same"))
    second = halves(tmp_path / "second", code="abc")
    pope = write(tmp_path / "third", {POPE: rows()}, conditions={"code": "def"})
    assert "warning: code differs within awares" in awares("compare", pope, *second[1:]).stdout


def test_published_averages_stand_beside_the_same_six_only(tmp_path):
    names = ("chartqa", "docvqa_val", "ocrbench", "pope", "realworldqa", "vstar_bench")
    six = {f"awares_{name}": rows() for name in names}

    def published(folder, tasks):
        lines = awares("compare", write(folder, tasks), "--paper", "--format", "csv").stdout.splitlines()
        table = pd.DataFrame([line.split(",") for line in lines[1:]], columns=lines[0].split(","))
        return table.set_index("method").loc["AwaRes [paper]", "average score"]

    assert float(published(tmp_path / "six", six)) > 0
    assert published(tmp_path / "seven", six | {"mmmu_val": rows()}) == "-"
    assert published(tmp_path / "five", dict(list(six.items())[:5])) == "-"


# --- nothing answered


def test_every_command_stands_a_run_in_which_all_samples_failed(tmp_path, monkeypatch, capsys):
    nothing = write(tmp_path / "nothing", {POPE: [failed(), failed()], CHART: [failed(), failed()]})
    half = [sample(0.0, policy=None, model="qwen2_5_vl_lowres"), failed()]
    low = write(tmp_path / "low", {POPE: half, CHART: [failed(), failed()]}, model="qwen2_5_vl_lowres")
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        "".join(json.dumps({"task": POPE, "doc_id": i, "label": "HR", "targets": ["0"]}) + "\n" for i in (0, 1))
    )
    for kind in ("main", "latency", "length", "calls", "format", "hard"):
        result = awares("compare", nothing, low, "--table", kind, "--ci", "-o", tmp_path / kind)
        assert result.exit_code == 0
        assert "nan" not in result.stdout
        assert f"2 of 2 samples of {CHART} failed" in result.stdout
    code, err = exit_of(monkeypatch, capsys, "compare", nothing, "--table", "cdp", "--labels", labels)
    assert (code, "no sample of" in err) == (2, True)
    assert "nan" not in awares("compare", low, "--table", "split", "--labels", labels).stdout
    assert "nan" not in awares("diagnose", nothing).stdout
    code, err = exit_of(monkeypatch, capsys, "plot", nothing, low, "-o", tmp_path / "figures")
    assert (code, err.count("is left out")) == (0, 2)  # no average, no call; low answered once
    assert exit_of(monkeypatch, capsys, "report", nothing, low, "-o", tmp_path / "site")[0] == 0
    code, _ = exit_of(monkeypatch, capsys, "regress", "--baseline", nothing, "--candidate", nothing)
    assert code == 2


def test_the_summary_of_a_run_in_which_all_samples_failed(tmp_path, capsys):
    nothing = write(tmp_path / "nothing", {POPE: [failed(), failed()], CHART: [failed()]})
    print_summary(summarize(newest_run(nothing)), nothing)
    shown = capsys.readouterr().out
    assert "nan" not in shown.replace(str(tmp_path), "")
    assert f"2 of 2 samples of {POPE} failed" in " ".join(shown.split())
    assert awares("compare", nothing).exit_code == 0
    rows = [
        line for line in awares("compare", nothing, "--format", "csv").stdout.splitlines() if line.startswith("awares")
    ]
    assert set(rows[0].split(",")[1:]) == {"-"}
