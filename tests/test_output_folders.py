"""One output folder, several runs: the newest result of every task counts, for every command alike."""

import json
import os

import pandas as pd
import pytest
from report_runs import CHART, POPE, awares, exit_of, sample
from typer.testing import CliRunner

from lmms_awares.cli import app
from lmms_awares.report.gate.baseline import load
from lmms_awares.report.read.folders import newest_run
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.summary import summarize

METRIC = {"metric_list": [{"metric": "accuracy"}], "metadata": {"awares_envelope": True}}


def run_into(folder, stamp, tasks, *, model="awares", date=None, counts=None, **config):
    """One evaluation of `tasks` (rows by task), written into a folder that may hold others."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, rows in tasks.items():
        lines = [
            json.dumps({"doc_id": i, "input": f"question {i}?", "target": "x", **row}) for i, row in enumerate(rows)
        ]
        (folder / f"{stamp}_samples_{task}.jsonl").write_text("\n".join(lines) + "\n")
    results = {
        "config": {"model": model, **config},
        "results": {t: {} for t in tasks},
        "configs": dict.fromkeys(tasks, METRIC),
    }
    results |= {"date": date} if date else {}
    if counts:
        results["n-samples"] = {task: {"original": 99, "effective": n} for task, n in counts.items()}
    (folder / f"{stamp}_results.json").write_text(json.dumps(results))
    os.utime(folder / f"{stamp}_results.json", (int(stamp), int(stamp)))
    return folder


def of(row, **fields):
    """A row of another model or under other conditions."""
    conditions = fields.pop("conditions", {})
    row["awares"] = row["awares"] | fields | {"conditions": row["awares"]["conditions"] | conditions}
    return row


@pytest.fixture
def folder(tmp_path):
    """POPE, then ChartQA twice, one command after the other."""
    out = tmp_path / "out"
    run_into(out / "ckpt", 100, {POPE: [sample(1.0), sample(0.0)]}, limit=2.0)
    run_into(out / "ckpt", 200, {CHART: [sample(0.0)]}, limit=2.0)
    return run_into(out / "ckpt", 300, {CHART: [sample(1.0)]}, limit=2.0).parent


def test_the_newest_result_of_each_task_counts(folder, capsys):
    scores = summarize(newest_run(folder)).set_index("task")["score"].to_dict()
    assert scores == {POPE: 50, CHART: 100}
    assert not capsys.readouterr().err, "running benchmark by benchmark is fine"


def test_every_command_reads_the_same(folder, tmp_path, monkeypatch, capsys):
    shown = awares("compare", folder, "--format", "csv").stdout
    assert "100.00" in shown and "50.00" in shown and "75.00" in shown  # ChartQA, POPE, their average
    assert "differ" not in awares("compare", folder).stdout
    shown = awares("diagnose", folder).stdout
    assert "ChartQA" in shown and "POPE" in shown
    assert {task: len(kept.doc_ids) for task, kept in load(folder).tasks.items()} == {CHART: 1, POPE: 2}
    saved = tmp_path / "saved.json.gz"
    assert (
        "2 tasks, 3 samples" in CliRunner().invoke(app, ["regress", "save", str(folder), "--output", str(saved)]).output
    )
    assert exit_of(monkeypatch, capsys, "regress", "--baseline", saved, "--candidate", folder)[0] == 0
    assert exit_of(monkeypatch, capsys, "report", folder, "-o", tmp_path / "site")[0] == 0
    index = (tmp_path / "site" / "data" / "index.js").read_text()
    assert '"tasks":["chartqa","pope"]' in index
    assert exit_of(monkeypatch, capsys, "plot", folder, "-o", tmp_path / "figures")[0] == 0
    text = (tmp_path / "site" / "index.html").read_text()
    assert "100_results.json" in text and "300_results.json" in text and "200_results.json" not in text


def test_the_date_inside_counts_where_files_were_copied(tmp_path):
    """A copy without times: lmms-eval's own date decides."""
    run_into(tmp_path, 300, {POPE: [sample(0.0)]}, date="20261101_120000")
    run_into(tmp_path, 200, {POPE: [sample(1.0)]}, date="20261102_120000")
    assert summarize(newest_run(tmp_path))["score"].tolist() == [100]


