"""One colour, marker and hatch for each method, by its name alone: the same in every figure, whatever else is drawn.

A name says model, control policy and pruner: `awares:oracle+visionzip@0.7`. The colour is the pruner's where there is
one, else the model's; marker and hatch are the policy's, else the model's, and for a model that does nothing but prune
the pruner's. Ratios of one method look alike. Markers and hatches differ where greys do not.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import to_hex, to_rgb

from lmms_awares.report.figures.looks import COLOURS
from lmms_awares.report.read.summary import is_control

_BLUE, _ORANGE, _GREEN, _SKY, _RED, _YELLOW, _PINK, _DARK = COLOURS
_GREY = "#999999"
# (colour, marker, hatch)
_MODELS = {
    "awares": (_BLUE, "o", ""),
    "qwen2_5_vl_full": (_DARK, "s", ""),
    "qwen2_5_vl_lowres": (_GREY, "v", "---"),
    "qwen3_vl_full": (_DARK, "s", ""),
    "qwen3_vl_lowres": (_GREY, "v", "---"),
    "visionthink": (_RED, "D", "xx"),
    "adaptvision": (_GREEN, "8", "*"),
    "ergo": (_PINK, "H", "O."),
}
_PRUNERS = {
    "visionzip": (_ORANGE, "^", "///"),
    "holov": (_GREEN, "P", "..."),
    "sparsevlm": (_PINK, "X", "\\\\\\"),
    "fastv": (_SKY, "<", "++"),
    "divprune": (_YELLOW, "*", "oo"),
    "cdpruner": (_RED, "p", "|||"),
    "random": (_DARK, ">", ".."),
    "downsample": (_DARK, "h", "//"),
}
_POLICIES = {"never": ("v", "---"), "always_full": ("s", "+"), "oracle": ("D", "\\\\"), "random": ("d", "..")}
_ONLY_PRUNES = "pruned"  # the model id that names no method of its own
_OTHER_MARKERS, _OTHER_HATCHES = ("8", "H", "<", ">", "p"), ("", "*", "O.", "-/", "|+")  # of names unknown here
_PALER = (0.0, 0.45, 0.7)  # share of white in the bars of further rows of one method


@dataclass(frozen=True)
class Look:
    """How a method is drawn. `hollow`: it is a control, see `lmms_awares.report.read.summary.is_control`."""

    colour: str
    marker: str
    hatch: str
    hollow: bool

    def point(self) -> dict[str, Any]:
        """Return the style of its points, for `Axes.scatter`."""
        face, edge = ("none", self.colour) if self.hollow else (self.colour, "k")
        return {
            "s": 60,
            "marker": self.marker,
            "facecolor": face,
            "edgecolor": edge,
            "linewidth": 1.4 if self.hollow else 0.8,
        }

    def bar(self, step: int = 0) -> dict[str, Any]:
        """Return the style of its bars, for `Axes.bar`. `step`: 0 for the first row of the method, and so on."""
        if self.hollow:
            return {"facecolor": "w", "edgecolor": self.colour, "hatch": self.hatch, "linewidth": 1.2 + 0.8 * step}
        share = _PALER[min(step, len(_PALER) - 1)]
        red, green, blue = (value + (1 - value) * share for value in to_rgb(self.colour))
        return {"facecolor": to_hex((red, green, blue)), "edgecolor": "k", "hatch": self.hatch, "linewidth": 0.6}


def family(method: str) -> str:
    """Return a method's name without its ratio; `pruned+holov` and `holov` are one.

    Example:
        >>> family("pruned+divprune@0.5"), family("awares+visionzip@0.7")
        ('divprune', 'awares+visionzip')
    """
    return method.partition("@")[0].removeprefix(f"{_ONLY_PRUNES}+")


def look_of(method: str) -> Look:
    """Return how `method` is drawn. Of names that are not known here, two can look alike.

    Example:
        >>> look_of("visionzip@0.5") == look_of("pruned+visionzip@0.7")
        True
    """
    name, _, pruner = family(method).partition("+")
    model, _, policy = name.partition(":")
    colour, marker, hatch = _MODELS.get(model) or _PRUNERS.get(model) or _other(model)
    if pruner:
        colour = (_PRUNERS.get(pruner) or _other(pruner))[0]
    if policy:
        marker, hatch = _POLICIES.get(policy) or _other(policy)[1:]
    return Look(colour, marker, hatch, is_control(method))


def bars_of(methods: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the style of each row's bars; further rows of a method are paler.

    Args:
        methods: of each row, all that are drawn.
    """
    seen: dict[str, int] = {}
    styles = {}
    for row, method in methods.items():
        styles[row] = look_of(method).bar(seen.setdefault(family(method), 0))
        seen[family(method)] += 1
    return styles


def by_family(methods: dict[str, str], rows: Iterable[str]) -> dict[str, list[str]]:
    """Group rows by the family of their method, in their order."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(family(methods[row]), []).append(row)
    return groups


def _other(name: str) -> tuple[str, str, str]:
    number = zlib.crc32(name.encode())
    place = number // len(COLOURS) % len(_OTHER_MARKERS)
    return COLOURS[number % len(COLOURS)], _OTHER_MARKERS[place], _OTHER_HATCHES[place]
