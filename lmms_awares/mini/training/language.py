"""Training of the language model, stage by stage: lookup, reading, and the chat format.

A scene serves a few dialogues, so that drawing and the vision tower cost little, and then gives way to a fresh one.
With only a few hundred cached scenes the lookup is not learnt.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.scenes import Size
from lmms_awares.mini.training.batches import Row, collate, loss, tokenize
from lmms_awares.mini.training.dialogues import MAKERS, Asker
from lmms_awares.mini.training.schedule import Schedule

_USES = 8  # dialogues about a scene
_STOCK = 24  # scenes of one benchmark and size; about a thousand altogether


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        steps: optimiser steps.
        rate: peak learning rate.
        questions: questions per dialogue.
        mix: kinds of dialogue, keys of `MAKERS`, with their weights.
        tower: train the vision tower too.
        benchmarks: benchmarks whose scenes are drawn.
        decay_from: share (0..1) of the steps after which the rate falls.
        tokens: approximate number of tokens per step, padding included.
    """

    steps: int
    rate: float
    questions: int
    mix: Mapping[str, float]
    tower: bool = False
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS)
    decay_from: float = 1.0
    tokens: int = 3000


class Scenes:
    """A stock of scenes per benchmark and size; each serves `_USES` dialogues, or one while the tower is trained.

    Args:
        generator: of the scenes and of the choices.
        fresh: a new scene every time.
    """

    def __init__(self, generator: random.Random, *, fresh: bool) -> None:
        self._generator, self._uses = generator, 1 if fresh else _USES
        self._stock: dict[tuple[str, Size], list[tuple[Asker, int]]] = defaultdict(list)

    def take(self, benchmark: str, size: Size) -> Asker:
        """Return a scene for one dialogue."""
        stock = self._stock[benchmark, size]
        if len(stock) < _STOCK:
            stock.append((Asker(self._generator, benchmark, size), self._uses))
        index = self._generator.randrange(len(stock))
        asker, left = stock[index]
        if left > 1:
            stock[index] = asker, left - 1
        else:
            stock[index] = stock[-1]
            stock.pop()
        return asker


def train_language(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, stage: Stage, *, seed: str
) -> Iterator[dict[str, float]]:
    """Train in place; yield a report every fifty steps: per kind of dialogue, loss and share of right replies.

    Args:
        model: in float32.
        tokenizer: the model's.
        stage: what to train on, and for how long.
        seed: of the scenes.
    """
    generator = random.Random(f"language/{seed}")
    model.model.visual.requires_grad_(stage.tower)
    schedule = Schedule([model], stage.steps, rate=stage.rate, decay_from=stage.decay_from)
    scenes = Scenes(generator, fresh=stage.tower)
    kinds, weights = zip(*stage.mix.items(), strict=True)
    seen: dict[str, list[float]] = defaultdict(list)
    for step in range(1, stage.steps + 1):
        schedule.clear()
        kind = generator.choices(kinds, weights)[0]
        rows = _rows(generator, scenes, tokenizer, kind, stage)
        value, right = loss(model, collate(tokenizer, rows), tower=stage.tower)
        value.backward()
        schedule.step()
        seen[f"{kind} loss"].append(value.item())
        seen[f"{kind} right"].append(right)
        if step % 50 == 0 or step == stage.steps:
            yield {"step": step} | {name: fmean(values) for name, values in sorted(seen.items())}
            seen.clear()
    model.model.visual.requires_grad_(True)


def _rows(
    generator: random.Random, scenes: Scenes, tokenizer: PreTrainedTokenizerFast, kind: str, stage: Stage
) -> list[Row]:
    """Draw dialogues on equally large pictures of all benchmarks that have this size, about `stage.tokens` padded."""
    size = generator.choice([size for name in stage.benchmarks for size in BENCHMARKS[name].sizes])
    benchmarks = [name for name in stage.benchmarks if size in BENCHMARKS[name].sizes]
    rows: list[Row] = []
    longest = 0
    while longest * len(rows) < stage.tokens:
        dialogue = MAKERS[kind](scenes.take(generator.choice(benchmarks), size), stage.questions)
        if dialogue:
            rows.append(tokenize(tokenizer, dialogue))
            longest = max(longest, len(rows[-1].ids))
    return rows
