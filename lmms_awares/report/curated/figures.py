"""Figures of a curated set: target crops (Fig. 5 left), resolutions (Fig. 8), labels."""

from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from lmms_awares.report.curated.frame import HR, LR, crop_distribution, labelled, placed
from lmms_awares.report.figures.looks import (
    COLOURS,
    HATCHES,
    bare_figure,
    by_position,
    drawable,
    grouped_bars,
    legend_above,
    literally,
)

_COUNTED = ("smallest target of each row", "every target")
_DOTS, _LEAST_DOT, _LARGEST_DOT = 1000, 5, 160  # pt^2: of all dots of a panel together; of one


def draw(frame: pd.DataFrame) -> dict[str, Figure]:
    """Draw every figure for which the set has something to show, by name.

    Args:
        frame: of `lmms_awares.report.curated.frame.frame_of`.
    """
    figures = {}
    if len(placed(frame)):
        figures["fig5_left"] = crops(placed(frame))
    sized = frame[frame["width"].notna()]
    if len(sized):
        figures["fig8"] = resolutions(sized)
    figures["labels"] = labels(frame)
    return figures


@literally
def crops(rows: pd.DataFrame) -> Figure:
    """Plot the share of rows by target crop, in % (Fig. 5 left). `rows`: of `placed`."""
    shares = [crop_distribution(rows, each=each) for each in (False, True)]
    bars = {name: [100 * share for share in of.values()] for name, of in zip(_COUNTED, shares, strict=True)}
    figure, axes = bare_figure(9.0, 4.0)
    grouped_bars(axes, bars, by_position(_COUNTED), list(shares[0]))
    for bars_of in axes.containers:
        axes.bar_label(
            cast(BarContainer, bars_of), fmt=lambda share: f"{share:.1f}" if share else "", fontsize=6.5, padding=1
        )
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_ylabel("% of rows")
    axes.set_xlabel(f"target crop; {len(rows)} rows of {rows['source'].nunique()} sources, no crop: label LR")
    legend_above(figure, axes)
    return figure


@literally
def resolutions(rows: pd.DataFrame) -> Figure:
    """Plot widths against heights in px, a panel for each source, on logarithmic axes (Fig. 8).

    Equal sizes are one dot, whose area grows with their number. `rows`: with `width` and `height`.
    """
    sources = sorted(rows["source"].unique())
    columns = min(3, len(sources))
    lines = -(-len(sources) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.6, 2.7 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for index, (axes, source) in enumerate(zip(grid.flat, sources, strict=False)):
        counts = rows[rows["source"] == source].groupby(["width", "height"]).size()
        width, height = (counts.index.get_level_values(name).to_numpy() for name in ("width", "height"))
        area = np.clip(_DOTS * counts.to_numpy() / counts.sum(), _LEAST_DOT, _LARGEST_DOT)
        axes.scatter(width, height, s=area, color=COLOURS[index % 8], edgecolor="k", linewidth=0.2, alpha=0.6)
        axes.set(xscale="log", yscale="log")
        axes.set_title(drawable(f"{source}, {counts.sum()} images"), fontsize=9)
        axes.grid(color="0.9", which="both", zorder=0)
        axes.set_axisbelow(True)
    _ticks(grid[0, 0], rows)
    for place in range(len(sources), grid.size):
        grid.flat[place].set_visible(False)
        grid.flat[place - columns].tick_params(labelbottom=True)
    figure.supxlabel("width, px", fontsize=9)
    figure.supylabel("height, px", fontsize=9)
    return figure


def _ticks(axes: Axes, rows: pd.DataFrame) -> None:
    """Name round numbers on both axes, which all panels share; powers of ten would leave most of them bare."""
    for axis, side in ((axes.xaxis, "width"), (axes.yaxis, "height")):
        low, high = 0.8 * rows[side].min(), 1.25 * rows[side].max()
        steps = (1, 2, 5) if high > 6 * low else (1, 1.5, 2, 3, 4, 6, 8)
        named = [step * 10**power for power in range(6) for step in steps if low <= step * 10**power <= high]
        (axes.set_xlim if side == "width" else axes.set_ylim)(low, high)
        axis.set_major_locator(FixedLocator(named))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())


@literally
def labels(frame: pd.DataFrame) -> Figure:
    """Plot what became of the rows of each source, in % of them."""
    parts = {}
    for source, rows in reversed(list(frame.groupby("source"))):
        known = labelled(rows)
        hard, aside = int((known["label"] == HR).sum()), int(rows["aside"].notna().sum())
        parts[f"{source} ({len(rows)})"] = [len(known) - hard, hard, aside, len(rows) - len(known) - aside]
    counts = np.array(list(parts.values()), dtype=float)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    figure, axes = bare_figure(7.0, 1.3 + 0.45 * len(parts))
    places, left = np.arange(len(parts)), np.zeros(len(parts))
    for index, name in enumerate((LR, HR, "set aside", "open")):
        if not counts[:, index].any():
            continue
        axes.barh(
            places,
            shares[:, index],
            0.62,
            left=left,
            label=name,
            color=COLOURS[index],
            hatch=HATCHES[index],
            edgecolor="k",
            linewidth=0.6,
        )
        left += shares[:, index]
    axes.set_yticks(places, list(map(drawable, parts)))
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of a source's rows (number of rows)")
    axes.grid(visible=False)
    legend_above(figure, axes)
    return figure
