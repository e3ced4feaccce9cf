"""The regression gate: its exit codes, what it prints and writes, and saved baselines."""

import gzip
import json
import time
from xml.etree import ElementTree

import numpy as np
import pytest
from report_runs import exit_of, gate, run_gate
from synthetic import SIZES, paired_scores, rows, write_run
from typer.testing import CliRunner

from lmms_awares.cli import app
from lmms_awares.report.gate.baseline import BaselineError, load, reduce_run, save
from lmms_awares.report.read.folders import newest_run

TASK = "awares_chartqa"


# --- the command


def test_exit_0_when_nothing_got_worse(tmp_path):
    baseline, candidate = paired_scores(2500, churn=0.02, seed=1)
    result = gate(tmp_path, before={TASK: rows(baseline)}, after={TASK: rows(candidate, latency=1.25)})
    assert result.exit_code == 0, result.output
    assert "No regression found" in result.output
    assert "×1.25" in result.output


def test_exit_1_on_a_drop(tmp_path):
    baseline, candidate = paired_scores(2500, drop=0.02)
    result = gate(tmp_path, before={TASK: rows(baseline)}, after={TASK: rows(candidate)})
    assert result.exit_code == 1, result.output
    assert f"Regression: {TASK} score" in result.output


def test_exit_1_on_a_rise_in_rtr(tmp_path):
    scores, _ = paired_scores(2500)
    result = gate(tmp_path, before={TASK: rows(scores)}, after={TASK: rows(scores, rtr=0.4)})
    assert result.exit_code == 1, result.output
    assert f"Regression: {TASK} rtr" in result.output
    assert run_gate(tmp_path / "before", tmp_path / "after", "--max-rtr-rise", 0.2).exit_code == 0


def test_strict_fails_where_nothing_can_be_said(tmp_path):
    """And does not call it a regression."""
    before, after = {TASK: rows([1, 1, 1, 0] * 6)}, {TASK: rows([1, 1, 0, 1] * 6)}
    result = gate(tmp_path, before=before, after=after)
    assert result.exit_code == 0
    assert "1 of 1 benchmarks are too small" in result.output
    files = {name: tmp_path / name for name in ("markdown", "junit", "json")}
    options = [part for name, file in files.items() for part in (f"--{name}", file)]
    result = run_gate(tmp_path / "before", tmp_path / "after", "--strict", *options)
    assert result.exit_code == 1
    assert f"Undecided (--strict): {TASK} score\n" in result.output
    for text in (result.output, *(file.read_text() for file in files.values())):
        assert "egression:" not in text
    assert files["markdown"].read_text().startswith("## ❔ Undecided (--strict)")
    (failure,) = ElementTree.parse(files["junit"]).getroot().iter("failure")
    assert failure.get("type") == "undecided"
    found = json.loads(files["json"].read_text())
    assert (found["outcome"], found["exit_code"]) == ("undecided", 1)


def test_strict_names_both_kinds(tmp_path):
    good, bad = paired_scores(2500, drop=0.04)
    small = [1, 1, 1, 0] * 6, [1, 1, 0, 1] * 6
    before = {TASK: rows(good), "awares_pope": rows(small[0])}
    after = {TASK: rows(bad), "awares_pope": rows(small[1])}
    result = gate(tmp_path, "--strict", before=before, after=after)
    assert result.exit_code == 1
    headline = result.output.splitlines()[-1]
    assert headline == f"Regression: {TASK} score, all benchmarks score; undecided (--strict): awares_pope score"


def answering(texts, scores, **options):
    return [{**row, "answer": text} for row, text in zip(rows(scores, **options), texts, strict=True)]


def test_equal_runs_are_the_same_also_under_strict(tmp_path):
    scores, texts = [1.0, 0.0] * 12, ["yes", "no"] * 12
    run = dict.fromkeys(SIZES, answering(texts, scores))
    files = {name: tmp_path / name for name in ("markdown", "junit", "json")}
    options = [part for name, file in files.items() for part in (f"--{name}", file)]
    result = gate(tmp_path, "--strict", *options, before=run, after=run)
    assert result.exit_code == 0, result.output
    assert "undecided" not in result.output.partition("interval:")[0]
    assert "score differs on 0 of 144 documents, answer on 0" in result.output
    assert "same: no document differs" in result.output
    assert result.output.splitlines()[-1] == "No regression found: no document differs"
    assert "0 of 144" in files["markdown"].read_text()
    assert not list(ElementTree.parse(files["junit"]).getroot().iter("failure"))
    found = json.loads(files["json"].read_text())
    assert (found["outcome"], found["exit_code"]) == ("pass", 0)
    assert {row["score"]["verdict"] for row in found["rows"]} == {"same"}
    assert [row["answers_differ"] for row in found["rows"]] == [0] * 7


