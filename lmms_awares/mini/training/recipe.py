"""The whole training of the tiny base: tokenizer, tower, lookup, reading, chat, and everything together.

`awares mini train DIR`; seeded, on the CPU or on a GPU where there is one.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from lmms_awares.crops import CROPS
from lmms_awares.journal import digest
from lmms_awares.mini.architecture import new_model
from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.random_checkpoint import save
from lmms_awares.mini.tokenizer import make_tokenizer
from lmms_awares.mini.training.dialogues import MAKERS, Asker, opening
from lmms_awares.mini.training.language import Stage, train_language
from lmms_awares.mini.training.tower import train_tower
from lmms_awares.protocol import GetCrops, format_call
from lmms_awares.protocol.base import Part

Report = dict[str, float | str]


@dataclass(frozen=True)
class Recipe:
    """Length of each stage of training.

    Attributes:
        tower: steps of stage 1.
        pictures: pictures per step of stage 1.
        stages: of the language model, by name, in order.
    """

    tower: int
    pictures: int
    stages: dict[str, Stage]


_CONVERSATIONS = {"full_view": 0.25, "low_view": 0.2, "places": 0.15, "second_look": 0.25, "second_whole": 0.15}
_HARDER = (*BENCHMARKS, "docvqa_val", "ocrbench")  # drawn twice as often
RECIPE = Recipe(
    tower=1600,
    pictures=8,
    stages={
        # What a label names, on charts alone with many short questions a picture.
        "lookup": Stage(300, 1e-3, 10, {"bare_low": 1}, benchmarks=("chartqa",)),
        # Everything that can be asked, before and after the view, as briefly as possible.
        "reading": Stage(
            1100,
            1e-3,
            8,
            {"bare_full": 0.25, "bare_low": 0.15, "bare_places": 0.2, "bare_crops": 0.4},
            benchmarks=_HARDER,
            decay_from=0.3,
        ),
        # The chat format: answers, places, and a second look.
        "chat": Stage(900, 1e-3, 6, _CONVERSATIONS, benchmarks=_HARDER, decay_from=0.2),
        # The same more finely.
        "turns": Stage(1000, 7e-4, 4, _CONVERSATIONS, benchmarks=_HARDER, decay_from=0.1),
        # One question a picture, as in the evaluation; the tower too.
        "joint": Stage(40, 3e-4, 1, _CONVERSATIONS, benchmarks=_HARDER, tower=True, decay_from=0.0),
    },
)
ADAPTER = "visionthink"  # its folder beside the model
THINKING = Stage(200, 1e-3, 1, {"think": 1}, decay_from=0.5)
"""VisionThink's protocol, learnt by an adapter on the finished policy."""


def corpus() -> Iterator[str]:
    """Yield texts of every form of dialogue, AwaRes' own among them, for the tokenizer's phrases."""
    generator = random.Random("corpus")
    protocol = GetCrops()
    for name, benchmark in BENCHMARKS.items():
        for _ in range(60):
            asker = Asker(generator, name, benchmark.sizes[0])
            for maker in ("full_view", "places", "second_look", "think"):
                for turn in MAKERS[maker](asker, 1):
                    yield turn.text
                    yield turn.reply
            for question in asker.ask(1):
                shown: list[Part] = [{"type": "image"}, {"type": "text", "text": asker.text(question)}]
                yield opening(protocol.own["system"], protocol.opening(shown))
                yield format_call([generator.choice(list(CROPS))])


def train(directory: Path, *, seed: int, recipe: Recipe = RECIPE) -> Iterator[Report]:
    """Train the base from random weights and write it; yield a report every fifty or hundred steps.

    The model is stored after every stage; the same call again continues behind the last finished one.

    Args:
        directory: gets the checkpoint; its folder `stages` the models in between and `training.jsonl`, the reports.
        seed: of weights and scenes.
        recipe: length of the stages.
    """
    kept = directory / "stages"
    kept.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (kept / "training.jsonl").open("a", encoding="utf-8") as log:
        for found in _train(directory, kept, seed, recipe):
            report = found | {"seconds": round(time.perf_counter() - started)}
            log.write(json.dumps(report) + "\n")
            log.flush()
            yield report


def _train(directory: Path, kept: Path, seed: int, recipe: Recipe) -> Iterator[Report]:
    device = _device()
    tokenizer = make_tokenizer(corpus())
    model = new_model(tokenizer, seed).to(device)
    stages = {"tower": partial(train_tower, steps=recipe.tower, batch=recipe.pictures, seed=seed)} | {
        name: partial(train_language, stage=stage, seed=f"{seed}/{name}") for name, stage in recipe.stages.items()
    }
    history = digest(seed, recipe.tower, recipe.pictures)
    for name, stage in stages.items():
        if name in recipe.stages:
            history = digest(history, asdict(recipe.stages[name]))
        file = kept / f"{name}-{history[:12]}.pt"
        if file.is_file():
            model.load_state_dict(torch.load(file, map_location=device, weights_only=True))
            yield {"stage": name, "kept": str(file)}
            continue
        for found in stage(model, tokenizer):
            yield {"stage": name, **found}
        torch.save(model.state_dict(), file)
    save_half(directory, model, tokenizer)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def train_adapter(directory: Path, *, seed: int, stage: Stage = THINKING) -> Iterator[Report]:
    """Train a LoRA adapter of a checkpoint's language model, and write it to the folder `ADAPTER` beside it.

    Args:
        directory: of the checkpoint.
        seed: of weights and scenes.
        stage: length and dialogues.
    """
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    torch.manual_seed(seed)
    settings = LoraConfig(r=16, lora_alpha=32, target_modules=r".*language_model.*_proj")
    adapted = get_peft_model(model.to(_device()), settings)
    for found in train_language(adapted.get_base_model(), tokenizer, stage, seed=f"{seed}/{ADAPTER}"):
        yield {"stage": ADAPTER, **found}
    adapted.save_pretrained(directory / ADAPTER)
    (directory / ADAPTER / "README.md").unlink()  # an empty form
    _edit(directory / ADAPTER / "adapter_config.json", base_model_name_or_path="..")


def save_half(directory: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write a checkpoint whose weights are stored in float16, half the size, and run in float32."""
    save(directory, model.half(), tokenizer)
    settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    parts = {name: {**settings[name], "dtype": "float32"} for name in ("text_config", "vision_config")}
    _edit(directory / "config.json", dtype="float32", **parts)


def _edit(file: Path, **changes: Any) -> None:
    settings = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
