"""Latency of each row, per benchmark and averaged (Fig. 4): medians with their spread, on a logarithmic axis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from lmms_awares.report.figures.looks import (
    averaged,
    demonstration,
    drawable,
    grouped_bars,
    legend_above,
    literally,
    new_figure,
    plain_title,
)
from lmms_awares.report.figures.method_looks import bars_of
from lmms_awares.report.read.lineup import Lineup
from lmms_awares.report.read.samples import RunError, answered
from lmms_awares.report.tables.conditions import mixtures

STANDING_ROWS = 8  # up to so many rows stand beside each other; more lie below each other, a panel for each benchmark
_QUANTILES = (0.1, 0.5, 0.9)
_QUANTITY = "median latency per sample, s (line: 10th to 90th percentile)"
# With a white seam, so that it shows on dark bars too.
_LINE: dict[str, Any] = {"color": "k", "linewidth": 1.2, "path_effects": [withStroke(linewidth=2.8, foreground="w")]}
_TICKS = [step * 10.0**power for power in range(-4, 6) for step in (1, 2, 5)]

Spread = tuple[float, float, float]  # median, low and high quantile of one row on one benchmark, s
_UNKNOWN: Spread = (np.nan, np.nan, np.nan)


@literally
def latency(lineup: Lineup) -> Figure:
    """Plot the median latency of each row in seconds with the 10th to 90th percentile, per benchmark, as bars (Fig. 4).

    The average is the mean of the benchmarks' medians; a row that lacks a benchmark, or mixes what does not compare,
    has none.

    Raises:
        RunError: no run was timed.
    """
    tasks, mixed = lineup.tasks, mixtures(lineup)
    bars: dict[str, list[Spread]] = {}
    for row, frames in lineup.rows.items():
        spreads = [
            _spread(answered(frames[task])["latency_s"].to_numpy(float)) if task in frames else _UNKNOWN
            for task in tasks
        ]
        if not all(np.isnan(spread[0]) for spread in spreads):
            average = np.nan if row in mixed.times else float(np.mean([spread[0] for spread in spreads]))
            bars[row] = [*spreads, (average, np.nan, np.nan)]
    if not bars:
        raise RunError("no run has a trace, so there is no latency to plot")
    styles = bars_of({row: lineup.methods[row] for row in bars})
    names = [*map(plain_title, tasks), "average"]
    return (_standing if len(bars) <= STANDING_ROWS else _lying)(lineup, bars, styles, names)


def _spread(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> Spread:
    """Return median and quantiles of what was timed; a time of zero is none."""
    timed = seconds[seconds > 0]
    if not len(timed):
        return _UNKNOWN
    low, median, high = map(float, np.quantile(timed, _QUANTILES))
    return median, low, high


def _standing(
    lineup: Lineup, bars: Mapping[str, list[Spread]], styles: Mapping[str, dict[str, Any]], names: list[str]
) -> Figure:
    """Draw the rows beside each other, in a group for each benchmark."""
    figure, axes = new_figure(lineup, 9.0, 4.2)
    axes.set_yscale("log")
    medians = {row: [spread[0] for spread in of] for row, of in bars.items()}
    for row, middles in grouped_bars(axes, medians, styles, names).items():
        for middle, (_, low, high) in zip(middles, bars[row], strict=True):
            if not np.isnan(low):
                axes.vlines(middle, low, high, **_LINE)
    _seconds(axes, axes.yaxis, bars)
    axes.set_ylabel(_QUANTITY.replace(" (", "\n("))
    axes.set_xlabel(averaged(lineup, list(bars)))
    legend_above(figure, axes)
    return figure


def _lying(
    lineup: Lineup, bars: Mapping[str, list[Spread]], styles: Mapping[str, dict[str, Any]], names: list[str]
) -> Figure:
    """Draw the rows below each other, in a panel for each benchmark, the average first."""
    figure = Figure(figsize=(2.4 + 1.45 * len(names), 1.4 + 0.24 * len(bars)), layout="constrained")
    panels = list(figure.subplots(1, len(names), sharey=True, sharex=True, squeeze=False).flat)
    places = np.arange(len(bars))
    for axes, column in zip(panels, [len(names) - 1, *range(len(names) - 1)], strict=True):
        axes.set_xscale("log")
        for place, (row, of) in enumerate(bars.items()):
            median, low, high = of[column]
            axes.barh(place, median, 0.74, label=drawable(row), **styles[row])
            if not np.isnan(low):
                axes.hlines(place, low, high, **_LINE)
        axes.set_title(names[column], fontsize=9, fontweight="bold" if column == len(names) - 1 else "normal")
        axes.grid(axis="x", color="0.9", zorder=0)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelsize=8)
    panels[0].set_yticks(places, list(map(drawable, bars)), fontsize=8.5)
    panels[0].set_ylim(len(bars) - 0.4, -0.6)
    _seconds(panels[0], panels[0].xaxis, bars)
    figure.supxlabel(f"{_QUANTITY}\n{averaged(lineup, list(bars))}", fontsize=9)
    if note := demonstration(lineup):
        figure.suptitle(note, fontsize=9, x=0.01, ha="left")
    return figure


def _seconds(axes: Axes, axis: Axis, bars: Mapping[str, list[Spread]]) -> None:
    """Set limits around what is drawn, and name round seconds."""
    drawn = np.array(list(bars.values()))
    low, high = 0.6 * np.nanmin(drawn), 1.25 * np.nanmax(drawn)
    (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(low, high)
    named = [tick for tick in _TICKS if low <= tick <= high]
    steps = [tick for tick in named if f"{tick:e}"[0] == "1"] if len(named) > 5 else named
    axis.set_major_locator(FixedLocator(steps))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
