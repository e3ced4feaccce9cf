"""An estimate, not a measurement: hours and memory of SFT and GRPO on Qwen2.5-VL-7B, one node of eight GPUs.

    python benchmarks/training_cost.py [-o benchmarks/results/training_cost.json]

Computed from the 7B's configuration and the values of sft_7b.yaml and grpo_7b.yaml; nothing is loaded, nothing runs.
How many FLOPs, is `lmms_awares.cost`; how fast they go, are two shares that are assumed (`--mfu`, `--bandwidth-share`).

SFT, per row      tower forward; language model forward, forward again (gradient checkpointing), backward
GRPO, per rollout prefill of turn 1; of turn 2 from the start, tower too, where it calls; reference forward; as SFT
                  and tokens one by one, each reading all weights and the batch's KV cache

Backward is once the forward pass of matrix products, twice of attention: LoRA needs gradients of activations alone,
none of the base's weights. No gradient enters the tower. Rows of a batch are padded to its longest.

Left out: LoRA's own products (below 1 %), evaluation, image processing, rewards, the gradients' exchange, starts, and
in memory the CUDA context, NCCL and what the allocator cannot use.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from cost_table import BYTES, IMAGES, QWEN2_5_VL_7B, SHAPE, TURN_TEXT, encoding
from measuring import write

import lmms_awares
from lmms_awares.cost import Shape, head_flops, kv_bytes, layer_flops, prefill_flops
from lmms_awares.views import LOWRES, ViewPlan, plan_views

CONFIGS = Path(lmms_awares.__file__).parent / "training" / "configs"
TEXT = 190  # tokens of a prompt beside its image: 162 of the system prompt, the template's, a question
CALL, ANSWER = 9, 16  # tokens of a call for one crop, its end included, and of an answer (assumed)
CROP = "5"  # a half; calls show .46 of the image after SFT (Table 7)
GPUS = 8
TILE = 4096 * 32768  # logits that TRL's chunked head holds at once


@dataclass(frozen=True)
class Assumed:
    """What the estimate depends on beside configuration and lengths.

    Attributes:
        rows: of the curated set's split `train`; GRPO takes all of them, SFT the settings' `rows_per_source`.
        sources: of these rows, equally many of each.
        hr_share: of these, with the label HR (Table 2, the paper's labels: 20.26 %).
        call_rate: of rollouts; Fig. 5 gives 53.7 % before GRPO and 27.8 % behind it, here their mean.
        peak: FLOP/s of one GPU, dense bfloat16.
        bandwidth: bytes/s of its memory.
        mfu: share of `peak` that passes over whole sequences reach.
        bandwidth_share: of `bandwidth` that decoding token by token reaches.
    """

    rows: int = 50_000
    sources: int = 5
    hr_share: float = 0.2026
    call_rate: float = 0.4075
    peak: float = 989e12
    bandwidth: float = 3.35e12
    mfu: float = 0.35
    bandwidth_share: float = 0.2


@dataclass(frozen=True)
class Lengths:
    """Tokens and tower FLOPs of a trajectory on one image.

    Attributes:
        opening: up to the first turn of the assistant.
        direct, called: whole trajectories, without a call and with one.
        behind: of `called`, what follows the opening.
        low, crop: FLOPs of the tower for the two views.
        patches: of both views.
    """

    opening: int
    direct: int
    called: int
    behind: int
    low: int
    crop: int
    patches: int

    @classmethod
    def of(cls, plan: ViewPlan) -> "Lengths":
        """On an image with these views."""
        opening, crop = TEXT + plan.lowres_tokens, plan.crop_tokens(CROP)
        behind = CALL + TURN_TEXT + crop + ANSWER
        patches = 4 * (plan.lowres_tokens + crop)
        views = encoding(plan, LOWRES), encoding(plan, CROP)
        return cls(opening, opening + ANSWER, opening + behind, behind, *views, patches)


def mixed(share: float, with_call: float, without: float) -> float:
    """Mean over rows of which `share` have a call."""
    return share * with_call + (1 - share) * without


def any_of(share: float, rows: int) -> float:
    """Chance that at least one of `rows` is among `share`."""
    return 1 - (1 - share) ** rows


def forward_flops(shape: Shape, tokens: int, scored: float) -> float:
    """FLOPs of one pass of the language model over `tokens`, of which `scored` reach the head."""
    return shape.layers * layer_flops(shape, tokens, 0) + scored * head_flops(shape)


def training_flops(shape: Shape, tokens: int, scored: float) -> float:
    """FLOPs of forward, forward again, and backward to the activations; the chunked head does the same."""
    attention = shape.layers * 4 * shape.heads * shape.head_width * tokens**2
    return 3 * forward_flops(shape, tokens, scored) + attention


def sft_flops(shape: Shape, lengths: Lengths, share: float, batch: int) -> float:
    """FLOPs of one row of SFT, in a batch that is padded to its longest; `share` of the rows have a call."""
    scored = mixed(share, CALL + ANSWER, ANSWER)
    language = mixed(
        any_of(share, batch),
        training_flops(shape, lengths.called, scored),
        training_flops(shape, lengths.direct, scored),
    )
    return lengths.low + share * lengths.crop + language


def grpo_flops(shape: Shape, lengths: Lengths, share: float, group: int) -> dict[str, float]:
    """FLOPs of one rollout in passes over whole sequences, by part: `prefill`, `reference`, `training`."""
    tower = lengths.low + share * lengths.crop
    first = lengths.low + prefill_flops(shape, lengths.opening)
    second = lengths.low + lengths.crop + prefill_flops(shape, lengths.called - ANSWER)
    scored = mixed(share, lengths.behind, ANSWER)  # with the crops: TRL scores all behind the prompt
    reference, training = (
        mixed(any_of(share, group), passes(shape, lengths.called, scored), passes(shape, lengths.direct, scored))
        for passes in (forward_flops, training_flops)
    )
    return {"prefill": first + share * second, "reference": tower + reference, "training": tower + training}


def decode_bytes(shape: Shape, lengths: Lengths, share: float, group: int) -> float:
    """Bytes that decoding a group's rollouts reads: the weights for every token, and the KV caches of the batch.

    The prefill of each turn gives its first token. Turn 2 takes place where any of the group calls.
    """
    weights, steps = language_parameters(shape) * BYTES, ANSWER - 1
    first = weights + group * kv_bytes(shape, lengths.opening, BYTES)
    second = any_of(share, group) * weights + share * group * kv_bytes(shape, lengths.called, BYTES)
    return steps * (first + second)


def language_parameters(shape: Shape) -> int:
    """Parameters that decoding reads: layers and head, without embeddings and biases."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    layer = shape.hidden * (2 * queries + 2 * keys + 3 * shape.intermediate)
    return shape.layers * layer + shape.hidden * shape.vocabulary


def parameters(shape: Shape) -> int:
    """All of them: with the embeddings and the tower, without biases and norms."""
    tower = shape.tower
    joined = tower.hidden * tower.merge**2
    blocks = tower.depth * (4 * tower.hidden**2 + tower.matrices * tower.hidden * tower.intermediate)
    vision = tower.patch_values * tower.hidden + blocks + tower.mergers * (joined**2 + joined * tower.out)
    return language_parameters(shape) + shape.hidden * shape.vocabulary + vision


def lora_parameters(shape: Shape, rank: int) -> int:
    """Of an adapter on all seven projections of every layer."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    sides = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + shape.intermediate)
    return shape.layers * rank * sides


def memory(shape: Shape, lengths: Lengths, *, batch: int, rank: int, rollouts: bool) -> dict[str, float]:
    """GB (10^9 bytes) on one GPU, by part, for a batch of trajectories with calls.

    `optimizer`: the adapter in float32, its gradient, two moments of AdamW; with rollouts a frozen copy too.
    `activations`: every layer's input, one layer's inner values with their gradients, or the tower's where more.
    `logits`: the chunked head's tile, and float32 gradients of what it scores.
    `kv`: of all rollouts, while nothing of the training is held; it counts where it is more than the two before.
    """
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    tokens, tower = batch * lengths.called, shape.tower
    inner = 4 * shape.hidden + 2 * queries + 2 * keys + 4 * shape.intermediate
    trained = tokens * BYTES * (shape.layers * shape.hidden + 2 * inner)
    seen = batch * lengths.patches * BYTES * (7 * tower.hidden + 4 * tower.intermediate)
    scored = batch * (lengths.behind if rollouts else CALL + ANSWER)
    return {
        "weights": parameters(shape) * BYTES / 1e9,
        "optimizer": lora_parameters(shape, rank) * (20 if rollouts else 16) / 1e9,
        "activations": max(trained, seen) / 1e9,
        "logits": (TILE * BYTES + scored * shape.hidden * 4) / 1e9,
        "kv": batch * kv_bytes(shape, lengths.called, BYTES) / 1e9 if rollouts else 0.0,
    }


def peak_memory(parts: Mapping[str, float]) -> float:
    """GB at once: weights and optimizer, and either training or rollouts."""
    return parts["weights"] + parts["optimizer"] + max(parts["activations"] + parts["logits"], parts["kv"])


def sft_row(lengths: Lengths, assumed: Assumed, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Hours and GB of SFT on images of one size."""
    batch = settings["per_device_train_batch_size"]
    flops = sft_flops(SHAPE, lengths, assumed.hr_share, batch)
    rows = min(assumed.rows, assumed.sources * settings["rows_per_source"] or assumed.rows)
    seconds = settings["num_train_epochs"] * rows * flops / (assumed.peak * assumed.mfu)
    parts = memory(SHAPE, lengths, batch=batch, rank=settings["lora_rank"], rollouts=False)
    return {"stage": "SFT", "training_s": seconds, **_totals(seconds, parts)}


def grpo_row(lengths: Lengths, assumed: Assumed, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Hours and GB of GRPO on images of one size; a GPU's batch is the group of one prompt."""
    group = settings["num_generations"]
    rollouts = settings["num_train_epochs"] * assumed.rows * group
    parts = grpo_flops(SHAPE, lengths, assumed.call_rate, group)
    seconds = {f"{name}_s": rollouts * flops / (assumed.peak * assumed.mfu) for name, flops in parts.items()}
    read = decode_bytes(SHAPE, lengths, assumed.call_rate, group)
    seconds["decode_s"] = rollouts / group * read / (assumed.bandwidth * assumed.bandwidth_share)
    held = memory(SHAPE, lengths, batch=group, rank=settings["lora_rank"], rollouts=True)
    return {"stage": "GRPO", **seconds, **_totals(sum(seconds.values()), held)}


def _totals(seconds: float, parts: Mapping[str, float]) -> dict[str, float]:
    """Of one GPU's work in all: hours of the node, and memory of each GPU."""
    hours = {"hours": seconds / GPUS / 3600, "gpu_hours": seconds / 3600, "gb": peak_memory(parts)}
    return hours | {f"{name}_gb": value for name, value in parts.items()}


def estimates(assumed: Assumed) -> list[dict[str, Any]]:
    """Both stages on both images."""
    files = {name: CONFIGS / f"{name}_7b.yaml" for name in ("sft", "grpo")}
    settings = {name: yaml.safe_load(file.read_text(encoding="utf-8")) for name, file in files.items()}
    settings["grpo"]["lora_rank"] = settings["sft"]["lora_rank"]  # its adapter is SFT's
    made = []
    for stage, row in (("sft", sft_row), ("grpo", grpo_row)):
        for image, size in IMAGES.items():
            lengths = Lengths.of(plan_views(*size))
            about = {"image": image, "tokens_direct": lengths.direct, "tokens_called": lengths.called}
            made.append(about | row(lengths, assumed, settings[stage]))
    return made


def main() -> None:
    """Print the table; write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Assumed()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("-o", "--output", type=Path)
    given = vars(parser.parse_args())
    output = given.pop("output")
    assumed = Assumed(**given)
    found = estimates(assumed)
    told = f"mfu {assumed.mfu:g}, bandwidth_share {assumed.bandwidth_share:g}, {assumed.rows:,} rows"
    print(f"Estimate, not measured, of {GPUS} GPUs ({told}):\n")
    shown = pd.DataFrame(found)[["stage", "image", "tokens_direct", "tokens_called", "hours", "gpu_hours", "gb"]]
    headings = ["stage", "image", "tokens, direct", "with a call", "hours", "GPU-hours", "GB per GPU"]
    print(shown.set_axis(headings, axis=1).to_markdown(index=False, floatfmt=",.1f", intfmt=","))
    rounded = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()} for row in found
    ]
    write(
        output,
        measured=False,
        kind="estimate",
        assumed=asdict(assumed),
        model=QWEN2_5_VL_7B["model_type"],
        rows=rounded,
    )


if __name__ == "__main__":
    main()
