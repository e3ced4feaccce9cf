"""The whole training of the tiny checkpoint: tokenizer, tower, lookup, protocol, and everything together.

`awares mini train DIR`; seeded, on the CPU or on a GPU where there is one.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from lmms_awares.mini.architecture import new_model
from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.random_checkpoint import save
from lmms_awares.mini.tokenizer import make_tokenizer
from lmms_awares.mini.training.dialogues import Asker, crops, decisions, full_view, low_view, whole
from lmms_awares.mini.training.language import Stage, train_language
from lmms_awares.mini.training.tower import train_tower

Report = dict[str, float | str]


@dataclass(frozen=True)
class Recipe:
    """How long each stage lasts.

    Attributes:
        tower: steps of stage 1.
        pictures: a step of stage 1.
        stages: of the language model, by name, in order.
    """

    tower: int
    pictures: int
    stages: dict[str, Stage]


RECIPE = Recipe(
    tower=1600,
    pictures=8,
    stages={
        # Many questions a picture: what a label names and where it is.
        "lookup": Stage(600, 1e-3, 6, {full_view: 0.4, low_view: 0.3, decisions: 0.3}),
        # Crop turns, and the forms of the evaluation.
        "protocol": Stage(600, 1e-3, 4, {full_view: 0.25, low_view: 0.15, decisions: 0.25, crops: 0.25, whole: 0.1}),
        # One question a picture, tower included.
        "joint": Stage(
            300, 3e-4, 1, {full_view: 0.25, low_view: 0.15, decisions: 0.25, crops: 0.25, whole: 0.1}, tower=True
        ),
    },
)


def corpus() -> Iterator[str]:
    """Texts of every form of dialogue, for the tokenizer's phrases."""
    generator = random.Random("corpus")
    for name, benchmark in BENCHMARKS.items():
        for _ in range(60):
            asker = Asker(generator, name, benchmark.sizes[0])
            for maker in (full_view, decisions, whole):
                for turn in maker(asker, 1):
                    yield turn.text
                    yield turn.reply


def train(directory: Path, *, seed: int, recipe: Recipe = RECIPE) -> Iterator[Report]:
    """Train a checkpoint from nothing and write it; yields a report every fifty or hundred steps.

    Args:
        directory: gets the checkpoint, and `training.jsonl` with the reports.
        seed: of weights and scenes.
        recipe: how long.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(corpus())
    model = new_model(tokenizer, seed).to("cuda" if torch.cuda.is_available() else "cpu")
    directory.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (directory / "training.jsonl").open("w", encoding="utf-8") as log:
        for report in _stages(model, tokenizer, recipe, seed):
            report |= {"seconds": round(time.perf_counter() - started)}
            log.write(json.dumps(report) + "\n")
            log.flush()
            yield report
    save_half(directory, model, tokenizer)


def _stages(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int
) -> Iterator[Report]:
    for found in train_tower(model, tokenizer, steps=recipe.tower, batch=recipe.pictures, seed=seed):
        yield {"stage": "tower", **found}
    for name, stage in recipe.stages.items():
        for found in train_language(model, tokenizer, stage, seed=f"{seed}/{name}"):
            yield {"stage": name, **found}


def save_half(directory: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write a checkpoint whose weights are stored in float16 and run in float32, half the size."""
    save(directory, model.half(), tokenizer)
    file = directory / "config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    for part in (settings, settings["text_config"], settings["vision_config"]):
        part["dtype"] = "float32"
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
