"""The vision tower on batches of equally large views, for training: a few large steps instead of a loop over images.

Equal to `model.visual` on the image processor's patches; a test compares them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import scaled_dot_product_attention
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
    get_vision_position_ids,
    get_vision_window_index,
)

from lmms_awares.families import QWEN2_5_VL

PATCH, MERGE = QWEN2_5_VL.patch, QWEN2_5_VL.merge
WINDOW = 16  # patches of a 56-px window


def patchify(views: Sequence[Image.Image]) -> torch.Tensor:
    """Return the [B, P, 1176] float32 patches of equally large views whose sides are multiples of 28 px."""
    pixels = torch.from_numpy(np.stack([np.asarray(view) for view in views])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    batch, channels, height, width = pixels.shape
    rows, columns = height // PATCH // MERGE, width // PATCH // MERGE
    cut = ((pixels - mean) / std).reshape(batch, channels, rows, MERGE, PATCH, columns, MERGE, PATCH)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # batch, row, column, row in cell, column in cell, channel, y, x
    twice = cut.unsqueeze(6).expand(*cut.shape[:6], 2, PATCH, PATCH)  # an image is two equal frames
    return twice.reshape(batch, rows * columns * MERGE**2, -1)


def encode(
    visual: Qwen2_5_VisionTransformerPretrainedModel, patches: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Return the visual tokens of a batch of views.

    Args:
        visual: a tower with 56-px windows.
        patches: [B, P, 1176].
        size: (width, height) px of every view, multiples of 56.

    Returns:
        [B, P / 4, D], in reading order.
    """
    grid = torch.tensor([[1, size[1] // PATCH, size[0] // PATCH]])
    batch, count = patches.shape[:2]
    order, _ = get_vision_window_index(grid, MERGE, visual.window_size, PATCH)
    by_patch = (order[:, None] * MERGE**2 + torch.arange(MERGE**2)).flatten().to(patches.device)
    hidden = visual.patch_embed(patches.reshape(batch * count, -1)).view(batch, count, -1)[:, by_patch]
    positions = get_vision_position_ids(grid, MERGE).to(patches.device)
    rope = tuple(part[by_patch] for part in visual.rotary_pos_emb(hidden, positions))
    for index, block in enumerate(visual.blocks):
        window = count if index in visual.fullatt_block_indexes else WINDOW
        hidden = hidden + _attend(block.attn, block.norm1(hidden), rope, window)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged = visual.merger(hidden.reshape(batch * count, -1)).view(batch, count // MERGE**2, -1)
    return merged[:, torch.argsort(order).to(merged.device)]


def _attend(
    attention: Qwen2_5_VLVisionAttention, hidden: torch.Tensor, rope: tuple[torch.Tensor, ...], window: int
) -> torch.Tensor:
    """Apply self-attention within consecutive stretches of `window` patches; hidden is [B, P, D]."""
    batch, count, width = hidden.shape
    heads = attention.num_heads
    query, key, value = attention.qkv(hidden).view(batch * count, 3, heads, -1).unbind(1)
    cosine, sine = (part.repeat(batch, 1) for part in rope)
    query, key = apply_rotary_pos_emb_vision(query, key, cosine, sine)
    parts = [part.reshape(-1, window, heads, width // heads).transpose(1, 2) for part in (query, key, value)]
    mixed = scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, count, width)
    return attention.proj(mixed)
