"""What methods cost on Qwen2.5-VL-7B, computed from its configuration: nothing is loaded, nothing runs, no GPU.

    python benchmarks/cost_table.py [-o benchmarks/results/cost_7b.csv]

Two images. A prompt has 60 tokens of text beside its visual tokens, a user turn with one crop 11; every assistant turn,
a call too, is 16 tokens. FLOPs and bytes are those of `lmms_awares.cost`; KV in bfloat16; `share` is of the full view's
total on the same image. Prints the table as Markdown; -o writes it as CSV.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmms_awares.cost import Shape, decode_flops, kv_bytes, prefill_flops, vision_flops
from lmms_awares.pruning.fastv import FastV
from lmms_awares.pruning.schedule import Stage
from lmms_awares.pruning.sparsevlm import SparseVLM, keep_count, left_after
from lmms_awares.pruning.stages import StagedPruner
from lmms_awares.pruning.visionzip import VisionZip, budget
from lmms_awares.views import FULL, LOWRES, ViewPlan, plan_views

# The sizes in the configuration of Qwen/Qwen2.5-VL-7B-Instruct, in its own, older form.
QWEN2_5_VL_7B: dict[str, Any] = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "num_heads": 16,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
SHAPE = Shape.of(QWEN2_5_VL_7B)
IMAGES = {"850x600": (850, 600), "1700x2200": (1700, 2200)}
TEXT, TURN_TEXT, SPOKEN = 60, 11, 16
RATIOS = (0.5, 0.7)
BYTES = 2
COLUMNS = ("image", "method", "visual_tokens", "vision", "prefill", "decode", "total", "share", "kv_mb")


class Bill:
    """FLOPs by part, and the columns of the KV cache at each layer."""

    def __init__(self) -> None:
        self.vision = self.prefill = self.decode = 0
        self.held = [0] * SHAPE.layers

    def turn(self, encoded: int, lengths: list[int]) -> None:
        """One turn: FLOPs of its images, and the tokens at each layer behind its prefill."""
        new = [length - held for length, held in zip(lengths, self.held, strict=True)]
        self.vision += encoded
        self.prefill += prefill_flops(SHAPE, new, self.held)
        self.decode += decode_flops(SHAPE, SPOKEN - 1, lengths)
        self.held = [length + SPOKEN - 1 for length in lengths]

    def row(self, method: str, visual: float) -> dict[str, Any]:
        """Cells without image and share; FLOPs in 10^12, bytes in 10^6."""
        parts = {"vision": self.vision, "prefill": self.prefill, "decode": self.decode}
        flops = parts | {"total": sum(parts.values())}
        return {
            "method": method,
            "visual_tokens": round(visual, 1),
            **{name: round(value / 1e12, 3) for name, value in flops.items()},
            "kv_mb": round(kv_bytes(SHAPE, self.held, BYTES) / 1e6, 3),
        }


def encoding(plan: ViewPlan, name: str) -> int:
    """FLOPs of the vision tower for a view."""
    sizes = {FULL: plan.full_size, LOWRES: plan.grid_of(plan.lowres_size)}
    width, height = sizes[name] if name in sizes else plan.grid_of(plan.crop_size(name))
    return vision_flops(SHAPE, [(1, height // 14, width // 14)])


def single(plan: ViewPlan, view: str, tokens: int) -> dict[str, Any]:
    """One turn on a view."""
    bill = Bill()
    bill.turn(encoding(plan, view), [tokens + TEXT] * SHAPE.layers)
    return bill.row({FULL: "full", LOWRES: "low-res"}[view], tokens)


def called(plan: ViewPlan, crop: str, *, reuse: bool) -> dict[str, Any]:
    """The low-res view, a call, and the answer from a crop; or from the whole image, which `all` is."""
    bill, shown = Bill(), plan.full_tokens if crop == "all" else plan.crop_tokens(crop)
    opening = plan.lowres_tokens + TEXT
    low, high = encoding(plan, LOWRES), encoding(plan, FULL if crop == "all" else crop)
    bill.turn(low, [opening] * SHAPE.layers)
    if not reuse:
        bill.held = [0] * SHAPE.layers
    lengths = [opening + SPOKEN + TURN_TEXT + shown] * SHAPE.layers
    bill.turn(high if reuse else low + high, lengths)
    name = f"low-res + {'full' if crop == 'all' else 'quadrant'}, {'KV reuse' if reuse else 'prefilled again'}"
    return bill.row(name, plan.lowres_tokens + shown)


def zipped(plan: ViewPlan, ratio: float) -> dict[str, Any]:
    """VisionZip on the full view: fewer tokens enter; the tower's attention is computed once more."""
    pruner, bill = VisionZip(ratio), Bill()
    kept = sum(budget(plan.full_tokens, pruner.exact_ratio))
    chosen = pruner.selection_flops(SHAPE, plan.full_tokens)
    bill.turn(encoding(plan, FULL) + chosen, [kept + TEXT] * SHAPE.layers)
    return bill.row(f"visionzip@{ratio}", kept)


def staged(plan: ViewPlan, pruner: StagedPruner, left: Any) -> dict[str, Any]:
    """A pruner inside the language model, on the full view.

    Args:
        left: (tokens, target) -> tokens behind a stage.
    """
    stages: dict[int, Stage] = {stage.layer: stage for stage in pruner.stages(SHAPE.layers)}
    entering, leaving, tokens = [], [], plan.full_tokens
    for layer in range(SHAPE.layers):
        entering.append(tokens)
        if layer in stages:
            tokens = left(tokens, stages[layer].target(plan.full_tokens))
        leaving.append(tokens)
    bill = Bill()
    bill.turn(encoding(plan, FULL), [count + TEXT for count in entering])
    return bill.row(f"{pruner.name}@{pruner.retain_ratio}", sum(leaving) / SHAPE.layers)


def merged(tokens: int, target: int) -> int:
    """What SparseVLM leaves of `tokens`."""
    return left_after(tokens, keep_count(tokens, target))


def rows(plan: ViewPlan) -> Iterator[dict[str, Any]]:
    """All methods on one image."""
    yield single(plan, FULL, plan.full_tokens)
    yield single(plan, LOWRES, plan.lowres_tokens)
    for crop in ("0", "all"):
        for reuse in (True, False):
            yield called(plan, crop, reuse=reuse)
    for ratio in RATIOS:
        yield zipped(plan, ratio)
        yield staged(plan, SparseVLM(ratio), merged)
        yield staged(plan, FastV(ratio), min)


def table() -> pd.DataFrame:
    """Columns `COLUMNS`."""
    parts = []
    for name, size in IMAGES.items():
        part = pd.DataFrame(rows(plan_views(*size))).assign(image=name)
        parts.append(part.assign(share=(part["total"] / part["total"].iloc[0]).round(3)))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def main() -> None:
    """Print the table; write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = table()
    shown = found.assign(share=(100 * found["share"]).map("{:.1f} %".format))
    print(shown.to_markdown(index=False, floatfmt=",.2f", intfmt=","))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        found.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
