"""The paper's figures from runs: accuracy against RTR (Fig. 1), latency (4), crops asked for (5), resolutions (8)."""

import textwrap
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lmms_awares.crops import CROPS
from lmms_awares.report.figures.looks import (
    MARKERS,
    drawable,
    grouped_bars,
    legend_above,
    literally,
    looks_of,
    new_figure,
    plain_title,
)
from lmms_awares.report.figures.point_labels import place_labels
from lmms_awares.report.read.benchmarks import is_mini, title_of
from lmms_awares.report.read.content import same_samples
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.resolution_labels import labelled
from lmms_awares.report.read.samples import RunError, answered
from lmms_awares.report.read.summary import is_control
from lmms_awares.report.tables.cdp import crop_shares
from lmms_awares.report.tables.conditions import mixtures
from lmms_awares.report.tables.paper import paper_table
from lmms_awares.report.tables.table import numbers
from lmms_awares.tasks.benchmarks import SUITES

_ORACLE = "oracle (labels)"
_CONTROLS = "control: fixed or random choice, or by the labels"
_WIDTH = 100  # characters in a line below an axis
_CROPS = ("no crop", *(crop.name for crop in CROPS.values()))


def draw(
    lineup: Lineup, *, paper: bool = False, labels_of: Callable[[Source], pd.DataFrame] | None = None
) -> tuple[dict[str, Figure], list[str]]:
    """Draw all figures; return them by name, and a line for each omission with its reason.

    Args:
        lineup: the runs.
        paper: the published averages in the Pareto plot too, where the runs are over those very benchmarks.
        labels_of: gives a run's labels, for the oracle's bars among the crops.

    Raises:
        RunError: published points were asked for beside the mini suite, or there are no labels.
    """
    tasks = lineup.tasks
    if paper and any(map(is_mini, tasks)):
        raise RunError("--paper: the published points are of the real benchmarks, these runs of the mini suite")
    known = None if labels_of is None else _labels(lineup.sources, labels_of)
    figures, missing = {}, omissions(lineup)
    if paper and set(tasks) != {*SUITES["awares_suite"]}:
        over = ", ".join(map(title_of, tasks))
        missing.append(f"published points are left out: they average all six benchmarks, these runs {over}")
    for name, make in {
        "pareto": lambda: pareto(lineup, paper=paper and set(tasks) == {*SUITES["awares_suite"]}),
        "latency": lambda: latency(lineup),
        "crops": lambda: crops(lineup, known),
        "resolutions": lambda: resolutions(lineup),
    }.items():
        try:
            figures[name] = make()
        except RunError as error:
            missing.append(f"{name} is left out: {error}")
    return figures, missing


def _labels(sources: list[Source], labels_of: Callable[[Source], pd.DataFrame]) -> pd.DataFrame:
    """Return each document's label once; `labels_of` checks the runs' documents.

    Raises:
        RunError: no labels, or none of the first run's samples has one.
    """
    labelled(sources[0], labels_of(sources[0]))
    found = pd.concat([labels_of(source) for source in sources], ignore_index=True)
    return found.drop_duplicates(["task", "doc_id"])


def omissions(lineup: Lineup) -> list[str]:
    """List rows without an average that compares, one line each with the reason."""
    tasks = lineup.tasks
    mixed = mixtures(lineup)
    lines = []
    for row, frames in lineup.rows.items():
        lacking = [title_of(task) for task in tasks if task not in frames]
        if lacking:
            lines.append(f"averages leave out {row}: it lacks {', '.join(lacking)}")
        elif row in mixed.times:
            which = "" if row in mixed.scores else "latency's "
            lines.append(f"{which}averages leave out {row}: its conditions or documents do not compare")
    return lines


@literally
def pareto(lineup: Lineup, *, paper: bool = False) -> Figure:
    """Plot average score against average RTR of each row, and the Pareto front of the measured rows (Fig. 1).

    Controls are drawn hollow and are no part of the front.

    Args:
        lineup: the runs; rows that lack a benchmark or mix what does not compare are left out.
        paper: the published averages too, as crosses; only where the runs are over those six benchmarks.

    Raises:
        RunError: no row has an average.
    """
    points = averages(lineup)
    if points.empty:
        raise RunError(
            "no run has score and RTR for every benchmark under one set of conditions, so there is no average"
        )
    controls = points.index.map(lambda row: is_control(lineup.methods[row])).to_numpy(dtype=bool)
    figure, axes = new_figure(lineup, 7.0, 4.6)
    for index, (hollow, (rtr, score)) in enumerate(zip(controls, points.to_numpy(), strict=True)):
        colour, marker = looks_of(index, MARKERS)
        face, edge = ("none", colour) if hollow else (colour, "k")
        axes.scatter(rtr, score, s=60, marker=marker, facecolor=face, edgecolor=edge, zorder=3)
    named = [points]
    if paper:
        named.append(_published())
        axes.scatter(named[1]["rtr"], named[1]["score"], s=30, zorder=2, marker="x", color="0.35", label="published")
    front = pareto_front(points[~controls])
    axes.plot(front["rtr"], front["score"], color="0.4", linestyle="--", linewidth=1, zorder=1, label="Pareto front")
    if controls.any():
        axes.scatter([], [], s=60, facecolor="none", edgecolor="k", label=_CONTROLS)
    axes.set_xlabel(f"average RTR (measured visual tokens / full-resolution tokens)\n{_averaged(lineup, points.index)}")
    axes.set_ylabel("average score (0-100)")
    axes.margins(0.18)
    legend_above(figure, axes)
    everything = pd.concat(named)
    places = list(everything.itertuples(index=False, name=None))
    place_labels(axes, places, list(map(drawable, everything.index)), list(front.itertuples(index=False, name=None)))
    return figure


