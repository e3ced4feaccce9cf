"""Accuracy against RTR, averaged over benchmarks (Fig. 1), with the Pareto front."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmms_awares.report.figures.looks import averaged, drawable, legend_above, literally, new_figure
from lmms_awares.report.figures.method_looks import by_family, look_of
from lmms_awares.report.figures.point_labels import Point, apart, place_labels
from lmms_awares.report.read.lineup import Lineup
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.read.summary import is_control
from lmms_awares.report.tables.conditions import mixtures
from lmms_awares.report.tables.paper import paper_table
from lmms_awares.report.tables.table import numbers

NAMED_ROWS = 10  # up to so many points are named beside them; of more, a legend names the methods
_CONTROLS = "control: fixed or random choice, or by the labels"


@literally
def pareto(lineup: Lineup, *, paper: bool = False) -> Figure:
    """Plot average score against average RTR of each row, and the Pareto front of the measured rows (Fig. 1).

    A method has one colour and marker, and a line through its ratios. Controls are hollow and no part of the front.
    Points that would cover each other stand side by side, tied to their place.

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
    methods = {row: lineup.methods[row] for row in points.index}
    published = _published() if paper else points[:0]
    front = pareto_front(points[[not is_control(method) for method in methods.values()]])
    many = len(points) > NAMED_ROWS
    figure, axes = new_figure(lineup, 9.4 if many else 7.0, 5.2 if many else 4.6)
    everything = pd.concat([points, published]) if paper else points
    axes.margins(0.08 if many else 0.18)
    axes.update_datalim(everything[["rtr", "score"]].to_numpy())
    axes.autoscale_view()
    axes.set_autoscale_on(False)  # points that are moved apart are measured in it
    axes.plot(front["rtr"], front["score"], color="0.4", linestyle="--", linewidth=1, zorder=1, label="Pareto front")
    if paper:
        axes.scatter(published["rtr"], published["score"], s=30, zorder=2, marker="x", color="0.35", label="published")
    axes.set_xlabel(
        f"average RTR (measured visual tokens / full-resolution tokens)\n{averaged(lineup, list(points.index))}"
    )
    axes.set_ylabel("average score (0-100)")
    lines = [_pairs(front), *_lines(axes, points, methods)]
    if any(map(is_control, methods.values())):
        axes.scatter([], [], s=60, facecolor="none", edgecolor="k", label=_CONTROLS)
    if many:
        _legend(figure, axes, methods)
    else:
        legend_above(figure, axes)
    places = dict(zip(everything.index, apart(axes, _pairs(everything)), strict=True))
    for row, (rtr, score) in points.iterrows():
        at = places[row]
        axes.scatter(*at, zorder=3, **look_of(methods[row]).point())
        if at != (rtr, score):
            axes.plot([rtr, at[0]], [score, at[1]], color="0.3", linewidth=0.6, zorder=2, label="_tie")
    named = [row for row in everything.index if not many or row in front.index]
    others = [place for row, place in places.items() if row not in named]
    place_labels(axes, [places[row] for row in named], list(map(drawable, named)), lines, others=others)
    return figure


def _pairs(points: pd.DataFrame) -> list[Point]:
    return [(float(rtr), float(score)) for rtr, score in points[["rtr", "score"]].to_numpy()]


def _lines(axes: Axes, points: pd.DataFrame, methods: dict[str, str]) -> list[list[Point]]:
    """Draw and return a line through each method's ratios; none where a ratio comes twice, as of two checkpoints."""
    drawn = []
    for rows in by_family(methods, points.index).values():
        if len(rows) > 1 and len({methods[row].partition("@")[2] for row in rows}) == len(rows):
            line = points.loc[rows].sort_values("rtr")
            colour = look_of(methods[rows[0]]).colour
            axes.plot(line["rtr"], line["score"], color=colour, linewidth=1.2, alpha=0.7, zorder=1.5, label="_ratios")
            drawn.append(_pairs(line))
    return drawn


def _legend(figure: Figure, axes: Axes, methods: dict[str, str]) -> None:
    """Name the methods at the right, each once, in the order of the rows."""
    for name, rows in by_family(methods, methods).items():
        ratios = sorted({ratio for row in rows if (ratio := methods[row].partition("@")[2])}, key=float)
        told = f"{name} @ {', '.join(ratios)}" if ratios else name
        axes.scatter([], [], label=drawable(told), **look_of(methods[rows[0]]).point())
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)


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
