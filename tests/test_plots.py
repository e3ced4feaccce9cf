"""The figures: what they show, that nothing covers a label, and their files."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from report_runs import CHART, POPE, awares, exit_of, sample, write

from lmms_awares.models.policies import CONTROLS
from lmms_awares.pruning import PRUNERS
from lmms_awares.report.figures import looks, plots
from lmms_awares.report.figures.latency import latency
from lmms_awares.report.figures.method_looks import look_of
from lmms_awares.report.figures.pareto import averages, pareto, pareto_front
from lmms_awares.report.figures.point_labels import place_labels
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.tables.paper import paper_table


@pytest.fixture
def runs(tmp_path):
    """Three policies over two benchmarks."""
    made = []
    for index, policy in enumerate(("never", "random", "model")):
        rows = [
            sample(index / 2, rtr=0.25 * (index + 1), ids=["0"] if index else None, image_size=[90 + i, 50 * i + 50])
            for i in range(3)
        ]
        for row in rows:
            row["awares"]["policy"] = policy
        made.append(write(tmp_path / policy, {POPE: rows, CHART: rows}))
    return made


def test_pareto_front_against_brute_force():
    generator = np.random.default_rng(0)
    values = np.round(generator.random((60, 2)), 1)  # with ties
    points = pd.DataFrame(values, columns=["rtr", "score"])
    front = pareto_front(points)
    beaten = [any((q[0] <= p[0] and q[1] > p[1]) or (q[0] < p[0] and q[1] >= p[1]) for q in values) for p in values]
    best = {tuple(p) for p, worse in zip(values, beaten, strict=True) if not worse}
    assert {tuple(p) for p in front.to_numpy()} == best
    assert front["rtr"].is_monotonic_increasing
    assert front["score"].is_monotonic_increasing


def named_runs(folder, names, *, tasks=(POPE,), latencies=(1.0,), rtr=None, scores=None):
    """A run per method name, with a sample per latency."""
    made = []
    for index, name in enumerate(names):
        place, score = (rtr or {}).get(name, 0.04 * (index + 1)), (scores or {}).get(name, index / len(names))
        rows = [sample(score, rtr=place, latency=latency, ids=["0"]) for latency in latencies]
        for row in rows:
            # a trace says its method since schema 3
            row["awares"] |= {"schema_version": 3, "method": name, "view": "full", "images": 1}
        made.append(write(folder / str(index), dict.fromkeys(tasks, rows)))
    return made


def test_looks_follow_from_the_name_alone(tmp_path):
    """Whatever else is drawn, in either order; ratios look alike, controls are hollow."""
    names = ["visionzip@0.5", "awares", "pruned+random@0.7"]
    colours = []
    for shown in (names, names[::-1], ["qwen2_5_vl_full", *names]):
        (axes,) = pareto(collect(named_runs(tmp_path / str(len(colours)), shown))).axes
        drawn = [points for points in axes.collections if len(points.get_offsets())]
        edges = {name: points.get_edgecolor().tolist() for name, points in zip(shown, drawn, strict=True)}
        faces = {name: points.get_facecolor().tolist() for name, points in zip(shown, drawn, strict=True)}
        colours.append([(edges[name], faces[name]) for name in names])
    assert colours[0] == colours[1] == colours[2]
    assert colours[0][2][1] == []  # a control: no face
    assert look_of("visionzip@0.5") == look_of("visionzip@0.7") == look_of("pruned+visionzip@0.7")
    assert look_of("awares+visionzip@0.7") != look_of("visionzip@0.7")


def test_every_method_has_a_look_of_its_own_in_grey_too():
    """Those of the demonstration and their kin: markers differ, or shades do."""
    pruners = [f"pruned+{name}@0.5" for name in PRUNERS]
    models = ["awares", "qwen2_5_vl_full", "qwen2_5_vl_lowres", "visionthink", "awares+visionzip@0.7"]
    found = [look_of(name) for name in [*models, *pruners, *(f"awares:{policy}" for policy in CONTROLS)]]
    for a, b in itertools.combinations(found, 2):
        shades = [np.dot(to_rgb(look.colour), [0.299, 0.587, 0.114]) for look in (a, b)]
        assert (a.marker, a.hollow) != (b.marker, b.hollow) or abs(shades[0] - shades[1]) > 0.1
        assert (a.hatch, a.hollow) != (b.hatch, b.hollow) or abs(shades[0] - shades[1]) > 0.05
    assert {look.colour for look in found} == {*looks.COLOURS, "#999999"}


def test_one_line_through_the_ratios_of_a_method(tmp_path):
    names = ["visionzip@0.7", "holov@0.5", "pruned+visionzip@0.5"]
    (axes,) = pareto(collect(named_runs(tmp_path, names))).axes
    (line,) = [line.get_xydata() for line in axes.lines if line.get_label() == "_ratios"]
    assert line == pytest.approx(np.array([[0.04, 0], [0.12, 200 / 3]]))


def test_no_line_through_two_checkpoints(tmp_path):
    names = ["visionzip@0.7", "visionzip@0.7", "visionzip@0.5"]
    (axes,) = pareto(collect(named_runs(tmp_path, names))).axes
    assert [line for line in axes.lines if line.get_label() == "_ratios"] == []


def test_identical_points_stand_side_by_side(tmp_path):
    """Markers do not cover each other, and each is tied to its place."""
    names = ["awares", "visionzip@0.5", "holov@0.5", "qwen2_5_vl_full"]
    at = dict.fromkeys(names[:3], 0.5) | {names[3]: 1.0}
    runs = named_runs(tmp_path, names, rtr=at, scores=dict.fromkeys(names[:3], 0.75) | {names[3]: 1.0})
    (axes,) = pareto(collect(runs)).axes
    offsets = [tuple(points.get_offsets()[0]) for points in axes.collections if len(points.get_offsets())]
    spots = axes.transData.transform(offsets)
    distances = [np.hypot(*(a - b)) for a, b in itertools.combinations(spots, 2)]
    assert min(distances) > 8 * axes.figure.dpi / 72  # the markers' width
    ties = [line.get_xydata() for line in axes.lines if line.get_label() == "_tie"]
    assert all(tie[0].tolist() == [0.5, 75] for tie in ties)
    assert len(ties) == 2  # of three, the middle one is at its place
    assert offsets[3] == (1.0, 100)


def test_more_than_ten_points_are_named_in_a_legend(tmp_path):
    names = [*(f"pruned+{name}@0.5" for name in PRUNERS), *(f"pruned+{name}@0.7" for name in PRUNERS)]
    figure = pareto(collect(named_runs(tmp_path, names)))
    (legend,) = figure.legends
    told = [text.get_text() for text in legend.get_texts()]
    assert [text for text in told if "@" in text] == [f"{name} @ 0.5, 0.7" for name in PRUNERS]


def test_more_than_eight_rows_of_latency_lie_below_each_other(tmp_path):
    names = [f"awares:p{index}" for index in range(19)]
    figure = latency(collect(named_runs(tmp_path, names, tasks=(POPE, CHART), latencies=(1, 2, 4))))
    assert [axes.get_title() for axes in figure.axes] == ["average", "ChartQA", "POPE"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == names
    assert figure.legends == []
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        assert [bar.get_width() for container in axes.containers for bar in container] == [2] * 19


def test_latency_is_the_median_with_its_spread_on_a_logarithmic_axis(tmp_path):
    runs = named_runs(tmp_path, ["awares"], tasks=(POPE, CHART), latencies=(1, 2, 3, 4, 100))
    (axes,) = latency(collect(runs)).axes
    assert axes.get_yscale() == "log"
    assert [bar.get_height() for bar in axes.containers[0]] == [3, 3, 3]
    drawn = [segment[:, 1].tolist() for spread in axes.collections for segment in spread.get_segments()]
    assert drawn == [pytest.approx([1.4, 61.6])] * 2  # an average has no spread


def test_ratios_of_a_method_are_told_apart_as_bars(tmp_path):
    names = ["visionzip@0.5", "visionzip@0.7", "pruned+random@0.5", "pruned+random@0.7"]
    (axes,) = latency(collect(named_runs(tmp_path, names))).axes
    bars = [container.patches[0] for container in axes.containers]
    styles = {(bar.get_facecolor(), bar.get_edgecolor(), bar.get_linewidth()) for bar in bars}
    assert len(styles) == 4
    assert bars[0].get_hatch() == bars[1].get_hatch()


def test_more_than_eight_rows_of_crops_are_a_map(tmp_path):
    names = [f"awares:p{index}" for index in range(9)]
    axes = plots.crops(collect(named_runs(tmp_path, names))).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == names
    assert axes.images[0].get_array().tolist() == [[0, 100, *[0] * 9]] * 9
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["100"] * 9


def test_averages_need_every_benchmark(runs, tmp_path):
    alone = write(tmp_path / "alone", {POPE: [sample()]}, model="x")
    found = averages(collect([*runs, alone]))
    assert found.index.tolist() == ["awares:never", "awares:random", f"awares ({runs[2]})"]
    assert found.loc["awares:random"].tolist() == [0.5, 50]


def overlaps(labels, axes, points):
    """Pairs of texts that touch, and texts that cover a point."""
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    boxes = [label.get_window_extent(renderer) for label in labels]
    inside = axes.get_window_extent(renderer)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    pairs = sum(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    return pairs, sum(bool(box.contains(x, y)) for box in boxes for x, y in axes.transData.transform(points))


@pytest.mark.parametrize("seed", range(4))
def test_labels_do_not_overlap(seed):
    """Clusters of up to four points, some at the very same place."""
    generator = np.random.default_rng(seed)
    centres = generator.random((5, 2)) * [1, 90]
    points = [tuple(centre + generator.normal(0, [0.004, 0.4])) for centre in centres for _ in range(3)]
    points.append(points[-1])
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*zip(*points, strict=True))
    axes.margins(0.18)
    labels = place_labels(axes, points, [f"some_method@0.{i} (model)" for i in range(len(points))], [])
    assert overlaps(labels, axes, points) == (0, 0)


def test_labels_of_the_paper_do_not_overlap():
    frame = paper_table(1).frame
    points = list(zip(frame["Average", "RTR"].astype(float), frame["Average", "Acc"].astype(float), strict=True))
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*zip(*points, strict=True))
    axes.margins(0.18)
    labels = place_labels(axes, points, frame["", "Model"].tolist(), [])
    assert overlaps(labels, axes, points) == (0, 0)


def test_figures_are_written_and_reproducible(runs, tmp_path):
    shown = awares("plot", *runs, "-o", tmp_path / "a", "--paper").stdout.splitlines()
    names = ("pareto", "latency", "crops", "resolutions")
    assert shown == [str(tmp_path / "a" / f"{name}.{kind}") for name in names for kind in ("png", "svg", "pdf")]
    for name in names:
        image = np.asarray(Image.open(tmp_path / "a" / f"{name}.png").convert("L"))
        assert image.std() > 10  # something is drawn
    assert "<svg" in (tmp_path / "a" / "pareto.svg").read_text()
    assert (tmp_path / "a" / "crops.pdf").read_bytes().startswith(b"%PDF")
    for file in looks.save({"latency": latency(collect(runs))}, tmp_path / "b"):
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_bars_show_the_numbers(runs):
    """Heights by hand: `never` calls nothing and is left out; the others ask for top-left always."""
    (axes,) = plots.crops(collect(runs)).axes
    assert axes.get_legend_handles_labels()[1] == ["awares:random", "awares"]
    heights = [bar.get_height() for bar in axes.containers[0]]
    assert heights == [0, 100, *[0] * 9]
    (axes,) = latency(collect(runs)).axes
    assert [bar.get_height() for bar in axes.containers[0]] == [1, 1, 1]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["ChartQA", "POPE", "average"]


def test_oracle_stands_first(runs):
    known = pd.DataFrame({"task": POPE, "doc_id": [0, 1, 2], "hr": [True, True, False], "targets": ["1", "1", ""]})
    (axes,) = plots.crops(collect(runs), known).axes
    assert axes.get_legend_handles_labels()[1][0] == "oracle (labels)"
    assert [bar.get_height() for bar in axes.containers[0]][:4] == pytest.approx([100 / 3, 0, 200 / 3, 0])


def test_sizes_of_the_figure(runs):
    figure = plots.resolutions(collect(runs))
    counts = [collection.get_array().sum() for axes in figure.axes[:2] for collection in axes.collections]
    assert counts == [3, 3]


def test_what_cannot_be_drawn_is_said(runs, tmp_path):
    silent = write(tmp_path / "silent", {POPE: [sample()]})
    figures, missing = plots.draw(collect([silent]))
    assert list(figures) == ["pareto", "latency", "resolutions"]
    assert missing == ["crops is left out: no run calls for a crop, so there is no distribution to plot"]
    bare = write(tmp_path / "bare", {POPE: [{"score": 1.0}]})
    figures, missing = plots.draw(collect([bare]))
    assert not figures
    assert len(missing) == 4


def test_bad_input(runs, tmp_path, monkeypatch, capsys):
    mini = write(tmp_path / "mini", {"awares_mini_pope": [sample(), sample(ids=["1"])]})
    code, err = exit_of(monkeypatch, capsys, "plot", mini, "--paper", "-o", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "these runs of the mini suite" in err
    code, err = exit_of(monkeypatch, capsys, "plot", runs[0], "/nowhere", "-o", tmp_path / "out", "--keep-going")
    assert (code, "/nowhere is no folder" in err, "crops is left out" in err) == (2, True, True)
    assert (tmp_path / "out" / "pareto.png").is_file()


NAMES = {
    "one $": "a$b",
    "mathtext": "$x$ and $y_1$",
    "broken mathtext": r"$\frac{1}$",
    "escaped": r"\$5$ 100%_\alpha ^{",
    "two $": "two$$",
    "glyphs that the font lacks": "漢字🙂",
}
ODD_NAMES = {"line break": ("a\nb", r"a\nb")}


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", [*NAMES, *ODD_NAMES])
def test_names_of_folders_are_drawn_as_they_are(tmp_path, name):
    """In every figure and file type; matplotlib would take `$x$` for mathematics."""
    given, shown = ODD_NAMES.get(name, (NAMES.get(name), NAMES.get(name)))
    rows = [sample(0.5, ids=["0"], image_size=[90, 50])]
    lineup = collect([write(tmp_path / folder, {POPE: rows, CHART: rows}) for folder in ("plain", given)])
    figures, _ = plots.draw(lineup)
    looks.save(figures, tmp_path / "figures")
    assert len(list((tmp_path / "figures").iterdir())) == 4 * len(looks.FILE_TYPES)
    texts = [text for text in figures["pareto"].findobj(Text) if text.get_text().endswith(f"{shown})")]
    legends = [
        text for name in ("latency", "crops") for text in figures[name].findobj(Text) if shown in text.get_text()
    ]
    assert len(texts) == 1
    assert len(legends) == 2
    assert not any(text.get_parse_math() or text.get_usetex() for text in [*texts, *legends])
    svg = (tmp_path / "figures" / "pareto.svg").read_text(encoding="utf-8")
    if name == "mathtext":  # a comment of the file says what each group of glyphs is
        assert given in svg


def test_the_users_own_tex_is_left_alone(runs, tmp_path):
    with rc_context({"text.usetex": True}):
        looks.save(plots.draw(collect(runs))[0], tmp_path / "figures")
