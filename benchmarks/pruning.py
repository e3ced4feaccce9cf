"""What pruning costs: peak memory of the score computation, and the time that each method adds before the first token.

    python benchmarks/pruning.py [--pretrained DIR] [--device cuda] [--dtype bfloat16] [--repeats 3] [--side 24]

The first part scores one image of 64 x 64 visual tokens in a single attention block of the published tower's size (16
heads of 80), in a process of its own, and reads the process's peak from the system. The second part times each method
on the checkpoint, on an image of side x side visual tokens, and prints the time that it adds as a share of that image's
vision tower: in front of the language model as the difference to the tower alone, inside it (sparsevlm, fastv) as the
sum over its hooks, which does not count what the shorter layers save. Without --pretrained the tower has the published
size and random weights, and the language model is tiny, so that `saved`, and what those two add, mean nothing. Medians;
times in ms.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
)

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation, Segment, question_of
from lmms_awares.families import QWEN2_5_VL, window_order
from lmms_awares.mini import random_checkpoint
from lmms_awares.models.config import CommonArgs
from lmms_awares.pruning import PRUNERS
from lmms_awares.pruning.base import Pruner
from lmms_awares.pruning.stages import StagedPruner
from lmms_awares.pruning.tower import _receive
from lmms_awares.tokens import TOKEN_SIDE

RATIO = 0.5
STAGED_HOOKS = ("_begin", "_choose_raters", "_prune", "_enter")  # all that a StagedPruner does inside the model
PUBLISHED_TOWER = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "window_size": 112}


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.inference_mode()
def score_memory(side: int) -> tuple[float, float]:
    """(MiB that scoring adds to the process's peak, seconds), weights and input of the block not counted."""
    patches = (QWEN2_5_VL.merge * side) ** 2
    config = Qwen2_5_VLVisionConfig(**PUBLISHED_TOWER)
    block = Qwen2_5_VLVisionAttention(config)
    hidden, table = torch.randn(patches, 1280), torch.rand(patches, 80)
    order = window_order(side, side, 4)
    before = peak_mib()
    started = time.perf_counter()
    _receive(block, hidden, table, table, order=order)
    return peak_mib() - before, time.perf_counter() - started


def prompt(chat: ChatFormat, image: Image.Image) -> Segment:
    """A question about an image."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What does it say?"}]}]
    return chat.segment(chat.render(messages, None), [image])


def median(run: Callable[[], float], repeats: int) -> float:
    """Median of `repeats` runs after one to warm up, ms."""
    return statistics.median([run() for _ in range(repeats + 1)][1:]) * 1000


def timed(hook: Callable[..., Any], device: torch.device, spent: list[float]) -> Callable[..., Any]:
    """`hook`, with the seconds of each call put into `spent`."""

    def run(*args: Any, **kwargs: Any) -> Any:
        started = clock(device)  # waits for what the model has queued, so that it is not counted
        result = hook(*args, **kwargs)
        spent.append(clock(device) - started)
        return result

    return run


def load_model(arguments: argparse.Namespace) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The checkpoint, or a random model with a tower of the published size."""
    settings = {"dtype": arguments.dtype}
    if arguments.pretrained:
        return load(CommonArgs(pretrained=arguments.pretrained, **settings), arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        pretrained = str(random_checkpoint.build(Path(folder) / "tiny"))
        model, processor = load(CommonArgs(pretrained=pretrained, **settings), arguments.device)
    width = model.config.vision_config.out_hidden_size
    model.config.vision_config = Qwen2_5_VLVisionConfig(**PUBLISHED_TOWER, out_hidden_size=width)
    tower = Qwen2_5_VisionTransformerPretrainedModel._from_config(model.config.vision_config)
    model.model.visual = tower.to(model.device, model.dtype).eval()
    return model, processor


def timings(arguments: argparse.Namespace) -> None:
    """Print the table of added times."""
    model, processor = load_model(arguments)
    chat = ChatFormat(processor)
    size = TOKEN_SIDE * arguments.side
    segment = prompt(chat, Image.effect_noise((size, size), 60).convert("RGB"))
    half = TOKEN_SIDE * round(arguments.side * RATIO**0.5)
    small = prompt(chat, Image.effect_noise((half, half), 60).convert("RGB"))
    question = question_of([segment], chat.end_ids[0])
    ids = SimpleNamespace(end_ids=chat.end_ids, pad_token_id=chat.tokenizer.pad_token_id)

    def first_token(own: Segment, pruner: Pruner | None) -> float:
        return Conversation(model, [own], pruner=pruner, **vars(ids)).generate(1)[0].seconds

    @torch.inference_mode()
    def tower(pruner: Pruner) -> float:
        """Encoding and choosing, without the language model."""
        started = clock(model.device)
        with pruner.attached(model):
            encoded = QWEN2_5_VL.encode(model, segment.pixels, segment.grids)
            pruner.prune(model, encoded, segment.pixels, segment.grids, [question])
        return clock(model.device) - started

    def inside(pruner: StagedPruner) -> float:
        """What the method itself does during a prefill."""
        spent: list[float] = []
        for name in STAGED_HOOKS:
            setattr(pruner, name, timed(getattr(pruner, name), model.device, spent))
        first_token(segment, pruner)
        return sum(spent)

    def added(kind: type[Pruner]) -> float:
        if issubclass(kind, StagedPruner):
            return median(lambda: inside(kind(RATIO)), arguments.repeats)
        return median(lambda: tower(kind(RATIO)), arguments.repeats) - alone

    alone = median(lambda: tower(Pruner(1)), arguments.repeats)
    whole = median(lambda: first_token(segment, None), arguments.repeats)
    weights = arguments.pretrained or "random weights, a tower of the published size"
    print(f"\n{weights} on {model.device}, {model.dtype},")
    print(f"{int(segment.is_image.sum())} visual tokens, retain_ratio {RATIO}; vision tower alone {alone:.0f} ms")
    print(f"{'method':<12} {'added by the method':>19} {'of the tower':>13} {'first token ms':>15} {'saved':>7}")
    print(f"{'(none)':<12} {'':>19} {'':>13} {whole:>15.0f}")
    for name, kind in PRUNERS.items():
        pruner = kind(RATIO)
        own = small if pruner.resizes else segment
        first = median(lambda own=own, pruner=pruner: first_token(own, pruner), arguments.repeats)
        extra = added(kind)
        shown = ("", "") if pruner.resizes else (f"{extra:.1f} ms", f"{extra / alone:.0%}")
        print(f"{name:<12} {shown[0]:>19} {shown[1]:>13} {first:>15.0f} {1 - first / whole:>7.0%}")


def clock(device: torch.device) -> float:
    """Seconds, device synchronised."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", type=int, default=24, help="visual tokens per side of the timed image")
    parser.add_argument("--memory-side", type=int, default=64, help="the same of the image whose scores take memory")
    arguments = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        added, seconds = pool.apply(score_memory, (arguments.memory_side,))
    tokens = arguments.memory_side**2
    print(f"scores of {tokens} visual tokens ({4 * tokens} patches, 16 heads, fp32, CPU): ")
    print(f"peak memory +{added:.0f} MiB, {seconds:.1f} s")
    timings(arguments)


if __name__ == "__main__":
    main()
