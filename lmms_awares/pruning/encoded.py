"""Input and output of a pruner: an encoded image, and the tokens of it that are kept."""

from dataclasses import dataclass

import torch

from lmms_awares.errors import UserError
from lmms_awares.pruning.tower import Received


class PruningError(UserError):
    """A pruner that cannot be used this way; the message is one line that names the reason and the fix."""


@dataclass(frozen=True)
class EncodedImage:
    """One image as the vision tower leaves it; N visual tokens.

    Attributes:
        embeds: [N, D] visual tokens in raster order.
        pixels: [4N, 3 * 2 * patch²] float32 patches from which the tower made them.
        before: [D] embedding of the token in front of the image, `<|vision_start|>`.
        grid: (rows, columns) of visual tokens; their product is N.
        received: attention that the tokens received in the tower; None unless the pruner `reads_attention`.
        question: [t, D] input embeddings of the question's tokens, t = 0 without a question; None unless the pruner
            `reads_question`.
        levels: [N, D] each: DeepStack's additions to these tokens at the first layers' outputs; empty in Qwen2.5-VL.
    """

    embeds: torch.Tensor
    pixels: torch.Tensor
    before: torch.Tensor
    grid: tuple[int, int]
    received: Received | None = None
    question: torch.Tensor | None = None
    levels: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class Kept:
    """The tokens of one image that a pruner keeps.

    Attributes:
        index: [K] int64 in the order of the new sequence: raster index of each token, whose M-RoPE position it keeps.
        embeds: [K, D] the tokens themselves.
        lead: number of tokens in front of the image that `index` decides on too, as -1, ..; their embeddings are the
            text's own, so `embeds` has rows for the non-negative entries of `index` only.
        levels: [K, D] each, rows as in `embeds`.
    """

    index: torch.Tensor
    embeds: torch.Tensor
    lead: int = 0
    levels: tuple[torch.Tensor, ...] = ()

    @classmethod
    def of(cls, image: EncodedImage, index: torch.Tensor) -> "Kept":
        """Take the tokens of `image` that `index` ([K] int64) names, unchanged, with their DeepStack levels."""
        return cls(index, image.embeds[index], levels=tuple(level[index] for level in image.levels))


def check_count(keep: int, tokens: int) -> None:
    """Refuse an impossible number of tokens.

    Raises:
        PruningError: `keep` outside 1..`tokens`.
    """
    if not 1 <= keep <= tokens:
        raise PruningError(f"{keep} tokens cannot be kept of {tokens}")
