"""Where the columns of a batch come from, between the stages of a pruner inside the language model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmms_awares.tokens import Left, to_bits

Rope = Sequence[torch.Tensor]  # cos and sin


@dataclass(frozen=True)
class Layout:
    """The batch's columns between two stages: [B, T] each, and [B, T, head_dim] rotary tables behind a stage.

    Attributes:
        valid: bool, False at pads.
        visual: bool, True at visual tokens.
        origin: int64, where the prompt that was prefilled has the token; of a merged one, the token whose position it
            took.
        padded: some row has pads. It is kept because asking the device anew at every layer of every step would cost
            more than the step.
        rope: None in front of the first stage.
    """

    valid: torch.Tensor
    visual: torch.Tensor
    origin: torch.Tensor
    padded: bool
    rope: tuple[torch.Tensor, torch.Tensor] | None = None


def left_of(layouts: Sequence[Layout], layers: Sequence[int]) -> list[tuple[Left, ...]]:
    """Return what each stage left of each row's visual tokens.

    Args:
        layouts: in front of the first stage, and behind each.
        layers: of the stages.
    """
    found = []
    for layout in layouts:
        left = torch.zeros_like(layouts[0].visual)
        rows, columns = layout.visual.nonzero(as_tuple=True)
        left[rows, layout.origin[rows, columns]] = True
        found.append(left.cpu())
    first, *behind = found
    return [
        tuple(Left(layer, to_bits(left[row, own].tolist())) for layer, left in zip(layers, behind, strict=True))
        for row, own in enumerate(first)
    ]
