"""Points and the labels beside them, without overlaps."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

Pixels = np.ndarray[Any, np.dtype[np.float64]]
Point = tuple[float, float]
_MARKER = 5.0  # half of a marker's side, pt
_NEAR, _BESIDE = 6.0, 9.5  # markers nearer than this cover each other, and then stand so far apart, pt
_MOVED = 0.5  # pt; by less no point is moved
_GAP = 1.0  # around a text, pt
_RADII = (9, 16, 26, 38, 52, 70, 90, 115, 145)  # distances to try, pt
# Beside, above and below first, then ever more oblique.
_ANGLES = np.radians([0, 180, 90, 270, 45, 135, 315, 225, 22.5, 157.5, 337.5, 202.5, 67.5, 112.5, 292.5, 247.5])
_CROWD = 60.0  # points nearer than this compete for room, px


def apart(axes: Axes, points: list[Point]) -> list[Point]:
    """Return places for `points` at which no two markers cover each other: those that would stand side by side.

    All in data coordinates. The axes' limits and the figure's layout must be final.
    """
    FigureCanvasAgg(axes.figure.get_figure(root=True)).draw()  # lays the figure out
    scale = axes.figure.dpi / 72
    pixels = axes.transData.transform(points)
    groups: list[list[int]] = []
    for index, spot in enumerate(pixels):
        near = [group for group in groups if any(np.hypot(*(spot - pixels[i])) < _NEAR * scale for i in group)]
        groups = [group for group in groups if group not in near] + [[*itertools.chain(*near), index]]
    places = list(points)
    for group in groups:
        if len(group) == 1:
            continue
        middle = pixels[group].mean(axis=0)
        ordered = sorted(group, key=lambda i: (pixels[i][0], -pixels[i][1], i))
        for number, i in enumerate(ordered):
            offset = (number - (len(group) - 1) / 2) * _BESIDE * scale
            place = middle + np.array((offset, 0.0))
            if np.hypot(*(place - pixels[i])) > _MOVED * scale:
                x, y = axes.transData.inverted().transform(place)
                places[i] = float(x), float(y)
    return places


def place_labels(
    axes: Axes,
    points: list[Point],
    texts: list[str],
    lines: Sequence[Sequence[Point]],
    size: float = 8,
    *,
    others: Sequence[Point] = (),
) -> list[Annotation]:
    """Write a text beside each point: clear of all points, other texts and lines, inside the axes.

    A text that is not next to its point is tied to it by a thin line. Where no place is free, the one with the least
    conflicts is taken. Crowded points choose first. The axes' limits must be final.

    Args:
        axes: where the points are.
        points: in data coordinates.
        texts: one for each point.
        lines: to keep clear of, each by its corners in data coordinates.
        size: of the font, in pt.
        others: further points to keep clear of.
    """
    if not points:
        return []
    canvas = FigureCanvasAgg(axes.figure.get_figure(root=True))
    canvas.draw()  # lays the figure out
    renderer, scale = canvas.get_renderer(), axes.figure.dpi / 72  # pixels per point
    inside = axes.get_window_extent(renderer)
    centres = list(axes.transData.transform(points))
    markers = [_around(centre, _MARKER * scale) for centre in centres]
    unnamed = [_around(spot, _MARKER * scale) for spot in axes.transData.transform(others)] if len(others) else []
    pairs = [pair for line in lines if line for pair in itertools.pairwise(axes.transData.transform(line))]
    drawn = [_around(spot, scale) for pair in pairs for spot in _along(*pair)]
    extents: list[Bbox] = []
    placed: dict[int, Annotation] = {}
    for index in _crowded_first(centres):
        label = axes.annotate(texts[index], points[index], (0, 0), textcoords="offset points", fontsize=size, zorder=4)
        beside = [marker for i, marker in enumerate(markers) if i != index] + unnamed
        best: tuple[int, dict[str, Any], Bbox, list[Bbox]] | None = None
        for looks in _candidates():
            label.set(**looks)
            extent = label.get_window_extent(renderer).padded(_GAP * scale)
            tie = _tie(centres[index], scale * np.asarray(looks["position"]), scale)
            # Text upon text is unreadable; a line through a text is bad; everything else is a blemish.
            conflicts = 100 * (_hits([extent], extents) + (not _within(extent, inside)))
            conflicts += 10 * (_hits(tie, extents) + (_hits([extent], drawn) > 0))
            conflicts += _hits([extent], markers + unnamed) + _hits(tie, beside)
            if best is None or conflicts < best[0]:
                best = conflicts, looks, extent, tie
            if best[0] == 0:
                break
        assert best is not None
        label.set(**best[1])
        if best[3]:
            style = {"arrowstyle": "-", "lw": 0.5, "color": "0.3", "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", points[index], best[1]["position"], textcoords="offset points", arrowprops=style)
        extents.append(best[2])
        drawn += best[3]
        placed[index] = label
    return [placed[index] for index in range(len(points))]


def _crowded_first(centres: list[Pixels]) -> list[int]:
    distances = np.array([[np.hypot(*(a - b)) for b in centres] for a in centres])
    neighbours = (distances < _CROWD).sum(axis=1)
    return sorted(range(len(centres)), key=lambda index: -neighbours[index])


def _candidates() -> Iterator[dict[str, Any]]:
    """Yield offsets in pt, nearest first, with the alignment that puts the text's near edge there."""
    for radius in _RADII:
        for angle in _ANGLES:
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            across = "left" if x > 1 else "right" if x < -1 else "center"
            up = "center" if abs(x) > 1 else "bottom" if y > 0 else "top"
            yield {"position": (x, y), "horizontalalignment": across, "verticalalignment": up}


def _tie(centre: Pixels, offset: Pixels, scale: float) -> list[Bbox]:
    """Return the line from a point to its text as small boxes; none where the text is next to its point."""
    if np.hypot(*offset) <= _RADII[0] * scale + 1:
        return []
    return [_around(spot, scale / 2) for spot in _along(centre, centre + offset)[1:-1]]


def _along(start: Pixels, end: Pixels) -> list[Pixels]:
    """Return spots on a line, about 4 pixels apart."""
    steps = max(2, int(np.hypot(*(end - start)) / 4))
    return [start + (end - start) * step / steps for step in range(steps + 1)]


def _around(centre: Pixels, half: float) -> Bbox:
    return Bbox.from_extents(*(centre - half), *(centre + half))


def _hits(boxes: Iterable[Bbox], others: Iterable[Bbox]) -> int:
    """Count the boxes of `others` that any of `boxes` overlaps."""
    boxes = list(boxes)
    return sum(any(box.overlaps(other) for box in boxes) for other in others)


def _within(extent: Bbox, outer: Bbox) -> bool:
    return bool(outer.x0 <= extent.x0 and extent.x1 <= outer.x1 and outer.y0 <= extent.y0 and extent.y1 <= outer.y1)
