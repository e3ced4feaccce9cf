"""Stage 1: the vision tower learns to read, on pictures full of items, through linear heads that are thrown away.

Every visual token must tell about its slot (symbol, colour, and how its text is printed), about the text in its own
cell, and where in the picture it lies. Fine print of which the low-res view shows nothing is no target there; faint
print is, so that the tower tells more or less surely what it says.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from lmms_awares.mini import scenes
from lmms_awares.mini.architecture import HIDDEN
from lmms_awares.mini.drawing import COLOURS, DIGITS, FRAME, LABELS, LETTERS, SHAPES, SLOT, Item, Scene, Style, draw
from lmms_awares.mini.training.features import encode, patchify
from lmms_awares.mini.training.schedule import Schedule
from lmms_awares.views import plan_views, render_crop, render_lowres

_CHARACTERS = ("", *LETTERS, *DIGITS)
_CLASSES: dict[str, tuple[str, ...]] = {
    "symbol": ("", *LABELS, *SHAPES, FRAME),
    "colour": ("", *COLOURS),
    "print": ("none", "fine", "large"),
    **{f"character {i}": _CHARACTERS for i in range(4)},
}
_FIRST = tuple(_CLASSES).index("character 0")
_IGNORED = -100
_NONE_WEIGHT = 0.2  # most slots and cells are empty
_TEXTS = (scenes.number, scenes.character)  # beside shapes
_SIZES = tuple(size for size in scenes.SIZES if size[0] * size[1] >= 224 * 336)


class Heads(nn.Module):
    """A linear head per attribute, and one for the place: (x, y) as fractions of the picture.

    Symbols and colours are classified by the embeddings of their words, which stay fixed. A visual token then points in
    the direction of the word that will ask for it, and the language model's lookup is half learnt.

    Args:
        words: [vocabulary, D] embeddings.
        tokenizer: of the vocabulary.
    """

    def __init__(self, words: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        heads = {name: nn.Linear(HIDDEN, len(classes)) for name, classes in _CLASSES.items()}
        for name in ("symbol", "colour"):
            weight = heads[name].weight
            weight.requires_grad = False
            for index, word in enumerate(_CLASSES[name]):
                tokens = tokenizer.encode(word, add_special_tokens=False)
                if len(tokens) == 1:
                    weight[index] = words[tokens[0]]
        self.attributes = nn.ModuleDict(heads)
        self.place = nn.Linear(HIDDEN, 2)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Sum the heads' mean losses; tokens [B, N, D], targets [B, N, attributes], places [B, N, 2]."""
        total = 30 * mse_loss(self.place(tokens), places)
        for index, head in enumerate(self.attributes.values()):
            logits = head(tokens).flatten(0, 1)
            weights = torch.ones(logits.shape[-1], device=logits.device)
            weights[0] = _NONE_WEIGHT
            total = total + cross_entropy(logits, targets[..., index].flatten(), weights)
        return total

    @torch.no_grad()
    def correct(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the [attributes] shares of right answers among valid targets; 'none' does not count for characters."""
        shares = []
        for index, (name, head) in enumerate(self.attributes.items()):
            wanted = targets[..., index]
            asked = wanted > 0 if name.startswith("character") else wanted != _IGNORED
            shares.append((head(tokens).argmax(-1) == wanted)[asked].float().mean())
        return torch.stack(shares)


def train_tower(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> Iterator[dict[str, float]]:
    """Train in place; yield a report every hundred steps.

    Args:
        model: whose vision tower is trained, merger included.
        tokenizer: the model's.
        steps: optimiser steps.
        batch: pictures per step, each at full resolution (half the time one quadrant of four) and at low resolution.
        seed: of the pictures and the heads.
    """
    torch.manual_seed(seed)
    generator = random.Random(f"tower/{seed}")
    visual, device = model.model.visual, model.device
    heads = Heads(model.get_input_embeddings().weight.detach().cpu(), tokenizer).to(device)
    schedule = Schedule([visual, heads], steps, rate=2e-3)
    for step in range(1, steps + 1):
        schedule.clear()
        size = generator.choice(_SIZES)
        pictures = [crowd(generator, size) for _ in range(batch)]
        views = _views(pictures, whole=generator.random() < 0.5)
        loss, shares = torch.zeros((), device=device), []
        for images, targets, places in views:
            tokens = encode(visual, patchify(images).to(device), images[0].size)
            loss = loss + heads.loss(tokens, targets.to(device), places.to(device))
            shares.append(heads.correct(tokens, targets.to(device)))
        loss.backward()
        schedule.step()
        if step % 100 == 0 or step == steps:
            report = {"step": step, "loss": loss.item()}
            for view, found in zip(("full", "low"), shares, strict=True):
                report |= {f"{view} {name}": value for name, value in zip(_CLASSES, found.tolist(), strict=True)}
            yield report


def crowd(generator: random.Random, size: scenes.Size) -> Scene:
    """Make a scene with an item in most slots, items of every kind and print mixed; one in four is a real chart."""
    if generator.random() < 0.25:
        return scenes.graded(generator, scenes.chart(generator, size))
    styles: tuple[Style, ...] = ("page", "labels", "scene")
    style = generator.choice(styles)
    parts = [
        item
        for row in range(size[1] // SLOT)
        for column in range(size[0] // SLOT)
        if generator.random() < 0.8
        for item in [_any_item(generator, row, column)]
    ]
    return scenes.graded(generator, Scene(*size, style, tuple(parts), generator.randint(-8, 8)))


def _any_item(generator: random.Random, row: int, column: int) -> Item:
    """Make an item as one of the suite's scenes has it, and put it into a slot."""
    one = (4 * SLOT, 4 * SLOT)
    make = generator.choice(
        (
            lambda: scenes.chart(generator, one),
            lambda: scenes.page(generator, one),
            lambda: scenes.labels(generator, one),
            lambda: scenes.shapes(generator, one, generator.choice(_TEXTS), tiny=generator.random() < 0.4),
        )
    )
    return replace(generator.choice(make().items), row=row, column=column)


def _views(pictures: Sequence[Scene], *, whole: bool) -> list[tuple[list[Image.Image], torch.Tensor, torch.Tensor]]:
    """Render views of equally large pictures, each with targets [B, N, attributes] and places [B, N, 2] of its tokens.

    First the full view, or of each picture the top-left quadrant, all at full resolution; then the low-res view.
    """
    images = [draw(picture) for picture in pictures]
    plan = plan_views(*images[0].size)
    rows, columns = pictures[0].slots
    fine, fine_places = torch.stack([_facts(p, 2) for p in pictures]), _places(rows * 2, columns * 2)
    full = images
    if not whole:
        full = [render_crop(image, plan, "0") for image in images]
        fine, fine_places = fine[:, :rows, :columns], fine_places[:rows, :columns]
    coarse, low = torch.stack([_facts(p, 1) for p in pictures]), [render_lowres(image, plan) for image in images]
    return [
        (views, targets.flatten(1, 2), places.flatten(0, 1).expand(len(pictures), -1, -1))
        for views, targets, places in ((full, fine, fine_places), (low, coarse, _places(rows, columns)))
    ]


def _places(rows: int, columns: int) -> torch.Tensor:
    """Return [rows, columns, 2] float (x, y) of the cells' centres as fractions of the picture."""
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return torch.stack([x, y], -1)


def _facts(scene: Scene, cells: Literal[1, 2]) -> torch.Tensor:
    """Return [rows, columns, attributes] int64: class of each attribute in each cell.

    `cells`: along a slot's side. With one cell a slot, the low-res view, print is no target where nothing shows.
    """
    rows, columns = scene.slots
    facts = torch.zeros(rows * cells, columns * cells, len(_CLASSES), dtype=torch.long)
    for item in scene.items:
        top, left = item.row * cells, item.column * cells
        words = {
            "symbol": item.symbol,
            "colour": item.colour if item.symbol else "",
            "print": "none" if not item.text else "fine" if item.fine else "large",
        }
        for index, (name, word) in enumerate(words.items()):
            facts[top : top + cells, left : left + cells, index] = _CLASSES[name].index(word)
        for index, character in enumerate(item.text):
            row, column = top + item.text_cell[0] // (3 - cells), left + (item.text_cell[1] + index // 2) // (3 - cells)
            unreadable = item.fine and not item.legibility and cells == 1
            facts[row, column, _FIRST + index] = _IGNORED if unreadable else _CHARACTERS.index(character)
    return facts