def test_another_model_in_the_same_folder_is_left_out_and_named(tmp_path, capsys):
    old = [of(sample(0.0), model="qwen2_5_vl_full", policy=None)]
    run_into(tmp_path, 100, {POPE: old, CHART: old}, model="qwen2_5_vl_full")
    run_into(tmp_path, 200, {CHART: [sample(1.0)]})
    table = summarize(newest_run(tmp_path))
    assert table[["method", "task", "score"]].values.tolist() == [["awares", CHART, 100]]
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} holds several methods or checkpoints" in warning
    assert "200_results.json" in warning.partition("left out")[0]
    assert f"left out: {tmp_path / '100_results.json'}" in warning


@pytest.mark.parametrize("changed", ["revision", "policy", "crops", "ratio"])
def test_another_checkpoint_or_setting_of_the_method_is_left_out(changed, tmp_path, capsys):
    old = of(sample(0.0), conditions={"revision": "old"}) if changed == "revision" else sample(0.0)
    settings = {"policy": "policy=never", "crops": "crops=blank", "ratio": "retain_ratio=0.7"}
    arguments = settings.get(changed, "pretrained=a")
    run_into(tmp_path, 100, {POPE: [old]}, model_args=arguments)
    run_into(tmp_path, 200, {CHART: [sample(1.0)]}, model_args="pretrained=a")
    assert newest_run(tmp_path).tasks == [CHART]
    assert "left out" in capsys.readouterr().err


def test_one_checkpoint_spelled_in_two_ways_is_one(tmp_path, capsys):
    run_into(tmp_path, 100, {POPE: [sample(0.0)]}, model_args="pretrained=./a,policy=model")
    run_into(tmp_path, 200, {CHART: [sample(1.0)]}, model_args="pretrained=/home/me/a,dtype=auto")
    assert sorted(newest_run(tmp_path).tasks) == [CHART, POPE]
    assert not capsys.readouterr().err


def test_a_result_without_whole_samples_gives_way_to_an_older_one(tmp_path, capsys):
    run_into(tmp_path, 100, {POPE: [sample(1.0), sample(1.0)]}, counts={POPE: 2})
    run_into(tmp_path, 200, {POPE: [sample(0.0)], CHART: [sample(0.0)]}, counts={POPE: 2, CHART: 1})
    table = summarize(newest_run(tmp_path)).set_index("task")["score"].to_dict()
    assert table == {POPE: 100, CHART: 0}
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / f'200_samples_{POPE}.jsonl'} is not whole; {tmp_path / '100_results.json'} counts" in warning
    (tmp_path / f"100_samples_{POPE}.jsonl").unlink()
    assert exit_message(tmp_path).endswith("holds 1 of 2 rows; is it truncated?")


def exit_message(folder):
    with pytest.raises(ValueError, match="rows") as raised:
        collect([folder])
    return str(raised.value)


def test_old_results_without_samples_do_not_stand_in_the_way(tmp_path, capsys):
    run_into(tmp_path, 100, {POPE: [sample(1.0)]})
    (tmp_path / f"100_samples_{POPE}.jsonl").unlink()
    run_into(tmp_path, 200, {CHART: [sample(0.0)]})
    assert newest_run(tmp_path).tasks == [CHART]
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{POPE} of {tmp_path / '100_results.json'} is left out: it has no samples file" in warning


def test_an_older_benchmark_that_lost_a_line_is_not_dropped(tmp_path):
    """The newest file holds another benchmark: a table without the broken one would look whole."""
    run_into(tmp_path, 100, {POPE: [sample(1.0)]}, counts={POPE: 2})
    run_into(tmp_path, 200, {CHART: [sample(0.0)]})
    assert exit_message(tmp_path).endswith("holds 1 of 2 rows; is it truncated?")


def test_limits_of_each_task_are_its_own(tmp_path):
    """One task with a limit, the other without: that differs within the row."""
    run_into(tmp_path, 100, {POPE: [sample(1.0)]}, limit=1.0)
    run_into(tmp_path, 200, {CHART: [sample(0.0)]})
    shown = awares("compare", tmp_path).stdout
    assert "limit differs within awares" in shown
    assert "none (ChartQA); 1 (POPE)" in shown


def test_a_results_file_is_that_run_alone(folder):
    (file,) = folder.rglob("200_results.json")
    assert summarize(newest_run(file))["score"].tolist() == [0]
    assert pd.isna(awares("compare", file).exit_code) is False


def test_a_file_and_the_folder_that_it_counts_in_are_one_run(folder, monkeypatch, capsys):
    code, err = exit_of(monkeypatch, capsys, "compare", folder, next(folder.rglob("100_results.json")))
    assert (code, "is given twice" in err) == (2, True)
    assert exit_of(monkeypatch, capsys, "compare", folder, next(folder.rglob("200_results.json")))[0] == 0
