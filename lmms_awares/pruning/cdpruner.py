"""CDPruner (arXiv 2506.10967), carried over to Qwen2.5-VL: keeps tokens that differ, and that fit the question."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner, check_count

EPSILON = 1e-6  # the least relevant token's share of the range, and the least range that tells tokens apart
EXHAUSTED = 1e-5  # share of a token's own variance below which the chosen ones say all that it says, up to rounding


def mean_cosine(visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Return the [N] float32 cosine between each [N, D] visual and the [t, D] text embeddings, mean over the text."""
    return functional.normalize(visual.float(), dim=1) @ functional.normalize(text.float(), dim=1).mean(0)


def normalised(relevance: torch.Tensor) -> torch.Tensor:
    """Scale `relevance` of any shape to (0, 1], up to `EPSILON`; all 1 where its values are all alike."""
    low, high = relevance.aminmax()
    span = high - low
    return torch.where(span < EPSILON, torch.ones_like(relevance), (relevance - low + EPSILON) / span)


def select(embeds: torch.Tensor, relevance: torch.Tensor, keep: int) -> torch.Tensor:
    """Choose tokens greedily by the largest determinant of the kernel, computed in float32.

    The kernel is cos(i, j) * relevance_i * relevance_j. Each step takes the token with the largest variance left, given
    the tokens chosen so far; of equals, the first. Where no variance is left (K above the rank of `embeds`), the rest
    is filled by falling relevance. Rows of the kernel are computed as they are needed: the whole is never held.

    Args:
        embeds: [N, D].
        relevance: [N], not negative; see `normalised`.
        keep: K, 1..N.

    Returns:
        [K] int64 in the order of choice.

    Raises:
        PruningError: `keep` outside 1..N.

    Example:
        >>> select(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), torch.ones(3), 2).tolist()
        [0, 2]
    """
    check_count(keep, len(embeds))
    directions, relevance = functional.normalize(embeds.float(), dim=1), relevance.float()
    own = relevance.square() * directions.any(1)
    left, spare = own.clone(), -1 / (1 + relevance)  # `spare` rises with the relevance, and is below every variance
    factors = directions.new_empty(keep, len(embeds))  # of the kernel's Cholesky decomposition
    order = []
    for step in range(keep):
        is_new = left > EXHAUSTED * own
        pick = torch.where(is_new, left, spare).argmax(0, keepdim=True)
        row = relevance[pick] * relevance * (directions @ directions[pick][0])
        row -= factors[:step, pick].T[0] @ factors[:step]
        factors[step] = torch.where(is_new[pick], row / left[pick].sqrt(), 0)
        left = (left - factors[step].square()).index_fill_(0, pick, -torch.inf)
        spare.index_fill_(0, pick, -torch.inf)
        order.append(pick)
    return torch.cat(order)


@dataclass
class CDPruner(Pruner):
    """Text-guided; acts once, between the tower and the language model.

    Args:
        negate_relevance: prefer the tokens that are least like the question. The release does, on CLIP's embeddings.
    """

    name: ClassVar[str] = "cdpruner"
    reads_question: ClassVar[bool] = True

    negate_relevance: bool = False

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """A row of the kernel and of its decomposition for each token that is chosen, and the likeness to the text."""
        keep = self.budget(tokens)
        return 2 * shape.tower.out * tokens * (keep + 1) + tokens * keep * (keep - 1)

    def keep(self, image: EncodedImage) -> Kept:
        """Keep `budget` tokens by `select`, in raster order; without a question, by diversity alone."""
        assert image.question is not None
        relevance = image.embeds.new_ones(len(image.embeds))
        if len(image.question):
            likeness = mean_cosine(image.embeds, image.question)
            relevance = normalised(-likeness if self.negate_relevance else likeness)
        index = select(image.embeds, relevance, self.budget(len(image.embeds))).sort().values
        return Kept.of(image, index)
