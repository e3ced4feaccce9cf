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

from lmms_awares.report.figures import looks, plots
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
    front = plots.pareto_front(points)
    beaten = [any((q[0] <= p[0] and q[1] > p[1]) or (q[0] < p[0] and q[1] >= p[1]) for q in values) for p in values]
    best = {tuple(p) for p, worse in zip(values, beaten, strict=True) if not worse}
    assert {tuple(p) for p in front.to_numpy()} == best
    assert front["rtr"].is_monotonic_increasing
    assert front["score"].is_monotonic_increasing


def test_many_rows_all_look_different(tmp_path):
    """As many as the mini suite has methods, through the drawing itself."""
    runs = []
    for index in range(19):
        row = sample(index / 19, rtr=0.05 * (index + 1))
        row["awares"]["policy"] = f"p{index}"
        runs.append(write(tmp_path / str(index), {POPE: [row]}))
    figures, _ = plots.draw(collect(runs))
    bars = [container.patches[0] for container in figures["latency"].axes[0].containers]
    assert len(bars) == 19
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 19


def test_averages_need_every_benchmark(runs, tmp_path):
    alone = write(tmp_path / "alone", {POPE: [sample()]}, model="x")
    found = plots.averages(collect([*runs, alone]))
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
    for file in looks.save({"latency": plots.latency(collect(runs))}, tmp_path / "b"):
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_bars_show_the_numbers(runs):
    """Heights by hand: `never` calls nothing and is left out; the others ask for top-left always."""
    (axes,) = plots.crops(collect(runs)).axes
    assert axes.get_legend_handles_labels()[1] == ["awares:random", "awares"]
    heights = [bar.get_height() for bar in axes.containers[0]]
    assert heights == [0, 100, *[0] * 9]
    (axes,) = plots.latency(collect(runs)).axes
    assert [bar.get_height() for bar in axes.containers[0]] == [1, 1, 1]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["ChartQA", "POPE", "average"]


def test_oracle_stands_first(runs):
    known = pd.DataFrame({"task": POPE, "doc_id": [0, 1, 2], "hr": [True, True, False], "targets": ["1", "1", ""]})
    (axes,) = plots.crops(collect(runs), known).axes
    assert axes.get_legend_handles_labels()[1][0] == "oracle (labels)"
    assert [bar.get_height() for bar in axes.containers[0]][:4] == pytest.approx([100 / 3, 0, 200 / 3, 0])


def test_rows_differ_in_grey():
    """Of eight rows, no two look alike in grey: their hatches, markers or shades differ."""
    shades = [np.dot(to_rgb(colour), [0.299, 0.587, 0.114]) for colour in looks.COLOURS]
    assert len(set(looks.HATCHES)) == len(set(looks.MARKERS)) == len(shades)
    assert min(abs(a - b) for a, b in itertools.pairwise(shades)) > 0.05  # neighbours differ in shade too


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