def _averaged(lineup: Lineup, rows: Iterable[str]) -> str:
    """Describe the averages: over which benchmarks, and over how many answered samples."""
    summary = lineup.summary
    counts = (summary["n"] - summary["failed"]).groupby(summary["row"]).sum()[list(rows)]
    n = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    titles = [plain_title(task) for task in lineup.tasks]
    return textwrap.fill(f"averages over {', '.join(titles)}; n = {n} samples", _WIDTH)


def _published() -> pd.DataFrame:
    table = paper_table(1).frame
    values = {"rtr": table["Average", "RTR"].astype(float), "score": table["Average", "Acc"].astype(float)}
    return pd.DataFrame(values).set_index(table["", "Model"] + " [paper]")


def averages(lineup: Lineup) -> pd.DataFrame:
    """Return `rtr` and `score`, averaged over benchmarks, of rows that have all of them under the same conditions."""
    summary, mixed = lineup.summary, mixtures(lineup)
    means = {}
    for row, group in summary.groupby("row", sort=False):
        values = numbers(group[["rtr", "score"]])
        if len(group) == len(lineup.tasks) and values.notna().all(axis=None) and row not in mixed.scores:
            means[row] = values.mean()
    return pd.DataFrame(means, index=["rtr", "score"]).T


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points that no other point beats in score at the same or a lower `rtr`, by rising `rtr`."""
    ordered = points.sort_values(["rtr", "score"], ascending=[True, False])
    best = ordered["score"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["score"] > best]


@literally
def latency(lineup: Lineup) -> Figure:
    """Plot the mean latency of each row in seconds, per benchmark and averaged, as bars (Fig. 4).

    A row that lacks a benchmark, or mixes what does not compare, has no average.

    Raises:
        RunError: no run was timed.
    """
    rows, tasks = lineup.rows, lineup.tasks
    mixed = mixtures(lineup)
    bars = {}
    for row, frames in rows.items():
        means = [answered(frames[task])["latency_s"].mean() if task in frames else np.nan for task in tasks]
        if not np.isnan(means).all():
            bars[row] = [*means, np.nan if row in mixed.times else float(np.mean(means))]
    if not bars:
        raise RunError("no run has a trace, so there is no latency to plot")
    figure, axes = new_figure(lineup, 9.0, 4.2)
    grouped_bars(axes, bars, list(rows), [*map(plain_title, tasks), "average"])
    axes.set_ylabel("mean latency per sample, s")
    axes.set_xlabel(_averaged(lineup, bars))
    legend_above(figure, axes)
    return figure


@literally
def crops(lineup: Lineup, known: pd.DataFrame | None = None) -> Figure:
    """Plot the crops that each row asks for, in % of the same samples for all (Fig. 5).

    Args:
        lineup: the runs, in stages; those that never call are left out, and those that lack a benchmark.
        known: labels (`lmms_awares.report.read.resolution_labels.read_labels`): the bars are then of labelled samples
            alone, with the oracle's targets first.

    Raises:
        RunError: nothing calls, or there is no sample that all rows answered.
    """
    tasks = [task for task in lineup.tasks if known is None or task in set(known["task"])]
    rows = lineup.rows
    calling = {
        row: frames
        for row, frames in rows.items()
        if all(task in frames for task in tasks) and any(frame["called"].any() for frame in frames.values())
    }
    if not calling:
        raise RunError("no run calls for a crop, so there is no distribution to plot")
    shared = same_samples([{task: answered(frames[task]) for task in tasks} for frames in calling.values()])
    if known is not None:
        shared = shared.intersection(pd.MultiIndex.from_frame(known[["task", "doc_id"]]))
    if shared.empty:
        raise RunError("there is no sample that all rows answered, so there is no distribution to plot")
    bars = {}
    if known is not None:
        oracle = known.set_index(["task", "doc_id"]).loc[shared]
        asked = pd.DataFrame({"called": oracle["hr"] & (oracle["targets"] != ""), "ids": oracle["targets"]})
        bars[_ORACLE] = [100 * share for share in crop_shares(asked).values()]
    for row, frames in calling.items():
        samples = pd.concat([frames[task].assign(task=task) for task in tasks]).set_index(["task", "doc_id"])
        bars[row] = [100 * share for share in crop_shares(samples.loc[shared]).values()]
    figure, axes = new_figure(lineup, 9.0, 4.2)
    grouped_bars(axes, bars, list(rows), list(_CROPS))
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_ylabel("% of samples that ask for it")
    which = "" if known is None else "labelled "
    over = f"the same {len(shared)} {which}samples for all, of {', '.join(map(plain_title, tasks))}"
    axes.set_xlabel(textwrap.fill(over, _WIDTH))
    legend_above(figure, axes)
    return figure


@literally
def resolutions(lineup: Lineup) -> Figure:
    """Plot widths and heights in px of each benchmark's images, counted in hexagons (Fig. 8).

    Raises:
        RunError: no trace says how large they are.
    """
    sizes = {}
    for task, rows in lineup.frames.items():
        holders = rows.values()
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
