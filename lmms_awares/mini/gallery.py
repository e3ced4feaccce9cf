"""A picture of ten test documents, full and low-res view side by side: `python -m lmms_awares.mini.gallery FILE`."""

import argparse
import textwrap
from pathlib import Path

import matplotlib

from lmms_awares.mini.suite import PARTS, Document, document
from lmms_awares.tasks.data import BENCHMARKS, SUFFICES
from lmms_awares.views import plan_views, render_lowres

SAMPLES = 10
_COLUMNS = 2  # samples side by side


def choose() -> list[tuple[str, Document]]:
    """Test documents of all benchmarks in turn, those that need a crop and those that do not."""
    chosen: list[tuple[str, Document]] = []
    for number in range(SAMPLES):
        benchmark = list(BENCHMARKS)[number % len(BENCHMARKS)]
        rows = (document(benchmark, "test", index) for index in range(number, PARTS["test"]))
        chosen.append((benchmark, next(row for row in rows if row[SUFFICES] == bool(number % 3 == 0))))
    return chosen


def draw_gallery(file: Path) -> Path:
    """Write the picture; every view is shown at the same size, pixels as they are."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = -(-SAMPLES // _COLUMNS)
    figure, axes = pyplot.subplots(rows, 2 * _COLUMNS, figsize=(18, 4.2 * rows), dpi=80)
    for number, (benchmark, row) in enumerate(choose()):
        image = row["image"]
        low = render_lowres(image, plan_views(*image.size))
        question = row.get("question") or row["text"]
        gold = row.get("answer") or row.get("answers") or row.get("label")
        asked = textwrap.shorten(question.replace("\n", " "), 90, placeholder=" …")
        enough = "low-res suffices" if row[SUFFICES] else "needs a crop"
        pair = axes[number // _COLUMNS][2 * (number % _COLUMNS) : 2 * (number % _COLUMNS) + 2]
        for axis, view, name in zip(pair, (image, low), ("full", "low-res"), strict=True):
            axis.imshow(view, interpolation="nearest")
            axis.set_axis_off()
            axis.set_title(f"{name} view, {view.width}×{view.height} px", fontsize=9)
        pair[0].text(
            0, -0.08, f"{benchmark}: {asked}\n→ {gold}  ({enough})", fontsize=9, transform=pair[0].transAxes, va="top"
        )
    figure.tight_layout(h_pad=3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return file


def main() -> None:
    """Draw the picture from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    print(draw_gallery(parser.parse_args().file))


if __name__ == "__main__":
    main()
