"""`awares compare --table cost`, worked out by hand; runs that do not know what they cost."""

import pytest
from report_runs import CHART, POPE, awares, cells, failed, sample, write

from lmms_awares.report.read.folders import newest_run
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.summary import summarize
from lmms_awares.report.tables.cost import cost_table
from lmms_awares.report.tables.table import rounded

FULL = {"schema_version": 4, "model": "qwen2_5_vl_full", "method": "qwen2_5_vl_full", "policy": None, "nominal": 1.0}
AWARES = {"schema_version": 4, "method": "awares", "view": "lowres"}


def full(teraflops, **fields):
    return sample(1.0, rtr=1.0, flops=int(teraflops * 1e12), kv_bytes=40_000_000, view="full", **FULL, **fields)


def aware(score, rtr, teraflops, megabytes, **fields):
    return sample(score, rtr=rtr, flops=int(teraflops * 1e12), kv_bytes=int(megabytes * 1e6), **AWARES, **fields)


@pytest.fixture
def runs(tmp_path):
    """The baseline lacks the last chart, and what awares failed at is in no sum."""
    baseline = {CHART: [full(10), full(20)], POPE: [full(12), full(8)]}
    own = {
        CHART: [aware(1.0, 0.5, 6, 20), aware(0.5, 0.25, 3, 10), aware(0.0, 0.75, 9, 30)],
        POPE: [aware(1.0, 0.25, 4, 12), failed()],
    }
    return write(tmp_path / "full", baseline, model="qwen2_5_vl_full"), write(tmp_path / "own", own)


def test_by_hand(runs):
    table = cost_table(collect(runs))
    assert cells(table, "awares") == {
        "ChartQA TFLOPs": "6.00",  # (6 + 3 + 9) / 3
        "ChartQA of full": "0.300",  # (6 + 3) / (10 + 20)
        "ChartQA KV MB": "20.0",
        "ChartQA tokens per correct": "100",  # (50 + 25 + 75) / 1.5
        "POPE TFLOPs": "4.00",
        "POPE of full": "0.333",  # 4 / 12
        "POPE KV MB": "12.0",
        "POPE tokens per correct": "25.0",
        "average TFLOPs": "5.00*",  # marked: the documents of ChartQA differ
        "average of full": "0.317*",
        "average KV MB": "16.0*",
        "average tokens per correct": "62.5*",
    }
    assert cells(table, "qwen2_5_vl_full")["average of full"] == "1.000*"
    assert "of full: share of qwen2_5_vl_full's TFLOPs, on the documents of both" in table.notes


def test_without_a_full_run(runs):
    table = cost_table(collect(runs[1:]))
    row = cells(table, "awares")
    assert (row["ChartQA TFLOPs"], row["ChartQA of full"], row["average of full"]) == ("6.00", "-", "-")
    assert "of full: no full-resolution run is among these" in table.notes


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "pruned+holov@1", "nominal": 1.0},
        {"method": "qwen2_5_vl_lowres", "nominal": 0.25, "view": "lowres"},
        {"method": "x", "nominal": None},
    ],
    ids=lambda fields: fields["method"],
)
def test_only_the_baseline_is_full(tmp_path, runs, fields):
    rows = [full(10) for _ in range(3)]
    for row in rows:
        row["awares"] |= fields
    other = write(tmp_path / "other", {CHART: rows}, model="other")
    assert cells(cost_table(collect([other, runs[1]])), "awares")["ChartQA of full"] == "-"


def test_another_family_is_no_reference(tmp_path, runs):
    other = write(tmp_path / "other", {CHART: [full(10)] * 3, POPE: [full(10)] * 2}, conditions={"family": "qwen3_vl"})
    row = cells(cost_table(collect([other, runs[1]])), "awares")
    assert (row["ChartQA of full"], row["POPE of full"]) == ("-", "-")


def test_another_document_is_no_pair(tmp_path, runs):
    """The second chart shows another image."""
    rows = [full(10, image_digest="a"), full(20, image_digest="b")]
    baseline = write(tmp_path / "f", {CHART: rows}, model="qwen2_5_vl_full")
    own = [aware(1.0, 0.5, 6, 20, image_digest="a"), aware(1.0, 0.5, 8, 20, image_digest="c")]
    table = cost_table(collect([baseline, write(tmp_path / "o", {CHART: own})]))
    assert cells(table, "awares")["ChartQA of full"] == "0.600"


def test_no_correct_answer_has_no_price(tmp_path):
    run = write(tmp_path / "wrong", {POPE: [aware(0.0, 0.5, 6, 20)]})
    assert cells(cost_table(collect([run])), "awares")["POPE tokens per correct"] == "-"


def test_traces_that_do_not_say(tmp_path, pair):
    """Older traces, and one sample of a pruner that nobody knows: no figure of some of the documents only."""
    table = cost_table(collect(pair))
    row = cells(table, "awares")
    assert (row["ChartQA TFLOPs"], row["ChartQA KV MB"], row["ChartQA of full"]) == ("-", "-", "-")
    assert row["ChartQA tokens per correct"] == "75.0"  # (50 + 25 + 75) / 2
    said = "TFLOPs and KV are not in all traces of qwen2_5_vl_lowres, awares: older ones, or a cost not known"
    assert said in table.notes
    rows = [aware(1.0, 0.5, 6, 20), sample(1.0, **AWARES)]
    table = cost_table(collect([write(tmp_path / "some", {POPE: rows})]))
    assert cells(table, "awares")["POPE TFLOPs"] == "-"
    assert any(note.startswith("TFLOPs and KV are not in all traces of awares") for note in table.notes)
    shown = awares("compare", *pair, "--table", "cost").stdout
    assert said in shown


def test_broken_counts_are_read_as_they_are(tmp_path):
    """Pruners inside the model count means over layers."""
    rows = [sample(1.0, visual_tokens=12.5), sample(1.0, visual_tokens=10)]
    run = write(tmp_path / "staged", {POPE: rows})
    assert newest_run(run).frame(POPE)["visual_tokens"].tolist() == [12.5, 10]
    assert summarize(newest_run(run))["rtr_pooled"].tolist() == [pytest.approx(22.5 / 200)]
    assert cells(cost_table(collect([run])), "awares")["POPE tokens per correct"] == "11.2"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0031415, "0.00314"), (3.1415, "3.14"), (123.4, "123"), (1234.5, "1234"), (0, "0.00"), (None, "-")],
)
def test_figures(value, text):
    assert rounded(value) == text
