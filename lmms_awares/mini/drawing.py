"""Pictures of the mini suite: items on a 56-px grid, drawn from plain shapes and the font of `glyphs`.

Everything that must be read fits one 28-px cell, which is one visual token of the full view. Large text is dark ink.
Fine print stands on a grey plate. Each of its dots is a checkerboard of two light and two dark pixels, less the part
that would survive halving to the low-res view: the low-res view shows where fine print is, and nothing of its content.
Faint print is fine print of which halving keeps something: a dot is also a little lighter than its plate, among specks
of the size of a dot. How much lighter, by the specks' spread, is its legibility: from a guess to nearly sure.
Slight noise hides traces of rounding. The background is shaded from edge to edge, less red to the right and less blue
downwards, so that every patch shows its place in the picture. A scene gives the same pixels on every machine.
"""

import math
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from lmms_awares.mini.glyphs import PITCH, SIDE, glyph
from lmms_awares.tokens import TOKEN_SIDE as CELL

SLOT = 2 * CELL  # an item's square, px
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "orange": (245, 130, 20),
    "green": (40, 140, 50),
    "blue": (30, 90, 205),
    "purple": (130, 60, 175),
    "brown": (120, 75, 40),
    "pink": (240, 110, 185),
    "black": (30, 30, 30),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
LABELS = tuple("EFGHKLMPRSTW")  # letters that name a bar or a field; A to D name options
LETTERS = (*LABELS, *"JNVX")  # letters that texts are made of
DIGITS = tuple("0123456789")
CHOICES = tuple("EJTX")  # letters of the multiple-choice questions; option A is the first, and so on
FRAME = "frame"  # a coloured frame around the slot in place of a symbol
_INK = (25, 25, 45)
_SCALE = 2  # px of a glyph's dot; a dot of fine print is a checkerboard of 2 x 2 px
_PLATE = (128, 128, 128)
_CONTRAST, _GRAIN = 100, 2  # grey levels, up and down: of fine print on its plate; of the noise all over a picture
_SPECKS = 14  # grey levels, standard deviation: of the specks in faint print
_POLYGONS = {  # corners on the unit circle's square, y downwards
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "triangle": ((0, -0.95), (0.95, 0.85), (-0.95, 0.85)),
    "star": tuple(
        (r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5))
        for i in range(10)
        for r in ((1.0, 0.42)[i % 2],)
    ),
    "cross": tuple(
        (x, y)
        for x, y in (
            *((-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3)),
            *((0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)),
        )
    ),
}
Style = Literal["chart", "page", "labels", "scene"]


@dataclass(frozen=True)
class Item:
    """One thing in a picture: a symbol in one cell of its slot, and maybe a text in another cell.

    Attributes:
        row, column: the slot.
        symbol: a letter of LABELS (white on a coloured box), a shape, FRAME, or '' for a bare text.
        colour: a key of COLOURS.
        text: '' or up to two characters per cell, one or two cells side by side ('K7', 'K74M').
        fine: the text is fine print, legible at full resolution only.
        legibility: of fine print in the low-res view; 0 where it shows nothing.
        symbol_cell: (row, column) within the slot, each 0 or 1.
        text_cell: (row, column) of the text's first cell within the slot.
        radius: of the symbol, px.
        shift: of the text within its cell, px (right, down).
    """

    row: int
    column: int
    symbol: str
    colour: str
    text: str = ""
    fine: bool = False
    symbol_cell: tuple[int, int] = (1, 0)
    text_cell: tuple[int, int] = (0, 0)
    radius: int = 12
    shift: tuple[int, int] = (0, 0)
    legibility: float = field(default=0.0, repr=False)  # not in what seeds the grain: the clear suite has none

    @property
    def groups(self) -> list[str]:
        """The text, cell by cell."""
        return [self.text[i : i + 2] for i in range(0, len(self.text), 2)]

    @property
    def text_box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) px of the cells that hold the text."""
        left, top = self._corner(self.text_cell)
        return left, top, left + CELL * len(self.groups), top + CELL

    @property
    def slot_box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) px of the whole slot."""
        left, top = self._corner((0, 0))
        return left, top, left + SLOT, top + SLOT

    def _corner(self, cell: tuple[int, int]) -> tuple[int, int]:
        return self.column * SLOT + cell[1] * CELL, self.row * SLOT + cell[0] * CELL


@dataclass(frozen=True)
class Scene:
    """A picture to be drawn: its size in px (multiples of 112), its kind and its items."""

    width: int
    height: int
    style: Style
    items: tuple[Item, ...]
    brightness: int = 0

    @property
    def slots(self) -> tuple[int, int]:
        """(rows, columns) of the slot grid."""
        return self.height // SLOT, self.width // SLOT


