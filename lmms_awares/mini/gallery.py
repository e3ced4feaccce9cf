"""A picture of ten test documents, full and low-res view side by side: `python -m lmms_awares.mini.gallery FILE`."""

import argparse
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lmms_awares.labels import SUFFICES
from lmms_awares.mini.suite import document
from lmms_awares.tasks.benchmarks import MINI_TASKS
from lmms_awares.views import plan_views, render_lowres

SAMPLES = 10
_SCALE = 2  # px of the picture per px of a full view
_MARGIN, _CAPTION = 16, 46  # px
_COLUMN = 2 * 672 * _SCALE // 2 + 3 * _MARGIN  # px; images wider than half of it are shrunk


def panel(benchmark: str, index: int) -> Image.Image:
    """Draw one test document: its views at the same size, pixels as they are, over question, answer and label."""
    row = document(benchmark, "test", index)
    image = row["image"]
    low = render_lowres(image, plan_views(*image.size))
    side = (_COLUMN - 3 * _MARGIN) // 2
    scale = min(_SCALE, side / image.width)
    size = round(image.width * scale), round(image.height * scale)
    page = Image.new("RGB", (_COLUMN, size[1] + _CAPTION + 2 * _MARGIN), (255, 255, 255))
    for number, view in enumerate((image, low)):
        page.paste(view.resize(size, Image.Resampling.NEAREST), (_MARGIN + number * (side + _MARGIN), _MARGIN))
    question = textwrap.shorten(row.get("question") or row["text"], 110, placeholder=" …")
    gold = row.get("answer") or row.get("answers") or row["label"]
    gold = gold if isinstance(gold, str) else gold[0]
    label = "low-res suffices" if row[SUFFICES] else "needs a crop"
    text = f"{benchmark}, full and low-res view. {question}\nAnswer: {gold} ({label})"
    ImageDraw.Draw(page).text(
        (_MARGIN, size[1] + _MARGIN + 6), text, (0, 0, 0), font=ImageFont.load_default(15), spacing=6
    )
    return page


def gallery() -> Image.Image:
    """Draw the first test documents of each benchmark in two columns."""
    places = [(name, index) for index in range(SAMPLES) for name in MINI_TASKS.values()][:SAMPLES]
    panels = [panel(*place) for place in places]
    columns = [panels[0::2], panels[1::2]]
    page = Image.new("RGB", (2 * _COLUMN, max(sum(p.height for p in column) for column in columns)), (255, 255, 255))
    for number, column in enumerate(columns):
        top = 0
        for part in column:
            page.paste(part, (number * _COLUMN, top))
            top += part.height
    return page


def main() -> None:
    """Draw the picture from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    gallery().save(file, optimize=True)
    print(file)


if __name__ == "__main__":
    main()
