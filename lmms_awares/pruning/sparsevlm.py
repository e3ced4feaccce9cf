"""SparseVLM v1.5 (arXiv 2410.04417), carried over to Qwen2.5-VL: text raters score the visual tokens inside the model.

Pure functions for one sample, and the pruner that `lmms_awares.pruning.stages` runs inside the layers.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lmms_awares.cost import Shape
from lmms_awares.pruning.schedule import Schedule, Stage, plan_stages
from lmms_awares.pruning.stages import Reduced, StagedPruner

NOISE = 1e-6  # breaks ties of the density
MERGE_EPSILON = 1e-6


def text_raters(hidden: torch.Tensor, visual: slice, text: slice) -> torch.Tensor:
    """Choose the text tokens that will score the visual ones: those with more than average attention from them.

    Args:
        hidden: [T, d] input embeddings with the image features in place.
        visual, text: rows of the visual tokens and of the text behind them.

    Returns:
        [R] int64, relative to `text.start`, ascending. All of the text where none stands out.
    """
    return raters_of(hidden[visual], hidden[text])


def raters_of(visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Choose as `text_raters`, from the [n, d] visual and [t, d] text embeddings, which need not be contiguous."""
    relevance = (visual.float() @ text.float().T).softmax(1).mean(0)
    raters = (relevance > relevance.mean()).nonzero().flatten()
    return raters if len(raters) else torch.arange(len(text), device=text.device)


def select(attention_score: torch.Tensor, keep: int) -> torch.Tensor:
    """Choose the visual tokens with the highest score; of equals, the first.

    At least one token is pruned, as in the release: K = min(keep, n - 1).

    Args:
        attention_score: [n] attention that each visual token receives from the raters, mean over heads and raters.
        keep: tokens to keep.

    Returns:
        [K] int64 ascending.

    Example:
        >>> select(torch.tensor([0.1, 0.6, 0.3]), 2).tolist()
        [1, 2]
    """
    count = max(0, min(keep, len(attention_score) - 1))
    return attention_score.argsort(descending=True, stable=True)[:count].sort().values


def recycled(attention_score: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Choose the pruned tokens that are worth merging: the best 30 % (and one) of those that `select` left out.

    Args:
        attention_score: [n], as for `select`.
        kept: [K] int64 of `select`.

    Returns:
        [m] int64 by falling score.
    """
    ranking = attention_score.argsort(descending=True, stable=True)
    pruned = ranking[~torch.isin(ranking, kept)]
    return pruned[: recycle_counts(len(pruned))[0]]


def recycle_counts(pruned: int) -> tuple[int, int]:
    """Return (tokens to merge, clusters to merge them into) of a stage that prunes `pruned` tokens.

    Example:
        >>> recycle_counts(100)
        (31, 4)
    """
    tokens = int(0.3 * pruned) + 1
    return tokens, int(tokens / 10) + 1


def merge(pruned_hidden: torch.Tensor, clusters: int, noise: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge tokens by density-peak clustering with k nearest neighbours; each cluster becomes the mean of its members.

    Computed in float32: in bfloat16 the tie-breaking noise would vanish beside densities near 1.

    Args:
        pruned_hidden: [m, d] hidden states of the tokens to merge.
        clusters: c, 1..m.
        noise: [m] uniform in [0, 1), scaled to 1e-6 here; None draws it with seed 0. It decides the centre where
            c = 1, and can decide the partition where c = 2.

    Returns:
        centers: [c] int64 rows of `pruned_hidden`, by falling score.
        merged: [c, d] in that order and in the dtype of `pruned_hidden`.
    """
    x = pruned_hidden.float()
    if noise is None:
        noise = torch.rand(len(x), generator=torch.Generator().manual_seed(0))
    # Differences, not the product form: mutual neighbours must be at exactly the same distance.
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    nearest = distance.topk(clusters, largest=False).values  # a token is its own first neighbour
    density = (-(nearest**2).mean(1)).exp() + NOISE * noise.to(x.device)
    denser = density[None, :] > density[:, None]
    separation = torch.where(denser, distance, distance.max()).amin(1)
    centers = (separation * density).topk(clusters).indices
    member_of = distance[centers].argmin(0)
    member_of[centers] = torch.arange(clusters, device=x.device)
    sums = torch.zeros(clusters, x.shape[1], device=x.device).index_add_(0, member_of, x)
    counts = member_of.bincount(minlength=clusters)[:, None]
    return centers, (sums / (counts + MERGE_EPSILON)).to(pruned_hidden.dtype)


@dataclass
class SparseVLM(StagedPruner):
    """Text-guided; acts in three stages inside the language model, which all visual tokens enter.

    Args:
        schedule: `layer_mean` keeps `retain_ratio` of the tokens on average over layers, which is how the authors name
            their budgets; `single` prunes once, to `retain_ratio`.
    """

    name: ClassVar[str] = "sparsevlm"

    schedule: Schedule = "layer_mean"

    def stages(self, depth: int, levels: int = 0) -> tuple[Stage, ...]:
        """Return the stages of the schedule at this depth; errors as `plan_stages`."""
        return plan_stages(self.retain_ratio, depth, self.schedule, levels)

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """Left out: the raters' attention in the layers of the stages, and merging."""
        return 0

    def raters(self, visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Choose the raters as `text_raters` does."""
        return raters_of(visual, text)

    def reduce(self, scores: torch.Tensor, hidden: torch.Tensor, target: int, generator: torch.Generator) -> Reduced:
        """Keep tokens by `select`, `merge` those worth recycling; `target` are left, merged ones included."""
        kept = select(scores, keep_count(len(scores), target))
        worth = recycled(scores, kept)
        noise = torch.rand(len(worth), generator=generator)
        centers, merged = merge(hidden[worth], recycle_counts(len(scores) - len(kept))[1], noise)
        return Reduced(kept, worth[centers], merged)


def keep_count(tokens: int, target: int) -> int:
    """Return how many of `tokens` a stage may keep so that at most `target` are left, merged ones included.

    0 where even the merged tokens alone are more than `target`.

    Example:
        >>> keep_count(100, target=50)
        48
    """
    return next((keep for keep in range(min(target, tokens - 1), 0, -1) if left_after(tokens, keep) <= target), 0)


def left_after(tokens: int, keep: int) -> int:
    """Return the tokens left by a stage that keeps `keep` of `tokens`, merged ones included."""
    keep = min(keep, tokens - 1)
    return keep + recycle_counts(tokens - keep)[1]