def draw(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image; the same scene gives the same pixels."""
    page = Image.fromarray((_shading(scene.width, scene.height) + scene.brightness).astype(np.uint8))
    fine, faint = Image.new("L", page.size), np.zeros(page.size[::-1])
    pen, specks = ImageDraw.Draw(page), random.Random(f"specks/{scene!r}")
    _decorate(pen, scene)
    for item in scene.items:
        _draw_symbol(pen, item)
        _draw_text(page, fine, faint, specks, item)
    grain = random.Random(repr(scene)).randbytes(scene.width * scene.height)
    grey = np.frombuffer(grain, np.uint8).reshape(scene.height, scene.width) * (2 * _GRAIN / 255) - _GRAIN
    grey += _fine_print(np.asarray(fine) > 0) + faint
    pixels = np.asarray(page) + np.rint(grey).astype(np.int16)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@cache
def _shading(width: int, height: int) -> np.ndarray:
    """Return [height, width, 3] int64: red falls from left to right by 70, blue from top to bottom."""
    page = np.full((height, width, 3), 240)
    page[..., 0] -= np.arange(width) * 70 // width
    page[..., 2] -= (np.arange(height) * 70 // height)[:, None]
    return page


def _decorate(pen: ImageDraw.ImageDraw, scene: Scene) -> None:
    """Draw the marks that make a chart look like a chart and a page like a page; they carry no answer."""
    width, height = scene.width, scene.height
    if scene.style == "chart":
        pen.line((1, 2, 1, height - 3, width - 2, height - 3), fill=(90, 90, 90), width=2)
        for y in range(SLOT, height, SLOT):
            pen.line((1, y, 6, y), fill=(90, 90, 90), width=1)
            for x in range(8, width, 8):
                pen.point((x, y), fill=(150, 150, 150))
        for item in scene.items:  # the bar below the name
            left, top = item.column * SLOT + item.symbol_cell[1] * CELL, (item.row + 1) * SLOT - 3
            if top < height - 4:
                pen.rectangle((left + 2, top, left + CELL - 3, height - 4), fill=COLOURS[item.colour])
    elif scene.style == "page":
        pen.rectangle((2, 2, width - 3, height - 3), outline=(120, 120, 120))
        for y in range(SLOT, height, SLOT):
            pen.line((6, y, width - 7, y), fill=(170, 170, 170), width=1)


def _draw_symbol(pen: ImageDraw.ImageDraw, item: Item) -> None:
    left, top = item.column * SLOT, item.row * SLOT
    ink = COLOURS[item.colour]
    if item.symbol == FRAME:
        pen.rectangle((left, top, left + SLOT - 1, top + SLOT - 1), outline=ink, width=2)
        return
    x, y = left + item.symbol_cell[1] * CELL + CELL // 2, top + item.symbol_cell[0] * CELL + CELL // 2
    r = item.radius
    if item.symbol in LABELS:
        pen.rectangle((x - r, y - r, x + r - 1, y + r - 1), fill=ink)
        letter = glyph(item.symbol, 3)
        pen.bitmap((x - letter.width // 2, y - letter.height // 2), letter, fill=(255, 255, 255))
    elif item.symbol == "circle":
        pen.ellipse((x - r, y - r, x + r - 1, y + r - 1), fill=ink)
    elif item.symbol == "ring":
        pen.ellipse((x - r, y - r, x + r - 1, y + r - 1), outline=ink, width=r // 3)
    elif item.symbol:
        pen.polygon([(round(x + r * a), round(y + r * b)) for a, b in _POLYGONS[item.symbol]], fill=ink)


def _draw_text(page: Image.Image, fine: Image.Image, faint: np.ndarray, specks: random.Random, item: Item) -> None:
    """Write an item's text on the page; for fine print only the plate, its dots go to the mask `fine`.

    What the low-res view shows of them goes to `faint` [height, width].
    """
    left, top, _, _ = item.text_box
    for index, group in enumerate(item.groups):
        width, height = text_size(len(group))
        # On multiples of the scale: a dot is then one pixel of the low-res view.
        x = left + index * CELL + _snap((CELL - width) // 2 + item.shift[0])
        y = top + _snap((CELL - height) // 2 + item.shift[1])
        dots = Image.new("L", (width, height))
        for number, character in enumerate(group):
            dots.paste(glyph(character, _SCALE), (number * _SCALE * PITCH, 0))
        if item.fine:
            page.paste(_PLATE, (x - 1, y - 1, x + width + 1, y + height + 1))
            fine.paste(dots, (x, y))
            if item.legibility:
                faint[y : y + height, x : x + width] = _faint_print(dots, item.legibility, specks)
        else:
            page.paste(_INK, (x, y), dots)


def _faint_print(dots: Image.Image, legibility: float, specks: random.Random) -> np.ndarray:
    """Return [height, width] grey levels of dots among specks, one level a dot, as halving keeps them."""
    shown = np.asarray(dots)[::_SCALE, ::_SCALE] > 0
    spread = np.reshape([specks.gauss() for _ in range(shown.size)], shown.shape)
    return np.kron(_SPECKS * (legibility * shown + spread), np.ones((_SCALE, _SCALE)))


def _fine_print(dots: np.ndarray) -> np.ndarray:
    """Return [height, width] float64 checkerboards on a page's mask of dots, less the part that halving keeps."""
    page = dots * np.where(np.indices(dots.shape).sum(0) % 2, _CONTRAST, -_CONTRAST)
    down, across = map(_halving, dots.shape)
    rows, columns = dots.any(1), dots.any(0)  # the rest is zero
    return page - down[:, rows] @ page[np.ix_(rows, columns)] @ across[columns]


@cache
def _halving(length: int) -> np.ndarray:
    """Return the [length, length] float64 projection onto the part of a side that halving to the low-res view keeps."""
    pixels = Image.fromarray(np.eye(length, dtype=np.float32))
    kept = np.asarray(pixels.resize((length, length // 2), Image.Resampling.LANCZOS), float)
    return np.linalg.pinv(kept) @ kept


def text_size(length: int) -> tuple[int, int]:
    """Return (width, height) in px of `length` characters side by side."""
    return _SCALE * (PITCH * length - 1), _SCALE * SIDE


def _snap(offset: int) -> int:
    return offset // _SCALE * _SCALE
