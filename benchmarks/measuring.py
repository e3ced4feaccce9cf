"""What the scripts share: ways that take turns, quartiles, the machine, a random model of 150 M parameters."""

import json
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from lmms_awares.mini import random_checkpoint

# A 7B in small: the tower has a tenth of the parameters, and the matrices are large enough for a core to be busy.
_TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6},
}
_TOWER = {
    "depth": 8,
    "hidden_size": 320,
    "intermediate_size": 856,
    "num_heads": 5,
    "out_hidden_size": 1024,
    "window_size": 112,
    "fullatt_block_indexes": [3, 7],
}


def medium(folder: Path) -> Path:
    """Write a random Qwen2.5-VL of about 150 M parameters and return its folder."""
    tokenizer = random_checkpoint.byte_tokenizer()
    of_text, of_model = random_checkpoint.token_settings(tokenizer)
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(text_config=of_text | _TEXT, vision_config=_TOWER, **of_model, tie_word_embeddings=True)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return random_checkpoint.save(folder, model, tokenizer)


def alternate(ways: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Run every way in turn, `repeats` times behind one warm-up; returns what each gave, in that order."""
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(way())
    return found


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and quartiles; of fewer than two values all are the same."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "q1": low, "q3": high}


def ratios(ways: Mapping[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """Median and quartiles of `slow` by `fast`, pair by pair: what slows the machine down slows both."""
    return quartiles([a / b for a, b in zip(ways[slow], ways[fast], strict=True)])


def machine(device: str = "cpu", attention: str = "sdpa") -> dict[str, Any]:
    """What a figure depends on besides the code; peak memory is this process's so far, in MiB."""
    names = ("lmms-awares", "lmms-eval", "transformers", "torch")
    on_gpu = device.startswith("cuda")
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "attention": attention,
        "peak_mib": round(peak),
        "versions": {name: version(name) for name in names},
    }


def write(output: Path | None, **facts: Any) -> None:
    """Write what was measured, with the command that did, as JSON."""
    if output is None:
        return
    given = ["DIR" if Path(argument).is_dir() else argument for argument in sys.argv[1:]]
    command = " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *given])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"command": command, **facts}, indent=1) + "\n", encoding="utf-8")
