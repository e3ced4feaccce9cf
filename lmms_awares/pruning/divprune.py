"""DivPrune (arXiv 2503.02175), carried over to Qwen2.5-VL: the kept tokens lie as far from each other as they can."""

from typing import ClassVar

import torch
from torch.nn import functional

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner, check_count

BLOCK = 1024  # rows of the distance matrix held at a time: 64 MiB for the largest image


def select(embeds: torch.Tensor, keep: int) -> torch.Tensor:
    """Choose tokens by farthest-point selection in cosine distance, computed in float32.

    The first token is the one whose nearest other token is farthest away; each further one has the largest distance to
    its nearest chosen token. Of equals, the first. The choice of K tokens is the beginning of any larger choice.

    Args:
        embeds: [N, D].
        keep: K, 1..N.

    Returns:
        [K] int64 in the order of choice.

    Raises:
        PruningError: `keep` outside 1..N.

    Example:
        >>> select(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 2).tolist()
        [2, 0]
    """
    check_count(keep, len(embeds))
    directions = functional.normalize(embeds.float(), dim=1)  # a zero row stays one, at distance 1 from all
    pick = _isolation(directions).argmax(0, keepdim=True)
    order, nearest = [pick], directions.new_full((len(embeds),), torch.inf)
    for _ in range(keep - 1):
        nearest = nearest.minimum(1 - directions @ directions[pick][0]).index_fill_(0, pick, -torch.inf)
        pick = nearest.argmax(0, keepdim=True)
        order.append(pick)
    return torch.cat(order)


def _isolation(directions: torch.Tensor) -> torch.Tensor:
    """Return the [N] cosine distance of each of the [N, D] unit vectors to its nearest other."""
    parts = []
    for start in range(0, len(directions), BLOCK):
        distance = 1 - directions[start : start + BLOCK] @ directions.T
        distance.diagonal(start).fill_(torch.inf)
        parts.append(distance.amin(1))
    return torch.cat(parts)


class DivPrune(Pruner):
    """Text-agnostic; acts once, between the tower and the language model."""

    name: ClassVar[str] = "divprune"

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """All distances once, and those to each token but the last that is chosen."""
        return 2 * shape.tower.out * tokens * (tokens + self.budget(tokens) - 1)

    def keep(self, image: EncodedImage) -> Kept:
        """Keep `budget` tokens by `select`, in raster order."""
        index = select(image.embeds, self.budget(len(image.embeds))).sort().values
        return Kept.of(image, index)
