"""The whole training of the tiny checkpoint: tokenizer, tower, lookup, protocol, and everything together.

`awares mini train DIR`; seeded, on the CPU or on a GPU where there is one.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from lmms_awares.journal import digest
from lmms_awares.mini.architecture import new_model
from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.random_checkpoint import save
from lmms_awares.mini.tokenizer import make_tokenizer
from lmms_awares.mini.training.dialogues import MAKERS, Asker
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


_CONVERSATIONS = {"full_view": 0.25, "low_view": 0.15, "decisions": 0.25, "crops": 0.25, "whole": 0.1}
RECIPE = Recipe(
    tower=1300,
    pictures=8,
    stages={
        # What a label names; on charts alone, with many short questions a picture, this takes minutes.
        "lookup": Stage(200, 1e-3, 10, {"bare_low": 1}, benchmarks=("chartqa",)),
        "reading": Stage(700, 1e-3, 8, {"bare_full": 0.5, "bare_low": 0.5}, decay_from=0.7),
        # The chat format, calls and crop turns.
        "protocol": Stage(450, 1e-3, 4, _CONVERSATIONS, decay_from=0.5),
        # One question a picture, as in the evaluation; the tower too.
        "joint": Stage(200, 3e-4, 1, _CONVERSATIONS, tower=True, decay_from=0.0),
    },
)


def corpus() -> Iterator[str]:
    """Texts of every form of dialogue, for the tokenizer's phrases."""
    generator = random.Random("corpus")
    for name, benchmark in BENCHMARKS.items():
        for _ in range(60):
            asker = Asker(generator, name, benchmark.sizes[0])
            for maker in ("full_view", "decisions", "whole", "think"):
                for turn in MAKERS[maker](asker, 1):
                    yield turn.text
                    yield turn.reply


def train(directory: Path, *, seed: int, recipe: Recipe = RECIPE) -> Iterator[Report]:
    """Train a checkpoint from nothing and write it; yields a report every fifty or hundred steps.

    The model is kept after every stage; the same call again goes on behind the last one.

    Args:
        directory: gets the checkpoint; its folder `stages` the models in between and `training.jsonl`, the reports.
        seed: of weights and scenes.
        recipe: how long.
    """
    tokenizer = make_tokenizer(corpus())
    model = new_model(tokenizer, seed).to("cuda" if torch.cuda.is_available() else "cpu")
    kept = directory / "stages"
    kept.mkdir(parents=True, exist_ok=True)
    stages = {"tower": partial(train_tower, steps=recipe.tower, batch=recipe.pictures, seed=seed)} | {
        name: partial(train_language, stage=stage, seed=f"{seed}/{name}") for name, stage in recipe.stages.items()
    }
    history = digest(seed, recipe.tower, recipe.pictures)
    for name, stage in stages.items():
        if name in recipe.stages:
            history = digest(history, asdict(recipe.stages[name]))
        file = kept / f"{name}-{history[:12]}.pt"
        if file.is_file():
            model.load_state_dict(torch.load(file, weights_only=True))
            continue
        started = time.perf_counter()
        with (kept / "training.jsonl").open("a", encoding="utf-8") as log:
            for found in stage(model, tokenizer):
                report: Report = {"stage": name, **found, "seconds": round(time.perf_counter() - started)}
                log.write(json.dumps(report) + "\n")
                log.flush()
                yield report
        torch.save(model.state_dict(), file)
    save_half(directory, model, tokenizer)


def save_half(directory: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write a checkpoint whose weights are stored in float16 and run in float32, half the size."""
    save(directory, model.half(), tokenizer)
    file = directory / "config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    for part in (settings, settings["text_config"], settings["vision_config"]):
        part["dtype"] = "float32"
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
