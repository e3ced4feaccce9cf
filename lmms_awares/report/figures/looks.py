"""The figures' style: colours, hatches, legends, files.

Colours are Okabe and Ito's, which colour-blind eyes tell apart; markers, hatches and labels say the same in grey.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmms_awares.report.read.benchmarks import is_mini, title_of
from lmms_awares.report.read.lineup import Lineup
from lmms_awares.report.read.samples import RunError

# In this order neighbours differ in brightness too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#F0E442", "#CC79A7", "#333333")
HATCHES = ("", "///", "...", "\\\\\\", "xx", "---", "++", "oo")
WIDTH = 84  # characters in a line below an axis
FILE_TYPES = ("png", "svg", "pdf")
# A decorator: names of runs are folders' names, in which $ and backslashes mean nothing.
literally = rc_context({"text.usetex": False, "text.parse_math": False})


@literally
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


def new_figure(lineup: Lineup, width: float, height: float) -> tuple[Figure, Axes]:
    """Make one empty diagram; on runs of the mini suite its title says so. `width`, `height`: in inches."""
    figure, axes = bare_figure(width, height)
    axes.set_title(demonstration(lineup), fontsize=9, loc="left")
    return figure, axes


def demonstration(lineup: Lineup) -> str:
    """Return the remark that figures of the mini suite carry; empty for others."""
    return "mini suite: a demonstration, not a result" if any(map(is_mini, lineup.tasks)) else ""


def bare_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make one empty diagram without a title. `width`, `height`: in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", zorder=0)
    axes.set_axisbelow(True)
    return figure, axes


def grouped_bars(
    axes: Axes, bars: Mapping[str, Sequence[float]], styles: Mapping[str, dict[str, Any]], names: list[str]
) -> dict[str, list[float]]:
    """Draw the bars of each row beside each other, and name the groups; return the bars' middles by row.

    Args:
        bars: heights of each row, one for each of `names`.
        styles: of the rows, for `Axes.bar`.
    """
    width = 0.84 / len(bars)
    middles = {}
    for index, (row, heights) in enumerate(bars.items()):
        offset = (index - (len(bars) - 1) / 2) * width
        middles[row] = [place + offset for place in range(len(names))]
        axes.bar(middles[row], heights, width, label=drawable(row), **styles[row])
    axes.set_xticks(range(len(names)), names)
    return middles


def by_position(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return bar styles of what are no methods: colours and hatches in their order."""
    return {
        name: {"facecolor": COLOURS[index % 8], "hatch": HATCHES[index % 8], "edgecolor": "k", "linewidth": 0.6}
        for index, name in enumerate(names)
    }


def drawable(name: str) -> str:
    """Escape the characters of `name` that no font draws, line breaks among them."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put a legend above the diagram, in rows of up to four."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)), frameon=False, fontsize=9)


def plain_title(task: str) -> str:
    """Return a benchmark's title without the mini suite's remark, which a figure shows once."""
    return title_of(task).removesuffix(" (mini)")


def averaged(lineup: Lineup, rows: Sequence[str]) -> str:
    """Describe averages of `rows`, for below an axis: over which benchmarks, and over how many answered samples."""
    summary = lineup.summary
    counts = (summary["n"] - summary["failed"]).groupby(summary["row"]).sum()[list(rows)]
    n = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    titles = [plain_title(task) for task in lineup.tasks]
    return textwrap.fill(f"averages over {', '.join(titles)}; n = {n} samples", WIDTH)
