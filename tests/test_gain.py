"""What offering the tool changes: terms by hand, their sum, and the runs that do not compare."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import CHART, POPE, awares, exit_of, failed, sample, write

from lmms_awares.mini.demo import checkpoint as shipped
from lmms_awares.report.gate.gain import TERMS, bounds, gains, terms
from lmms_awares.report.read.lineup import read_source
from lmms_awares.report.tables.gain import gain_table

# score without the tool, score with it, status of the call (None: no call)
WORKED = {
    CHART: [
        (0.0, 1.0, "valid"),  # call gain
        (0.0, 1.0, "recovered"),  # call gain
        (1.0, 0.0, "valid"),  # call harm
        (0.0, 1.0, None),  # schema gain
        (1.0, 0.0, None),  # schema harm
        (1.0, 0.0, "invalid"),  # call harm: it was shown the whole image
        (1.0, 1.0, "valid"),
        (0.0, 0.0, None),
    ],
    POPE: [
        (0.6, 0.9, "valid"),  # graded: a call gain of 0.3
        (0.9, 0.8, None),  # a schema harm of 0.1
        (0.0, 0.0, "valid"),
        (0.5, 0.5, None),
    ],
}
BY_HAND = {
    CHART: {"call gain": 2 / 8, "call harm": -2 / 8, "schema gain": 1 / 8, "schema harm": -1 / 8},
    POPE: {"call gain": 0.3 / 4, "call harm": 0, "schema gain": 0, "schema harm": -0.1 / 4},
}
LOWRES = {"model": "qwen2_5_vl_lowres", "method": "qwen2_5_vl_lowres", "policy": None, "nominal": 0.25}
LOWRES |= {"view": "lowres", "prompt": "default", "schema_version": 4}
AWARE = {"method": "awares", "nominal": None, "view": "lowres", "schema_version": 4}


def told(row, fields):
    return row | {"awares": row["awares"] | fields}


def baseline(rows=WORKED, **fields):
    return {task: [told(sample(base), LOWRES | fields) for base, _, _ in own] for task, own in rows.items()}


def with_tool(rows=WORKED, **fields):
    return {
        task: [
            told(sample(score, **({"ids": ["0"], "status": status} if status else {})), AWARE | fields)
            for _, score, status in own
        ]
        for task, own in rows.items()
    }


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "with", with_tool()), write(tmp_path / "without", baseline(), model="qwen2_5_vl_lowres")


def test_terms_by_hand(pair):
    found = gains(*map(read_source, pair))
    assert found.keys() == BY_HAND.keys()
    for task, frame in found.items():
        assert frame[list(TERMS)].mean().to_dict() == pytest.approx(BY_HAND[task], abs=1e-12)
        gap = frame["offered"].mean() - frame["without"].mean()
        assert frame[list(TERMS)].mean().sum() == pytest.approx(gap, abs=1e-9)
    assert found[CHART]["called"].tolist() == [True, True, True, False, False, True, True, False]


unit = st.floats(0, 1)


@given(st.lists(st.tuples(unit, unit, st.booleans()), min_size=1))
def test_terms_sum_to_the_gap(documents):
    without, offered, called = (list(column) for column in zip(*documents, strict=True))
    split = terms(np.array(without), np.array(offered), called)
    assert tuple(split) == TERMS
    assert sum(split.values()) == pytest.approx(np.subtract(offered, without), abs=0)  # each document's, exactly
    means = [values.mean() for values in split.values()]
    assert sum(means) == pytest.approx(np.mean(offered) - np.mean(without), abs=1e-9)
    assert means[0] >= 0 >= means[1] and means[2] >= 0 >= means[3]
    assert not any(split["call gain"][~np.array(called)]) and not any(split["schema harm"][called])


def test_the_table(pair):
    offered, without = pair
    shown = awares("diagnose", "--gain", offered, "--without", without, "--format", "csv").stdout
    rows = {row["benchmark"]: row for row in csv.DictReader(io.StringIO(shown.split("\n\n")[0]))}
    assert list(rows)[:3] == ["ChartQA", "POPE", "average"]
    chart, mean = rows["ChartQA"], rows["average"]
    assert (chart["n"], chart["calls"]) == ("8", "0.625")
    assert chart["score without"] == chart["score offered"] == "50.00"
    assert chart["call gain"].startswith("25.00 [") and chart["schema harm"].startswith("-12.50 [")
    # means over benchmarks: (0 + 5) / 2, (25 + 7.5) / 2, …
    assert [mean[name].split()[0] for name in ("gap", *TERMS)] == ["2.50", "16.25", "-12.50", "6.25", "-7.50"]
    low, high = (float(end) for end in chart["gap"].split("[")[1].rstrip("]").split(", "))
    assert low < 0 < high


def test_intervals_are_paired():
    """Where every document gains the same, nothing is uncertain, however its scores vary."""
    without = np.linspace(0, 0.5, 30)
    split = terms(without, without + 0.25, [True] * 30)
    assert bounds([split["call gain"]]) == pytest.approx((25, 25))
    assert bounds([split["call harm"]]) == (0, 0)
    # against the normal interval of a mean of differences
    change = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 400)
    low, high = bounds([change])
    reach = 1.96 * 100 * change.std() / 20
    assert (low, high) == pytest.approx((100 * change.mean() - reach, 100 * change.mean() + reach), abs=0.8)


def test_documents_that_failed_in_both_are_left_out(tmp_path):
    lost = [failed()]
    offered = write(tmp_path / "with", {CHART: with_tool()[CHART] + lost})
    without = write(tmp_path / "without", {CHART: baseline()[CHART] + lost}, model="qwen2_5_vl_lowres")
    assert len(gains(read_source(offered), read_source(without))[CHART]) == 8


CHANGES = {
    "swapped": (baseline(), with_tool(), "--without was offered a tool; it takes qwen2_5_vl_lowres or awares with"),
    "no tool": (baseline(), baseline(), "--gain was offered no tool; it takes awares or visionthink"),
    "task": (with_tool(), baseline({CHART: WORKED[CHART]}), "awares_pope: only in --gain"),
    "documents": (
        with_tool({CHART: WORKED[CHART], POPE: WORKED[POPE][:3]}),
        baseline(),
        "awares_pope: missing samples: 1 (document 3) in --without only",
    ),
    "failed": (
        with_tool() | {CHART: [*with_tool()[CHART][:7], failed()]},
        baseline(),
        "awares_chartqa: missing samples: 1 (document 7) failed in --gain only",
    ),
    "image": (with_tool(), baseline(image_size=[7, 7]), "different data: 8 (document 0, 1, 2, 3, 4, …) with another"),
    "view": (with_tool(), baseline(view="full"), "another first view: full in --without, lowres in --gain"),
    "pruner": (
        with_tool(method="awares+visionzip@0.7"),
        baseline(),
        "another pruner: none in --without, visionzip@0.7 in --gain",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_runs_that_do_not_compare(name, tmp_path, monkeypatch, capsys):
    offered, without, words = CHANGES[name]
    folders = write(tmp_path / "with", offered), write(tmp_path / "without", without)
    refused(monkeypatch, capsys, words, "--gain", folders[0], "--without", folders[1])


def refused(monkeypatch, capsys, words, *arguments):
    code, err = exit_of(monkeypatch, capsys, "diagnose", *arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1


def test_other_checkpoints_and_limits_do_not_compare(pair, tmp_path, monkeypatch, capsys):
    offered, _ = pair
    for conditions, words in (
        ({"revision": "another"}, "another checkpoint: another in --without, x in --gain"),
        ({"max_pixels": 9}, "another limits (min_pixels, max_pixels, lowres_base)"),
    ):
        other = write(tmp_path / words[:18], baseline(), conditions=conditions)
        refused(monkeypatch, capsys, words, "--gain", offered, "--without", other)


def test_arguments(pair, monkeypatch, capsys):
    offered, without = pair
    refused(monkeypatch, capsys, "--gain RUN and --without RUN go together", "--gain", offered)
    refused(monkeypatch, capsys, "--gain RUN and --without RUN go together", "--without", without)
    both = ("--gain", offered, "--without", without)
    refused(monkeypatch, capsys, f"leave out the run {offered}", offered, *both)
    refused(monkeypatch, capsys, "leave out --labels", *both, "--labels", "mini")
    refused(monkeypatch, capsys, "give a result folder, or two with --gain RUN --without RUN")


def test_what_else_differs_is_noted(pair, tmp_path):
    offered, _ = pair
    other = write(tmp_path / "bf16", baseline(), conditions={"dtype": "bfloat16"})
    notes = gain_table(read_source(offered), read_source(other)).notes
    assert any("rows differ in dtype" in note for note in notes)


@pytest.mark.long
def test_the_shipped_checkpoint_reads_its_crops(tmp_path):
    """On the mini suite the gain is the crops'; with other pixels in their place, noise around low-res is left."""
    runs = {"true": "", "blank": ",crops=blank", "shuffled": ",crops=shuffled", "other": ",crops=other"}
    runs |= {"oracle": ",policy=oracle", "lowres": ""}
    for name, arguments in runs.items():
        model = "qwen2_5_vl_lowres" if name == "lowres" else "awares"
        command = ["--model", model, "--model_args", f"pretrained={shipped()}{arguments}", "--tasks", "awares_mini"]
        command += ["--device", "cpu", "--batch_size", "16", "--output_path", str(tmp_path / name)]
        subprocess.run([sys.executable, "-m", "lmms_awares", "eval", *command], check=True, capture_output=True)
    sources = {name: read_source(tmp_path / name) for name in runs}
    without = sources.pop("lowres")
    base = without.summary.set_index("task")["score"]
    found = {name: gains(source, without) for name, source in sources.items()}
    gaps = {}
    for name, frames in found.items():
        scores = sources[name].summary.set_index("task")["score"]
        for task, frame in frames.items():
            gap = (scores[task] - base[task]) / 100
            assert frame[list(TERMS)].mean().sum() == pytest.approx(gap, abs=1e-9)
        gaps[name] = bounds([(frame["offered"] - frame["without"]).to_numpy() for frame in frames.values()])
    assert gaps["true"][0] > 30 and gaps["oracle"][0] > 30
    for name in ("blank", "shuffled", "other"):
        low, high = gaps[name]
        assert low < 0 < high and high - low < 6, name
    for task, frame in found["oracle"].items():  # whatever a call harmed has a wrong answer that calls for it
        rows = {row["doc_id"]: (row, trace) for row, trace in sources["oracle"].run.samples(task)}
        for doc_id in frame.index[frame["call harm"] < 0]:
            row, trace = rows[doc_id]
            assert trace.called and trace.tool_call.forced and row["score"] < frame["without"][doc_id]
    harmed = sum((frame["call harm"] < 0).sum() for frame in found["oracle"].values())
    assert harmed <= 2
