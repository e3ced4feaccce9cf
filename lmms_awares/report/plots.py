"""The paper's figures from runs: accuracy against RTR (Fig. 1), latency (4), crops asked for (5), resolutions (8).

Colours are Okabe and Ito's, which colour-blind eyes tell apart; markers, hatches and labels say the same in grey.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lmms_awares.crops import CROPS
from lmms_awares.report.collect import Source, by_row, in_order, is_mini, summary_of, title_of
from lmms_awares.report.kinds import answered, crop_shares
from lmms_awares.report.labelling import place_labels
from lmms_awares.report.paper import paper_table
from lmms_awares.report.runs import RunError
from lmms_awares.report.tables import numbers

# In this order neighbours differ in brightness too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#F0E442", "#CC79A7", "#333333")
_ORACLE = "oracle (labels)"
_HATCHES = ("", "///", "...", "\\\\\\", "xx", "---", "++", "oo")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_CROPS = ("no crop", *(crop.name for crop in CROPS.values()))
FILE_TYPES = ("png", "svg", "pdf")
# A decorator: names of runs are folders' names, in which $ and backslashes mean nothing.
_literally = rc_context({"text.usetex": False, "text.parse_math": False})


def draw(
    sources: list[Source], *, paper: bool = False, oracle: pd.DataFrame | None = None
) -> tuple[dict[str, Figure], list[str]]:
    """All figures by name, and why one could not be drawn.

    Args:
        sources, paper, oracle: as the figures' own functions take them.

    Raises:
        RunError: published points were asked for beside the mini suite.
    """
    if paper and any(is_mini(task) for source in sources for task in source.frames):
        raise RunError("--paper: the published points are of the real benchmarks, these runs of the mini suite")
    figures, missing = {}, []
    for name, make in {
        "pareto": lambda: pareto(sources, paper=paper),
        "latency": lambda: latency(sources),
        "crops": lambda: crops(sources, oracle),
        "resolutions": lambda: resolutions(sources),
    }.items():
        try:
            figures[name] = make()
        except RunError as error:
            missing.append(f"{name} is left out: {error}")
    return figures, missing


@_literally
def pareto(sources: list[Source], *, paper: bool = False) -> Figure:
    """Average score against average RTR of each row, and the Pareto front of what was measured (Fig. 1).

    Args:
        sources: the runs; rows that lack a benchmark are left out, as they have no average.
        paper: the published averages too, as open markers.

    Raises:
        RunError: no row with all benchmarks.
    """
    points = averages(sources)
    if points.empty:
        raise RunError("no run has score and RTR for every benchmark, so there is no average to plot")
    figure, axes = _figure(sources, 7.0, 4.6)
    for index, (_, (rtr, score)) in enumerate(points.iterrows()):
        colour, marker = _looks(index, _MARKERS)
        axes.scatter(rtr, score, s=60, marker=marker, color=colour, edgecolor="k", zorder=3)
    named = [points]
    if paper:
        named.append(_published())
        axes.scatter(
            named[1]["rtr"], named[1]["score"], s=40, zorder=2, facecolor="white", edgecolor="0.35", label="published"
        )
    front = pareto_front(points)
    axes.plot(front["rtr"], front["score"], color="0.4", linestyle="--", linewidth=1, zorder=1, label="Pareto front")
    axes.set_xlabel("average RTR (measured visual tokens / full-resolution tokens)")
    axes.set_ylabel("average score (0-100)")
    axes.margins(0.18)
    _legend_above(figure, axes)
    everything = pd.concat(named)
    places = list(everything.itertuples(index=False, name=None))
    place_labels(axes, places, list(map(_drawable, everything.index)), list(front.itertuples(index=False, name=None)))
    return figure


def _published() -> pd.DataFrame:
    table = paper_table(1).frame
    values = {"rtr": table["Average", "RTR"].astype(float), "score": table["Average", "Acc"].astype(float)}
    return pd.DataFrame(values).set_index(table["", "Model"] + " [paper]")


def averages(sources: list[Source]) -> pd.DataFrame:
    """`rtr` and `score`, averaged over benchmarks, of each row that has all of them."""
    summary = summary_of(sources)
    tasks = summary["task"].nunique()
    means = {}
    for row, group in summary.groupby("row", sort=False):
        values = numbers(group[["rtr", "score"]])
        if len(group) == tasks and values.notna().all(axis=None):
            means[row] = values.mean()
    return pd.DataFrame(means, index=["rtr", "score"]).T


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """Points that no other one beats in score at the same or a lower `rtr`, by rising `rtr`."""
    ordered = points.sort_values(["rtr", "score"], ascending=[True, False])
    best = ordered["score"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["score"] > best]


@_literally
def latency(sources: list[Source]) -> Figure:
    """Mean latency of each row, per benchmark and averaged, as bars (Fig. 4).

    Raises:
        RunError: no run was timed.
    """
    rows = by_row(sources)
    tasks = in_order(task for frames in rows.values() for task in frames)
    bars = {}
    for row, frames in rows.items():
        means = [answered(frames[task])["latency_s"].mean() if task in frames else np.nan for task in tasks]
        if not np.isnan(means).all():
            bars[row] = [*means, float(np.mean(means))]
    if not bars:
        raise RunError("no run has a trace, so there is no latency to plot")
    figure, axes = _figure(sources, 9.0, 4.2)
    _grouped_bars(axes, bars, list(rows), [*map(_plain_title, tasks), "average"])
    axes.set_ylabel("mean latency per sample, s")
    _legend_above(figure, axes)
    return figure


@_literally
def crops(sources: list[Source], oracle: pd.DataFrame | None = None) -> Figure:
    """What each row asks for, in % of its samples (Fig. 5).

    Args:
        sources: the runs, in stages; those that never call are left out.
        oracle: labelled samples (`lmms_awares.report.labels.labelled`), whose targets stand first.

    Raises:
        RunError: nothing calls.
    """
    bars = {}
    if oracle is not None:
        asked = pd.DataFrame({"called": oracle["hr"] & (oracle["targets"] != ""), "ids": oracle["targets"]})
        bars[_ORACLE] = [100 * share for share in crop_shares(asked).values()]
    rows = by_row(sources)
    for row, frames in rows.items():
        samples = pd.concat([answered(frame) for frame in frames.values()])
        traced = samples[samples["traced"]]
        if traced["called"].any():
            bars[row] = [100 * share for share in crop_shares(traced).values()]
    if not bars:
        raise RunError("no run calls for a crop, so there is no distribution to plot")
    figure, axes = _figure(sources, 9.0, 4.2)
    _grouped_bars(axes, bars, list(rows), list(_CROPS))
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_ylabel("% of samples that ask for it")
    _legend_above(figure, axes)
    return figure


@_literally
def resolutions(sources: list[Source]) -> Figure:
    """Widths and heights of each benchmark's images, counted in hexagons (Fig. 8).

    Raises:
        RunError: no trace says how large they are.
    """
    tasks = in_order(task for source in sources for task in source.frames)
    sizes = {}
    for task in tasks:
        holders = [source.frames[task] for source in sources if task in source.frames]
        known = max((frame[["width", "height"]].dropna() for frame in holders), key=len)
        if len(known):
            sizes[task] = known
    if not sizes:
        raise RunError("no run has a trace, so the images' sizes are unknown")
    columns = min(3, len(sizes))
    lines = -(-len(sizes) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.8, 2.9 * lines + 0.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    most = max(len(size) for size in sizes.values())
    for axes, (task, size) in zip(grid.flat, sizes.items(), strict=False):
        shades = axes.hexbin(
            size["width"], size["height"], gridsize=24, mincnt=1, cmap="cividis_r", norm=LogNorm(1, max(most, 2))
        )
        axes.set_title(f"{title_of(task)}, {len(size)} images", fontsize=9)
        axes.margins(0.1)
    for axes in list(grid.flat)[len(sizes) :]:
        axes.set_visible(False)
    figure.supxlabel("width, px", fontsize=9)
    figure.supylabel("height, px", fontsize=9)
    figure.colorbar(shades, ax=grid, label="images", shrink=0.8)
    return figure


@_literally
def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as PNG, SVG and PDF; the same figures give the same bytes.

    Raises:
        RunError: the folder cannot be written.
    """
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with rc_context({"svg.hashsalt": "lmms-awares"}):
            for name, figure in figures.items():
                for kind in FILE_TYPES:
                    figure.savefig(folder / f"{name}.{kind}", dpi=150, metadata=undated[kind])
                    written.append(folder / f"{name}.{kind}")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}; give another folder") from None
    return written


