"""Labels beside points, none upon another."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

Pixels = np.ndarray[Any, np.dtype[np.float64]]
_MARKER = 5.0  # half of a marker's side, pt
_GAP = 1.0  # around a text, pt
_RADII = (9, 16, 26, 38, 52, 70, 90, 115, 145)  # distances to try, pt
_ANGLES = np.radians([0, 180, 90, 270, 45, 135, 315, 225])


Point = tuple[float, float]


def place_labels(
    axes: Axes, points: list[Point], texts: list[str], line: list[Point], size: float = 8
) -> list[Annotation]:
    """Write a text beside each point: clear of all points, other texts and lines, inside the axes.

    A text that is not next to its point is tied to it by a thin line. Where no place is free, the last one tried is
    taken. The axes' limits must be final.

    Args:
        axes: where the points are.
        points: in data coordinates.
        texts: one for each point.
        line: corners of a line to keep clear of, in data coordinates.
        size: of the font, in pt.
    """
    figure = axes.figure
    canvas = FigureCanvasAgg(figure.get_figure(root=True))
    canvas.draw()  # lays the figure out
    renderer, scale = canvas.get_renderer(), figure.dpi / 72  # pixels per point
    centres = [np.asarray(centre) for centre in axes.transData.transform(points)]
    corners = [np.asarray(corner) for corner in axes.transData.transform(line)]
    markers = [_around(centre, _MARKER * scale) for centre in centres]
    lines = [_around(spot, scale) for pair in itertools.pairwise(corners) for spot in _along(*pair)]
    inside = axes.get_window_extent(renderer)
    placed: list[Annotation] = []
    extents: list[Bbox] = []
    for point, text, centre in zip(points, texts, centres, strict=True):
        label = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=size, zorder=4)
        extent, tie = Bbox.null(), []
        for offset, (across, up) in _candidates():
            label.set(position=offset, horizontalalignment=across, verticalalignment=up)
            extent = label.get_window_extent(renderer).padded(_GAP * scale)
            far = np.hypot(*offset) > _RADII[0]
            tie = [_around(spot, scale) for spot in _along(centre, centre + scale * np.asarray(offset))] if far else []
            blocked = any(extent.overlaps(other) for other in (*markers, *extents, *lines))
            if not blocked and not any(spot.overlaps(o) for spot in tie for o in extents) and _within(extent, inside):
                break
        if tie:
            style = {"arrowstyle": "-", "lw": 0.5, "color": "0.3", "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", point, label.get_position(), textcoords="offset points", arrowprops=style)
        extents.append(extent)
        lines += tie[2:]
        placed.append(label)
    return placed


def _candidates() -> Iterator[tuple[Point, tuple[str, str]]]:
    """Offsets in pt, nearest first, each with the text's alignment: its near edge is at the offset."""
    for radius in _RADII:
        for angle in _ANGLES:
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            across = "left" if x > 1 else "right" if x < -1 else "center"
            yield (x, y), (across, "center" if abs(x) > 1 else "bottom" if y > 0 else "top")


def _along(start: Pixels, end: Pixels) -> list[Pixels]:
    """Spots on a line, about 4 pixels apart."""
    steps = max(2, int(np.hypot(*(end - start)) / 4))
    return [start + (end - start) * step / steps for step in range(steps + 1)]


def _around(centre: Pixels, half: float) -> Bbox:
    return Bbox.from_extents(*(centre - half), *(centre + half))


def _within(extent: Bbox, outer: Bbox) -> bool:
    return bool(outer.x0 <= extent.x0 and extent.x1 <= outer.x1 and outer.y0 <= extent.y0 and extent.y1 <= outer.y1)
