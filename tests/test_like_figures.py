"""What a figure sets side by side: the same benchmarks and documents, controls apart, and n beside it."""

import json

import pandas as pd
import pytest
from report_runs import CHART, POPE, exit_of, failed, sample, write

from lmms_awares.report.figures import plots
from lmms_awares.report.figures.latency import latency
from lmms_awares.report.figures.pareto import averages, pareto
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.summary import is_control

SIX = [f"awares_{name}" for name in ("chartqa", "docvqa_val", "ocrbench", "pope", "realworldqa", "vstar_bench")]


def policy(name, score, rtr, **fields):
    """Two samples of a policy of awares."""
    rows = [sample(score, rtr=rtr, **fields) for _ in range(2)]
    for row in rows:
        row["awares"]["policy"] = name
    return rows


@pytest.mark.parametrize(
    ("method", "control"),
    [
        ("awares", False),
        ("qwen2_5_vl_lowres", False),
        ("visionzip@0.7", False),
        ("pruned+visionzip@0.7", False),
        ("awares+visionzip@0.7", False),
        ("awares:never", True),
        ("awares:always_full", True),
        ("awares:oracle", True),
        ("awares:random", True),
        ("awares:oracle+holov@0.7", True),
        ("pruned+random@0.7", True),
        ("pruned+downsample@0.5", True),
    ],
)
def test_controls(method, control):
    assert is_control(method) is control


def test_controls_are_hollow_and_no_part_of_the_front(tmp_path):
    """The oracle beats everything, and reads the labels."""
    given = {"model": (0.5, 0.5), "oracle": (1.0, 0.3), "random": (0.4, 0.2)}
    runs = [write(tmp_path / name, {POPE: policy(name, *values)}) for name, values in given.items()]
    low = [sample(0.25, rtr=0.25, model="qwen2_5_vl_lowres", policy=None) for _ in range(2)]
    runs.append(write(tmp_path / "low", {POPE: low}, model="qwen2_5_vl_lowres"))
    (axes,) = pareto(collect(runs)).axes
    (front,) = axes.lines
    assert front.get_xydata().tolist() == [[0.25, 25], [0.5, 50]]
    filled = {
        tuple(points.get_offsets()[0].tolist()): points.get_facecolor().size > 0
        for points in axes.collections
        if len(points.get_offsets())
    }
    assert filled == {(0.5, 50): True, (0.3, 100): False, (0.2, 40): False, (0.25, 25): True}
    assert axes.get_legend_handles_labels()[1] == ["Pareto front", "control: fixed or random choice, or by the labels"]


def test_benchmarks_and_n_stand_on_the_axes(tmp_path):
    one = write(tmp_path / "one", {POPE: policy("model", 1.0, 0.5, ids=["0"]), CHART: [sample(ids=["1"]), failed()]})
    other = [sample(ids=["0"], model="visionzip", policy=None) for _ in range(2)]
    two = write(tmp_path / "two", {POPE: other, CHART: other}, model="visionzip")
    lineup = collect([one, two])
    for figure in (pareto(lineup), latency(lineup)):
        assert "averages over ChartQA, POPE; n = 3 to 4 samples" in figure.axes[0].get_xlabel()
    assert plots.crops(lineup).axes[0].get_xlabel() == "the same 3 samples for all, of ChartQA, POPE"


def test_published_averages_only_beside_the_same_six(tmp_path, monkeypatch, capsys):
    six = write(tmp_path / "six", {task: policy("model", 1.0, 0.5) for task in SIX})
    two = write(tmp_path / "two", {task: policy("model", 1.0, 0.5) for task in SIX[:2]})
    seven = write(tmp_path / "seven", {task: policy("model", 1.0, 0.5) for task in [*SIX, "mmmu_val"]})
    for run, names, over in ((six, True, ""), (two, False, "ChartQA, DocVQA"), (seven, False, "V* Bench, mmmu_val")):
        figures, missing = plots.draw(collect([run]), paper=True)
        texts = figures["pareto"].axes[0].get_legend_handles_labels()[1]
        assert ("published" in texts) is names
        reasons = [line for line in missing if line.startswith("published points are left out: they average all six")]
        assert len(reasons) == (not names)
        assert all(line.endswith(over) for line in reasons)
    code, err = exit_of(monkeypatch, capsys, "plot", two, "--paper", "-o", tmp_path / "out")
    assert (code, "awares: published points are left out" in err) == (0, True)


