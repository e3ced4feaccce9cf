"""Pruners that score every visual token and keep those with the highest scores: a method is one function."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from lmms_awares.pruning.base import EncodedImage, Kept, Pruner, PruningError, check_count


def highest(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """Choose the tokens with the highest score; of equals, the first in raster order.

    Args:
        scores: [N], of any real dtype.
        keep: K, 1..N.

    Returns:
        [K] int64 ascending.

    Raises:
        PruningError: `keep` outside 1..N.

    Example:
        >>> highest(torch.tensor([0.1, 0.7, 0.7, 0.2, 0.7]), 2).tolist()
        [1, 2]
    """
    check_count(keep, len(scores))
    return scores.argsort(descending=True, stable=True)[:keep].sort().values


@dataclass
class ScoredPruner(Pruner, ABC):
    """Base of pruners that choose between the tower and the language model by a score for each token.

    `Pruner.budget` says how many tokens stay, `highest` which ones.
    """

    @abstractmethod
    def score(self, image: EncodedImage) -> torch.Tensor:
        """Return [N] real numbers, one per token of `image.embeds`; tokens with the largest ones are kept."""

    def keep(self, image: EncodedImage) -> Kept:
        """Keep the `budget` tokens with the highest score, in raster order.

        Raises:
            PruningError: a `score` that is not one number per token, or is NaN.
        """
        scores, tokens = self.score(image), len(image.embeds)
        if scores.shape != (tokens,):
            raise PruningError(f"{self.name} must score [{tokens}] tokens, but its scores are {list(scores.shape)}")
        if scores.isnan().any():
            raise PruningError(f"{self.name} scored a token with NaN")
        return Kept.of(image, highest(scores, self.budget(tokens)))