def test_answers_that_differ_are_counted_with_and_without_a_change_of_score(tmp_path):
    before = {TASK: answering(["a", "b", "c", "d"] * 6, [1, 0, 0, 1] * 6)}
    after = {TASK: answering(["a", "B", "c", "x"] * 6, [1, 0, 0, 0] * 6)}
    result = gate(tmp_path, before=before, after=after)
    assert "score differs on 6 of 24 documents, answer on 12" in result.output
    # equal scores, other answers: too few documents to say the same
    after = {TASK: answering(["a", "B", "c", "d"] * 6, [1, 0, 0, 1] * 6)}
    result = gate(tmp_path, "--strict", before=before, after=after)
    assert result.exit_code == 1
    assert "score differs on 0 of 24 documents, answer on 6" in result.output


def test_a_baseline_of_the_first_schema_is_read_and_holds_no_answers(tmp_path):
    run = write_run(tmp_path / "run", {TASK: answering(["a"] * 24, [1.0] * 24)})
    data = json.loads(load(run).model_dump_json())
    data["schema_version"] = 1
    del data["tasks"][TASK]["answers"]
    (tmp_path / "old.json.gz").write_bytes(gzip.compress(json.dumps(data).encode()))
    result = run_gate(tmp_path / "old.json.gz", run, "--strict")
    assert result.exit_code == 0
    assert "score differs on 0 of 24 documents; no answers are kept to compare\n" in result.output
    assert run_gate(save(load(run), tmp_path / "new.json.gz"), run).output.count("answer on 0\n") == 1


GOOD = [1.0, 0.0, 1.0, 1.0]
OTHER = {
    "prompt": ({TASK: rows(GOOD, prompt="default")}, "another system prompt: own in the baseline, default"),
    "limits": ({TASK: rows(GOOD, max_pixels=9999)}, "another limits (min_pixels, max_pixels, lowres_base)"),
    "task": ({"awares_pope": rows(GOOD)}, f"{TASK}: missing in the candidate"),
    "samples": ({TASK: rows(GOOD[:3])}, "missing samples: 1 (document 3) in the baseline only"),
    "more samples": ({TASK: rows([*GOOD, 1.0])}, "missing samples: 1 (document 4) in the candidate only"),
    "failed": ({TASK: rows([*GOOD[:3], None])}, "missing samples: 1 (document 3) failed in the candidate only"),
    "question": (
        {TASK: [{**row, "input": row["input"].replace("2", "two")} for row in rows(GOOD)]},
        "different data: 1 (document 2) with another question",
    ),
    "NaN": ({TASK: rows([1.0, float("nan"), 1.0, 1.0])}, "document 1 of awares_chartqa"),
    "no score": ({TASK: [{k: v for k, v in r.items() if k != "score"} for r in rows(GOOD)]}, "has no score"),
    "twice": ({TASK: [*rows(GOOD), *rows(GOOD)]}, "holds document 0 twice"),
}


