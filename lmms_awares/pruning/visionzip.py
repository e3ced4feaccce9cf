"""VisionZip (arXiv 2412.04467) as released for Qwen2.5-VL: dominant tokens stay, others merge into contextual ones."""

from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch.nn import functional

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner, PruningError
from lmms_awares.pruning.tower import capture_flops

CONTEXTUAL = Fraction(1, 20)  # share of N that becomes contextual tokens, at 50 % and at 70 % alike (release)


def budget(tokens: int, ratio: Fraction) -> tuple[int, int]:
    """Return (dominant, contextual) token counts of an image with `tokens` visual tokens.

    At 1/2 and 7/10 the release's own: 45 % and 65 % dominant, 5 % contextual, at least one. Below 1/10, which the
    release does not cover, half of the budget is contextual; at 1 everything is dominant.

    Example:
        >>> budget(100, Fraction(1, 2))
        (45, 5)
    """
    if ratio == 1:
        return tokens, 0
    share = min(CONTEXTUAL, ratio / 2)
    dominant = int((ratio - share) * tokens)
    return dominant, min(max(int(share * tokens), 1), tokens - dominant)


def select(
    scores: torch.Tensor, keys: torch.Tensor, embeds: torch.Tensor, dominant: int, contextual: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose and merge the visual tokens of one image.

    Dominant tokens are those with the highest scores. Of the rest, in raster order, every step-th is a contextual
    target; each other token is added to the target with the most similar key. A target's new embedding is its own plus
    the mean of its members', so its norm is larger than the others', as in the release.

    Args:
        scores: [N] attention received, see `lmms_awares.pruning.tower.Received`.
        keys: [N, d].
        embeds: [N, D].
        dominant, contextual: how many of each; their sum is at most N.

    Returns:
        index: [K] int64, K = dominant + contextual, ascending raster order.
        embeds: [K, D] in that order.

    Raises:
        PruningError: more tokens asked for than there are.

    Example:
        >>> tokens = torch.eye(3)
        >>> select(torch.tensor([0.1, 0.6, 0.3]), tokens, tokens, dominant=1, contextual=1)[0].tolist()
        [0, 1]
    """
    tokens = len(scores)
    if dominant < 0 or contextual < 0 or dominant + contextual > tokens:
        raise PruningError(f"{dominant} dominant and {contextual} contextual tokens cannot come from {tokens}")
    ranking = scores.argsort(descending=True, stable=True)
    rest = ranking[dominant:].sort().values
    slots = torch.arange(contextual, device=rest.device) * max(1, len(rest) // max(1, contextual))
    is_target = torch.zeros(len(rest), dtype=torch.bool, device=rest.device)
    is_target[slots] = True
    targets, others = rest[is_target], rest[~is_target]
    merged = embeds.clone()
    if contextual and len(others):
        merged[targets] = _absorb(keys, embeds, targets, others)
    index = torch.cat([ranking[:dominant], targets]).sort().values
    return index, merged[index]


def _absorb(keys: torch.Tensor, embeds: torch.Tensor, targets: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the [C, D] embeddings of `targets` after each of `others` was merged into the one with the nearest key."""
    directions = functional.normalize(keys.float(), dim=-1)
    nearest = (directions[others] @ directions[targets].T).argmax(1)
    own = embeds[targets].float()
    sums = torch.zeros_like(own).index_add_(0, nearest, embeds[others].float())
    members = nearest.bincount(minlength=len(targets)).clamp(min=1)
    return (own + sums / members[:, None]).to(embeds.dtype)


class VisionZip(Pruner):
    """Text-agnostic; acts once, between the tower and the language model."""

    name: ClassVar[str] = "visionzip"
    reads_attention: ClassVar[bool] = True

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """The tower's attention; merging by keys is left out."""
        return capture_flops(shape, tokens)

    def keep(self, image: EncodedImage) -> Kept:
        """Select at the release's budget; a merged token keeps its own DeepStack levels."""
        assert image.received is not None
        received = image.received
        counts = budget(len(image.embeds), self.exact_ratio)
        index, merged = select(received.scores, received.keys, image.embeds, *counts)
        return replace(Kept.of(image, index), embeds=merged)