def test_bars_of_labelled_documents_are_of_the_same_ones(tmp_path, monkeypatch, capsys):
    """Labels for documents 0 to 2; the second run failed on 2, and asks for other crops where there is no label."""
    ask = [sample(ids=["0"]), sample(), sample(ids=["0"]), sample(ids=["3"])]
    other = [sample(ids=["1"], policy="random"), sample(ids=["1"], policy="random"), failed(), sample(ids=["2"])]
    runs = [write(tmp_path / "a", {POPE: ask, CHART: ask}), write(tmp_path / "b", {POPE: other, CHART: other})]
    labels = tmp_path / "labels.jsonl"
    lines = [
        {"task": POPE, "doc_id": i, "label": "HR" if i == 0 else "LR", "targets": ["0"] * (i == 0)} for i in (0, 1, 2)
    ]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    known = pd.DataFrame({"task": POPE, "doc_id": [0, 1, 2], "hr": [True, False, False], "targets": ["0", "", ""]})
    (axes,) = plots.crops(collect(runs), known).axes
    bars = {bar.get_label(): [patch.get_height() for patch in bar][:3] for bar in axes.containers}
    assert bars == {"oracle (labels)": [50, 50, 0], "awares": [50, 50, 0], "awares:random": [0, 0, 100]}
    assert axes.get_xlabel() == "the same 2 labelled samples for all, of POPE"
    assert exit_of(monkeypatch, capsys, "plot", *runs, "--labels", labels, "-o", tmp_path / "out")[0] == 0


def test_no_bars_where_the_rows_share_no_document(tmp_path):
    """The second row failed on the only one."""
    runs = [
        write(tmp_path / "a", {POPE: [sample(ids=["0"])]}),
        write(tmp_path / "b", {POPE: [failed(), sample(ids=["0"], policy="random")]}),
    ]
    figures, missing = plots.draw(collect(runs))
    assert "crops" not in figures
    assert (
        "crops is left out: there is no sample that all rows answered, so there is no distribution to plot" in missing
    )


def test_rows_that_mix_conditions_are_no_point_and_no_average_bar(tmp_path, monkeypatch, capsys):
    low = [sample(0.25, model="qwen2_5_vl_lowres", policy=None)]
    runs = [
        write(tmp_path / "pope", {POPE: [sample()]}),
        write(tmp_path / "chart", {CHART: [sample()]}, conditions={"max_pixels": 30000}),
        write(tmp_path / "low", {POPE: low, CHART: low}, model="qwen2_5_vl_lowres"),
        write(tmp_path / "half", {POPE: [sample(model="holov", policy=None)]}, model="holov"),
    ]
    lineup = collect(runs)
    assert averages(lineup).index.tolist() == ["qwen2_5_vl_lowres"]
    bars = {bar.get_label(): [patch.get_height() for patch in bar] for bar in latency(lineup).axes[0].containers}
    assert bars["qwen2_5_vl_lowres"] == [1, 1, 1]
    assert bars["awares"][:2] == [1, 1] and pd.isna(bars["awares"][2])
    code, err = exit_of(monkeypatch, capsys, "plot", *runs, "-o", tmp_path / "out")
    assert code == 0
    assert "awares: averages leave out awares: its conditions or documents do not compare" in err
    assert "awares: averages leave out holov: it lacks ChartQA" in err
    assert "awares: warning: max_pixels differs within awares" in err