@pytest.mark.parametrize("name", OTHER)
def test_exit_2_when_runs_do_not_compare(name, tmp_path):
    after, words = OTHER[name]
    result = gate(tmp_path, before={TASK: rows(GOOD)}, after=after)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("not comparable: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_what_compares_is_shown_beside_what_does_not(tmp_path):
    before = {TASK: rows(GOOD), "awares_pope": rows(GOOD)}
    result = gate(tmp_path, before=before, after=before | {"awares_pope": rows(GOOD[:2])})
    assert result.exit_code == 2
    assert any(line.split()[:2] == ["chartqa", "4"] for line in result.output.splitlines())


def test_samples_that_failed_in_both_runs_are_left_out(tmp_path):
    scores = [*paired_scores(500)[0], None]
    result = gate(tmp_path, before={TASK: rows(scores)}, after={TASK: rows(scores)})
    assert result.exit_code == 0
    assert f"{TASK}: 1 documents failed in both runs" in result.output
    nothing = {TASK: rows([None, None])}
    result = gate(tmp_path / "nothing", before=nothing, after=nothing)
    assert result.exit_code == 2
    assert "every sample failed in both runs" in result.output


def test_latency_only_on_one_device_and_batch_size(tmp_path):
    before = {TASK: rows(GOOD)}
    result = gate(tmp_path, before=before, after={TASK: rows(GOOD, device="NVIDIA H100")})
    assert "×" not in result.output
    assert "device differs: cpu in the baseline, NVIDIA H100 in the candidate" in result.output
    result = gate(tmp_path / "engine", before=before, after={TASK: rows(GOOD, engine="server")})
    assert "×" not in result.output
    assert "engine differs: local in the baseline, server in the candidate" in result.output
    write_run(tmp_path / "after", before, batch_size="8")
    assert "×" not in run_gate(tmp_path / "before", tmp_path / "after").output


def test_broken_input_is_one_line_and_exit_2(tmp_path):
    run = write_run(tmp_path / "run", {TASK: rows(GOOD)})
    (tmp_path / "text.json.gz").write_text("no gzip")
    newer = load(run).model_copy(update={"schema_version": 99})
    save(newer, tmp_path / "newer.json.gz")
    for path, words in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "text.json.gz", "is no baseline"),
        (tmp_path / "newer.json.gz", "schema version 99"),
        (tmp_path, "holds no results"),
    ):
        if path == tmp_path:
            (run / "1_results.json").unlink()
        result = run_gate(path, run)
        assert result.exit_code == 2
        assert words in result.output
    assert CliRunner().invoke(app, ["regress", "--baseline", "x"]).exit_code == 2
    assert run_gate(run, run, "--alpha", "0.7").exit_code == 2
    assert run_gate(run, run, "--junit", "/proc/nope/x.xml").exit_code == 2


BROKEN = {  # name: (line put in the place of the second, words of the message)
    "null": (b"null", "line 2 is no row"),
    "no document": (b'{"score": 1.0}', "line 2 has doc_id None"),
    "document as text": (b'{"doc_id": "1", "score": 1.0}', "line 2 has doc_id '1'"),
    "bytes": (b'{"doc_id": 1, "score": 1.0, "awares": {"schema_version": 1, "model": "\xff"}}', "line 2 is not UTF-8"),
    "trace": (b'{"doc_id": 1, "awares": {"schema_version": 99}}', "line 2: trace schema version 99"),
    "no trace": (b'{"doc_id": 1, "awares": [1]}', "line 2: trace schema version None"),
}


def test_an_rtr_that_is_no_number_does_not_compare(tmp_path):
    """A mean of NaN would be called undecided."""
    before = write_run(tmp_path / "before", {TASK: rows(GOOD)})
    samples = rows(GOOD)
    samples[3]["awares"]["rtr"] = float("nan")
    after = write_run(tmp_path / "after", {TASK: samples})
    result = run_gate(before, after)
    assert result.exit_code == 2
    assert "document 3" in result.output
    assert "has rtr nan, no number" in result.output


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_one_line_and_no_regression(name, tmp_path, monkeypatch, capsys):
    """The gate and the tables say the same, and name the file."""
    line, words = BROKEN[name]
    write_run(tmp_path / "before", {TASK: rows(GOOD)})
    file = write_run(tmp_path / "after", {TASK: rows(GOOD)}) / f"1_samples_{TASK}.jsonl"
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], line, *lines[2:], b""]))
    result = run_gate(tmp_path / "before", tmp_path / "after")
    assert result.exit_code == 2
    (reason,) = (text for text in result.output.splitlines() if text.startswith("not comparable"))
    assert f"{file} {words}" in reason
    code, err = exit_of(monkeypatch, capsys, "compare", tmp_path / "after")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{file} {words}" in err