def _figure(sources: list[Source], width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", zorder=0)
    axes.set_axisbelow(True)
    if any(is_mini(task) for source in sources for task in source.frames):
        axes.set_title("mini suite: a demonstration, not a result", fontsize=9, loc="left")
    return figure, axes


def _grouped_bars(axes: Axes, bars: dict[str, list[float]], rows: list[str], names: list[str]) -> None:
    """Bars of each row beside each other; a row has the same looks in every figure."""
    places, width = np.arange(len(names)), 0.84 / len(bars)
    for index, (row, heights) in enumerate(bars.items()):
        offset = (index - (len(bars) - 1) / 2) * width
        colour, hatch = _looks(rows.index(row), _HATCHES) if row in rows else ("w", "")
        axes.bar(
            places + offset,
            heights,
            width,
            label=_drawable(row),
            color=colour,
            hatch=hatch,
            edgecolor="k",
            linewidth=0.6,
        )
    axes.set_xticks(places, names)


def _drawable(name: str) -> str:
    """`name` with what no font draws, line breaks among it, written as an escape."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)


def _looks(index: int, shapes: tuple[str, ...]) -> tuple[str, str]:
    """Colour and hatch or marker of a row: every 8 rows the shapes move on by one, so that 64 rows differ."""
    return COLOURS[index % 8], shapes[(index + index // 8) % 8]


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)), frameon=False, fontsize=9)


def _plain_title(task: str) -> str:
    return title_of(task).removesuffix(" (mini)")
