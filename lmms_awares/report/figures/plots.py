"""The paper's figures from runs: accuracy against RTR (Fig. 1), latency (4), crops asked for (5), resolutions (8)."""

import textwrap
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lmms_awares.crops import CROPS
from lmms_awares.report.figures.latency import STANDING_ROWS, latency
from lmms_awares.report.figures.looks import (
    WIDTH,
    drawable,
    grouped_bars,
    legend_above,
    literally,
    new_figure,
    plain_title,
)
from lmms_awares.report.figures.method_looks import bars_of
from lmms_awares.report.figures.pareto import pareto
from lmms_awares.report.read.benchmarks import is_mini, title_of
from lmms_awares.report.read.content import same_samples
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.resolution_labels import labelled
from lmms_awares.report.read.samples import RunError, answered
from lmms_awares.report.tables.cdp import crop_shares
from lmms_awares.report.tables.conditions import mixtures
from lmms_awares.tasks.benchmarks import SUITES

_ORACLE = "oracle (labels)"
_SHARE = "% of samples that ask for it"
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
    which = "" if known is None else "labelled "
    over = f"the same {len(shared)} {which}samples for all, of {', '.join(map(plain_title, tasks))}"
    figure, axes = _crop_bars(lineup, bars) if len(bars) <= STANDING_ROWS else _crop_map(lineup, bars)
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_xlabel(textwrap.fill(over, WIDTH))
    return figure


def _crop_bars(lineup: Lineup, bars: dict[str, list[float]]) -> tuple[Figure, Axes]:
    """Draw the rows' shares in % as bars, in a group for each crop."""
    figure, axes = new_figure(lineup, 9.0, 4.2)
    styles = bars_of({row: lineup.methods[row] for row in bars if row in lineup.methods})
    styles |= {_ORACLE: {"facecolor": "w", "edgecolor": "k", "linewidth": 0.6}} if _ORACLE in bars else {}
    grouped_bars(axes, bars, styles, list(_CROPS))
    axes.set_ylabel(_SHARE)
    legend_above(figure, axes)
    return figure, axes


def _crop_map(lineup: Lineup, bars: dict[str, list[float]]) -> tuple[Figure, Axes]:
    """Draw the rows' shares in % as shades with their numbers, a line for each row."""
    figure, axes = new_figure(lineup, 9.0, 1.8 + 0.28 * len(bars))
    shares = np.array(list(bars.values()))
    shades = axes.imshow(shares, cmap="cividis_r", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        ink = "w" if share > 50 else "k"
        axes.text(column, row, f"{share:.0f}" if share else "", color=ink, fontsize=8, ha="center", va="center")
    axes.set_xticks(range(len(_CROPS)), _CROPS)
    axes.set_yticks(range(len(bars)), list(map(drawable, bars)), fontsize=8.5)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(shades, ax=axes, label=_SHARE)
    return figure, axes


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