@pytest.mark.parametrize("content", [b"\xff{}", b"[1]", b'{"config": {}, "configs": {}, "results": {}}'])
def test_a_broken_results_file_is_one_line_and_no_regression(content, tmp_path):
    before = write_run(tmp_path / "before", {TASK: rows(GOOD)})
    file = write_run(tmp_path / "after", {TASK: rows(GOOD)}) / "1_results.json"
    file.write_bytes(content)
    result = run_gate(before, tmp_path / "after")
    assert result.exit_code == 2
    assert f"not comparable: {file} " in result.output


def test_a_bug_is_no_regression(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("lmms_awares.report.gate.output.as_text", fail)
    result = gate(tmp_path, before={TASK: rows(GOOD)}, after={TASK: rows(GOOD)})
    assert result.exit_code == 2
    assert "RuntimeError: a bug" in result.stderr


def test_files_for_ci(tmp_path):
    baseline, candidate = paired_scores(2500, drop=0.04)
    write_run(tmp_path / "before", {TASK: rows(baseline), "awares_pope": rows(GOOD)})
    write_run(tmp_path / "after", {TASK: rows(candidate), "awares_pope": rows(GOOD[:3])})
    files = {name: tmp_path / "out" / f"report.{name}" for name in ("markdown", "junit", "json")}
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    command = ["regress", "--baseline", str(tmp_path / "before"), "--candidate", str(tmp_path / "after"), *options]
    summary = tmp_path / "summary.md"
    summary.write_text("earlier\n")
    result = CliRunner().invoke(app, command, env={"GITHUB_STEP_SUMMARY": str(summary)})
    assert result.exit_code == 2

    suites = ElementTree.parse(files["junit"]).getroot()
    assert suites.tag == "testsuites"
    (suite,) = suites
    cases = list(suite)
    assert suite.get("tests") == str(len(cases)) == "3"
    assert (suite.get("failures"), suite.get("errors")) == ("1", "1")
    states = {(case.get("classname"), case.get("name")): {child.tag for child in case} for case in cases}
    assert states[TASK, "score"] == {"failure"}
    assert states[TASK, "rtr"] == {"system-out"}
    assert sum(tags == {"error"} for tags in states.values()) == 1

    found = json.loads(files["json"].read_text())
    assert (found["outcome"], found["exit_code"]) == ("not comparable", 2)
    assert found["rows"][0]["score"]["worse_by"] == pytest.approx(100 * (baseline - candidate).mean())
    text = files["markdown"].read_text()
    assert "| chartqa" in text
    assert summary.read_text() == "earlier\n" + text


# --- saved baselines, and the size of real runs


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Two runs of the six benchmarks' sizes; RTR and latency with noise, as real ones have."""
    folder = tmp_path_factory.mktemp("big")
    generator = np.random.default_rng(0)
    for name in ("before", "after"):
        samples = {}
        for seed, (task, n) in enumerate(SIZES.items()):
            scores = paired_scores(n, seed=seed)[name == "after"]
            samples[task] = rows(scores, rtr=generator.choice([0.25, 0.5, 0.75, 1.25], n) + 0.01 * generator.random(n))
            for row in samples[task]:
                row["awares"]["latency_s"] = generator.lognormal()
        write_run(folder / name, samples)
    return folder


def test_two_runs_of_18805_samples_in_10_seconds(big):
    started = time.process_time()  # one thread, and files in the page cache: what an idle machine takes by the clock
    result = run_gate(big / "before", big / "after", "--max-rtr-rise", "0.1")
    assert time.process_time() - started < 10
    assert result.exit_code == 0, result.output


def test_saved_baseline_is_small_and_says_the_same(big, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["regress", "save", str(big / "before")])
    assert result.exit_code == 0
    assert "6 tasks, 18805 samples" in result.output
    file = tmp_path / "results" / "baselines" / "awares.json.gz"
    assert file.stat().st_size < 3e6
    assert load(file) == reduce_run(newest_run(big / "before"))
    bytes_before = file.read_bytes()
    save(load(file), file)
    assert file.read_bytes() == bytes_before


def test_save_names_what_cannot_be_written(tmp_path):
    run = write_run(tmp_path / "run", {TASK: rows(GOOD)})
    with pytest.raises(BaselineError, match="cannot be written"):
        save(load(run), tmp_path / "run" / "1_results.json" / "x.json.gz")
