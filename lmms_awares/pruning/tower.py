"""Attention received in the vision tower's last block, the score that VisionZip and HoloV share.

The block itself runs unchanged, with any attention implementation. Its queries and keys are computed a second time, and
attention in chunks of rows, so that the [heads, T, T] map never exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention, rotate_half
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention

from lmms_awares.cost import Shape
from lmms_awares.families import Family

CHUNK_ELEMENTS = 2**25  # attention probabilities held at a time: 128 MiB in float32


@dataclass(frozen=True)
class Received:
    """Attention that the N visual tokens of one image received, in raster order.

    Attributes:
        scores: [N] float32; attention that a token's four patches receive: summed over queries, averaged over heads and
            patches. Sums to N.
        keys: [N, d] float32; the token's keys after RoPE, averaged over heads and patches.
        order: [N] int64; raster index of each token in the order in which the tower holds them.
    """

    scores: torch.Tensor
    keys: torch.Tensor
    order: torch.Tensor


def received_attention(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return the [T] float32 softmax attention that each key receives, summed over queries and averaged over heads.

    Args:
        queries, keys: [T, H, d] float32 of one image, RoPE applied.
    """
    length, heads, width = keys.shape
    by_head = keys.permute(1, 2, 0)
    total = torch.zeros(length, device=keys.device)
    for chunk in queries.split(max(1, CHUNK_ELEMENTS // (heads * length))):
        attention = (chunk.transpose(0, 1) * width**-0.5) @ by_head
        attention -= attention.amax(-1, keepdim=True)
        attention.exp_()
        attention /= attention.sum(-1, keepdim=True)
        total += attention.sum((0, 1))
    return total / heads


def capture(family: Family, tower: Any, received: list[Received]) -> Iterator[RemovableHandle]:
    """Install hooks on `tower`, of `family`, that append one `Received` per encoded image to `received`; yield each."""
    last = tower.blocks[-1].attn
    grids: list[tuple[int, int]] = []

    def note_grids(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grids[:] = [(rows // family.merge, columns // family.merge) for _, rows, columns in kwargs["grid_thw"].tolist()]

    def score(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        lengths = kwargs["cu_seqlens"].diff().tolist()  # of images: the block attends to whole ones
        cos, sin = (table.split(lengths) for table in kwargs["position_embeddings"])
        for grid, own, *rope in zip(grids, hidden.split(lengths), cos, sin, strict=True):
            order = family.tower_order(tower.config, *grid)
            received.append(_receive(last, own, *rope, order=order.to(own.device)))

    yield tower.register_forward_pre_hook(note_grids, with_kwargs=True)
    yield last.register_forward_pre_hook(score, with_kwargs=True)


def capture_flops(shape: Shape, tokens: int) -> int:
    """FLOPs of `capture` for an image of `tokens` visual tokens: queries and keys once more, and their products."""
    width, patches = shape.tower.hidden, tokens * shape.tower.merge**2
    return 2 * width * patches * (2 * width + patches)


def _receive(
    block: Qwen2_5_VLVisionAttention | Qwen3VLVisionAttention,
    hidden: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    order: torch.Tensor,
) -> Received:
    """Score one image from the [T, C] input of the last block's attention; the patches of a token are consecutive."""
    heads, width = block.num_heads, hidden.shape[1]

    def projected(part: int) -> torch.Tensor:
        rows = slice(part * width, (part + 1) * width)  # the third part, values, is not needed
        x = functional.linear(hidden, block.qkv.weight[rows], block.qkv.bias[rows]).view(len(hidden), heads, -1).float()
        return x * cos[:, None].float() + rotate_half(x) * sin[:, None].float()

    keys = projected(1)
    per_patch = received_attention(projected(0), keys)
    back = order.argsort()
    return Received(
        scores=per_patch.view(len(order), -1).mean(1)[back],
        keys=keys.mean(1).view(len(order), len(hidden) // len(order), -1).mean(1)[back],
        order=order,
    )
