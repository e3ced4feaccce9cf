"""HoloV (arXiv 2510.02912) as released for Qwen2.5-VL: the budget is shared among crops, tokens win by attention."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.nn import functional

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner, check_count
from lmms_awares.pruning.tower import capture_flops

ALPHA, BETA, EPSILON = 1.0, 0.09, 1e-6
ATTENTION_SCALE = 1000.0
CROPS_PER_RATIO = 1024 / 576
PAD = -1


def select(scores: torch.Tensor, embeds: torch.Tensor, keep: int) -> torch.Tensor:
    """Choose the tokens of one image as the release does.

    The raster list is cut into contiguous runs ("crops": bands of the image, not squares). Each crop's share of the
    budget is proportional to its score; inside a crop the tokens with the highest attention win. A crop that gets more
    than it holds gives nothing back, so the list can end in padding.

    Args:
        scores: [N] attention received per query, that is `Received.scores` / 4N.
        embeds: [N, D].
        keep: K, 1..N.

    Returns:
        [K] int64 in the released order: crop by crop, a partly kept crop by falling attention, padding (-1) at the end.

    Raises:
        PruningError: `keep` outside 1..N.
    """
    tokens = len(scores)
    check_count(keep, tokens)
    crops = torch.arange(tokens, device=scores.device).tensor_split(max(1, int(CROPS_PER_RATIO * tokens / keep)))
    crops = tuple(crop for crop in crops if len(crop))
    weights = torch.stack([_crop_score(scores[crop].float(), embeds[crop].float()) for crop in crops])
    chosen = []
    for crop, quota in zip(crops, _allocate(weights, keep), strict=True):
        ranking = scores[crop].argsort(descending=True, stable=True)[:quota]
        chosen.append(crop if quota >= len(crop) else crop[ranking])
    index = torch.cat(chosen)[:keep]
    return functional.pad(index, (0, keep - len(index)), value=PAD)


def _crop_score(attention: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    """Score a crop: mean over its tokens of the scaled attention plus the scaled variance of their cosine similarities.

    The scale makes the variance term a fixed 9 % of the attention term unless the variance is near `EPSILON`, so that
    the budget all but follows attention; kept as released.
    """
    tokens = len(attention)
    if tokens == 1:
        return attention[0]
    directions = embeds / (embeds.norm(dim=-1, keepdim=True) + EPSILON)
    similarity = directions @ directions.T
    similarity.fill_diagonal_(0)
    mean = similarity.sum(1, keepdim=True) / (tokens - 1)
    variance = ((similarity - mean) ** 2).sum(1) / (tokens - 1)  # the zeroed diagonal counts, as released
    scaled = attention * ATTENTION_SCALE
    balance = scaled.abs().mean() / (variance.abs().mean() + EPSILON)
    return (ALPHA * scaled + BETA * balance * variance).mean()


def _allocate(weights: torch.Tensor, keep: int) -> list[int]:
    """Return the tokens of each crop: in proportion, rounded down, the remainder one each to the heaviest crops."""
    weights = weights / (weights.sum() + EPSILON)
    quotas = (weights * keep).floor().long()
    left = keep - int(quotas.sum())
    quotas[weights.argsort(descending=True, stable=True)[: max(0, left)]] += 1
    return quotas.tolist()


@dataclass
class HoloV(Pruner):
    """Text-agnostic; acts once, between the tower and the language model.

    Args:
        official_wiring: reproduce the released Qwen2.5-VL code around `select`: scores in the tower's window order
            against tokens in raster order; a region that starts at `<|vision_start|>` and ends one token early; kept
            tokens in the order of selection; padding as zero vectors. Default: scores and tokens aligned, the image's
            own tokens, raster order, and padding replaced by the best tokens not yet chosen.
    """

    name: ClassVar[str] = "holov"
    reads_attention: ClassVar[bool] = True

    official_wiring: bool = False

    def budget(self, tokens: int) -> int:
        """Return the release's `int(ratio * N)` in binary floating point, at least 1."""
        return max(1, int(self.retain_ratio * tokens))

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """The tower's attention; similarities inside the crops are left out."""
        return capture_flops(shape, tokens)

    def keep(self, image: EncodedImage) -> Kept:
        """Keep the tokens that `select` chooses, in the wiring asked for."""
        assert image.received is not None
        tokens = len(image.embeds)
        budget = self.budget(tokens)
        scores = image.received.scores / len(image.pixels)
        if self.official_wiring and self.retain_ratio < 1:
            return _official(scores[image.received.order], image, budget)
        index = _filled(select(scores, image.embeds, budget), scores)
        return Kept.of(image, index)


def _filled(index: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Sort `index` ascending, with the tokens of highest attention in place of padding."""
    chosen = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    chosen[index[index != PAD]] = True
    ranking = scores.argsort(descending=True, stable=True)
    spare = ranking[~chosen[ranking]][: len(index) - int(chosen.sum())]
    chosen[spare] = True
    return chosen.nonzero().flatten()


def _official(scores: torch.Tensor, image: EncodedImage, keep: int) -> Kept:
    """Apply the released wiring; `scores`: [N] in window order.

    A padded row has a zero vector and the position of the region's last token; the image's last token always stays.
    """
    tokens = len(image.embeds)
    region = torch.cat([image.before[None], image.embeds[:-1]])
    chosen = select(scores, region, keep)
    padded = chosen == PAD
    index = torch.where(padded, tokens - 2, chosen - 1)
    rows = torch.where(padded[:, None], torch.zeros_like(image.before), region[chosen])[index >= 0]
    index = torch.cat([index, torch.tensor([tokens - 1], device=index.device)])
    kept = Kept.of(image, index[index >= 0])
    return replace(kept, index=index, embeds=torch.cat([rows, image.embeds[-1:]]), lead=1)
