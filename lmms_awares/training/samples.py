"""A handful of an evaluation's samples to look at: `samples.md`, and for each a picture of what the policy saw.

┌─────────┐ ┌────┐ ┌────┐
│ low-res │ │ 0  │ │ 5  │     one height, in the order of the turns
└─────────┘ └────┘ └────┘
"""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lmms_awares.crops import CROPS
from lmms_awares.training.answers import Answered, Pictured
from lmms_awares.training.evaluation import Result
from lmms_awares.views import LOWRES, show

COUNT = 6
_HEIGHT, _GAP, _CAPTION = 280, 12, 22  # px


def write_samples(folder: Path, results: Sequence[Result], *, pixel_limits: tuple[int, int], token_side: int) -> None:
    """Write the first `COUNT` answered results: `samples.md` and a PNG each.

    Args:
        folder: is made; files of the same names are replaced.
        pixel_limits, token_side: of the checkpoint's views.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = [f"# Samples of {folder.name}\n"]
    for result in results:
        if isinstance(result.outcome, Answered) and len(told) <= COUNT:
            view = Pictured.of(result.row, pixel_limits, token_side)
            file = folder / f"{file_name(result.row['id'])}.png"
            _strip(view, result.outcome.crops).save(file)
            told.append(_section(result, result.outcome, file.name))
    (folder / "samples.md").write_text("\n".join(told), encoding="utf-8")


def file_name(id: str) -> str:
    """Return a row's id as a file's name.

    Example:
        >>> file_name("chartqa/12")
        'chartqa-12'
    """
    return re.sub(r"[^\w.-]", "-", id)


def _strip(view: Pictured, crops: Sequence[str]) -> Image.Image:
    names = (LOWRES, *crops)
    images = [show(view.image, view.plan, name).image for name in names]
    sized = [image.resize((max(1, image.width * _HEIGHT // image.height), _HEIGHT)) for image in images]
    page = Image.new("RGB", (sum(i.width + _GAP for i in sized) + _GAP, _HEIGHT + _CAPTION + 2 * _GAP), "white")
    pen, font, left = ImageDraw.Draw(page), ImageFont.load_default(14), _GAP
    for name, image, shown in zip(names, images, sized, strict=True):
        page.paste(shown, (left, _GAP + _CAPTION))
        pen.rectangle((left - 1, _GAP + _CAPTION - 1, left + shown.width, _GAP + _CAPTION + _HEIGHT), outline="#bbb")
        title = f"{name} {CROPS[name].name}" if name in CROPS and name != CROPS[name].name else name
        pen.text((left, _GAP), f"{title}, {image.width} x {image.height}", "#333", font)
        left += shown.width + _GAP
    return page


def _section(result: Result, said: Answered, picture: str) -> str:
    row = result.row
    mark = f"{100 * said.score:.0f} of 100 by {row['metric'] or 'anls'}"
    targets = f", target crops {', '.join(row['targets'])}" if row["targets"] else ""
    lines = [
        *(f"## {row['id']}", "", f"![low-res view and crops]({picture})", ""),
        *("| | |", "|---|---|"),
        f"| question | {_cell(row['question'])} |",
        *(f"| turn {number} | `{_cell(turn.replace('`', chr(39)))}` |" for number, turn in enumerate(said.turns, 1)),
        f"| reference | {_cell('; '.join(row['answers']))} |",
        f"| label | {row['label']}{targets} |",
        f"| score | {mark} |",
        f"| visual tokens | {said.visual_tokens:g} of {said.full_tokens}, RTR {said.rtr:.2f} |",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table, as it is."""
    return re.sub(r"([|<])", r"\\\1", " ".join(text.split()))
