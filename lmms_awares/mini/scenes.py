"""Random scenes of four kinds: bar charts, pages with fields, labels, and coloured shapes with plates."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from lmms_awares.mini.drawing import (
    CHOICES,
    COLOURS,
    DIGITS,
    FRAME,
    LABELS,
    LETTERS,
    SHAPES,
    SLOT,
    Item,
    Scene,
    Style,
    text_size,
)
from lmms_awares.tokens import TOKEN_SIDE as CELL

SIZES = ((224, 224), (336, 224), (224, 336), (448, 224), (336, 336), (560, 224), (448, 336))  # px
WIDE_SIZES = ((448, 224), (560, 224), (672, 224), (672, 336))  # px, of the tiny-object benchmark
FINE_SHARE = 0.6  # of texts that only the full view shows
FAINT_SHARE = 0.5  # of fine print that the low-res view shows in part, where print is graded
GRADES = (0.5, 0.9, 1.3, 1.8, 2.6)  # legibilities: an ideal reader is right about a digit from 0.34 to 0.98 of the time
Size = tuple[int, int]


def number(generator: random.Random) -> str:
    """Return two random digits, 10 to 99."""
    return str(generator.randrange(10, 100))


def code(generator: random.Random) -> str:
    """Return a random letter and digit."""
    return generator.choice(LETTERS) + generator.choice(DIGITS)


def character(generator: random.Random) -> str:
    """Return a random letter or digit, both equally likely."""
    return generator.choice(generator.choice((LETTERS, DIGITS)))


def choice(generator: random.Random) -> str:
    """Return a random letter of the multiple-choice questions."""
    return generator.choice(CHOICES)


def chart(generator: random.Random, size: Size) -> Scene:
    """Make a bar chart: a column per bar, its name at the bar's top, its value above; higher values stand higher."""
    rows, columns = size[1] // SLOT, size[0] // SLOT
    count = generator.randint(max(3, columns // 2), columns)
    names = generator.sample(LABELS, count)
    items = []
    for column, name in zip(sorted(generator.sample(range(columns), count)), names, strict=True):
        value = number(generator)
        side = generator.randrange(2)
        items.append(
            Item(
                row=rows - 1 - int(value) * rows // 100,
                column=column,
                symbol=name,
                colour=generator.choice(list(COLOURS)),
                text=value,
                symbol_cell=(1, side),
                text_cell=(0, side),
            )
        )
    return _finish(generator, size, "chart", items)


def page(generator: random.Random, size: Size) -> Scene:
    """Make a page with fields: a letter in a box and the field's code to the right of it."""
    slots = _some_slots(generator, size, 4, 8)
    names = generator.sample(LABELS, len(slots))
    items = []
    for (row, column), name in zip(slots, names, strict=True):
        line = generator.randrange(2)
        colour = generator.choice(("black", "blue", "brown"))
        items.append(Item(row, column, name, colour, code(generator), symbol_cell=(line, 0), text_cell=(line, 1)))
    return _finish(generator, size, "page", items)


def labels(generator: random.Random, size: Size) -> Scene:
    """Make text lines of one or two groups, each in a frame of its own colour; or a single one without a frame."""
    alone = generator.random() < 0.25
    slots = _some_slots(generator, size, 1, 1) if alone else _some_slots(generator, size, 2, 5)
    colours = generator.sample(list(COLOURS), len(slots))
    items = []
    for (row, column), colour in zip(slots, colours, strict=True):
        long = generator.random() < 0.4
        text = code(generator) + (code(generator) if long else "")
        cell = (generator.randrange(2), 0 if long else generator.randrange(2))
        items.append(Item(row, column, "" if alone else FRAME, colour, text, text_cell=cell))
    return _finish(generator, size, "labels", items)


def shapes(generator: random.Random, size: Size, text: Callable[[random.Random], str], *, tiny: bool = False) -> Scene:
    """Make shapes, each of a colour of its own, each with a text beside it that `text` makes."""
    slots = _some_slots(generator, size, 3, 5 if tiny else 7)
    colours = generator.sample(list(COLOURS), len(slots))
    kinds = [(colour, generator.choice(SHAPES)) for colour in colours]
    items = []
    for (row, column), (colour, shape) in zip(slots, kinds, strict=True):
        symbol_cell = (generator.randrange(2), generator.randrange(2))
        across = generator.random() < 0.5
        text_cell = (symbol_cell[0] ^ (not across), symbol_cell[1] ^ across)
        beside, radius = text(generator), 9 if tiny else 12
        items.append(
            Item(row, column, shape, colour, beside, symbol_cell=symbol_cell, text_cell=text_cell, radius=radius)
        )
    return _finish(generator, size, "scene", items)


def graded(generator: random.Random, scene: Scene) -> Scene:
    """Make some of a scene's fine print faint: print of which the low-res view shows more or less."""
    items = (
        replace(item, legibility=generator.choice(GRADES)) if item.fine and generator.random() < FAINT_SHARE else item
        for item in scene.items
    )
    return replace(scene, items=tuple(items))


def _some_slots(generator: random.Random, size: Size, least: int, most: int) -> list[tuple[int, int]]:
    slots = [(row, column) for row in range(size[1] // SLOT) for column in range(size[0] // SLOT)]
    return generator.sample(slots, generator.randint(least, most))


def _finish(generator: random.Random, size: Size, style: Style, items: Sequence[Item]) -> Scene:
    """Choose the print and place of each text within its cell, and the picture's brightness."""
    finished = []
    for item in items:
        fine = generator.random() < FINE_SHARE
        finished.append(replace(item, fine=fine, shift=_shift(generator, item)))
    return Scene(*size, style, tuple(finished), generator.randint(-8, 8))


def _shift(generator: random.Random, item: Item) -> tuple[int, int]:
    """Choose a text's place in its cell: no character lies across two of the tower's 14-px patches."""
    length = len(item.groups[0])
    left = 2 if length == 2 else generator.choice((2, 14))  # two characters are as wide as the cell
    top = generator.choice((2, 4, 14, 16))
    width, height = text_size(length)
    return left - (CELL - width) // 2, top - (CELL - height) // 2
