"""`ScoredPruner`: one function per method, one rounding rule, ties by raster order; and the random control on it."""

import zlib
from dataclasses import dataclass

import pytest
import torch

from lmms_awares.pruning import PRUNERS, PruningError
from lmms_awares.pruning.base import EncodedImage, Kept
from lmms_awares.pruning.scored import ScoredPruner, highest


def image(tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(4 * tokens, 12, generator=generator)
    return EncodedImage(torch.randn(tokens, 8, generator=generator), pixels, torch.zeros(8), (1, tokens))


@dataclass
class Given(ScoredPruner):
    """Scores as they are given."""

    name = "given"

    scores: tuple[float, ...] = ()

    def score(self, image):
        return torch.tensor(self.scores)


def kept_by(scores, ratio):
    return Given(ratio, scores=tuple(scores)).keep(image(len(scores))).index.tolist()


def test_the_highest_stay_in_raster_order():
    assert kept_by([0.1, 0.9, 0.3, 0.8], 0.5) == [1, 3]
    assert kept_by([-3, -1, -2, -4], 0.25) == [1]
    assert kept_by([5, 1, 1, 1, 5], 1) == [0, 1, 2, 3, 4]


def test_of_equals_the_first_stays():
    assert kept_by([1.0] * 6, 0.5) == [0, 1, 2]
    assert kept_by([0, 2, 1, 1, 1, 2], 0.5) == [1, 2, 5]


@pytest.mark.parametrize(("ratio", "tokens", "budget"), [(0.5, 5, 2), (0.5, 7, 4), (0.7, 10, 7), (0.3, 1, 1)])
def test_one_rounding_rule(ratio, tokens, budget):
    """round(ratio * N) of the ratio as it was written, half to even, and at least 1."""
    assert len(kept_by(range(tokens), ratio)) == budget == Given(ratio).budget(tokens)


def test_kept_tokens_are_the_images_own():
    own = image(10)
    kept = Given(0.3, scores=tuple(range(10))).keep(own)
    assert torch.equal(kept.embeds, own.embeds[7:])
    assert torch.equal(Kept.of(own, torch.tensor([4, 1])).embeds, own.embeds[[4, 1]])


def test_scores_that_cannot_choose():
    with pytest.raises(PruningError, match=r"given must score \[4\] tokens, but its scores are \[3\]"):
        Given(0.5, scores=(1, 2, 3)).keep(image(4))
    with pytest.raises(PruningError, match="given scored a token with NaN"):
        Given(0.5, scores=(1, float("nan"), 3)).keep(image(3))
    with pytest.raises(PruningError, match="5 tokens cannot be kept of 4"):
        highest(torch.rand(4), 5)
    with pytest.raises(TypeError, match="abstract"):
        ScoredPruner(0.5)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.7, 1])
@pytest.mark.parametrize("seed", [0, 7, -1])
def test_random_draws_as_it_always_did(ratio, seed):
    """The tokens that earlier versions kept: the head of one permutation, seeded by pixels and seed."""
    for tokens in (1, 2, 9, 108, 300):
        own = image(tokens, tokens)
        drawn = zlib.crc32(own.pixels.numpy().data, seed % 2**32)
        order = torch.randperm(tokens, generator=torch.Generator().manual_seed(drawn))
        pruner = PRUNERS["random"](ratio, seed=seed)
        assert pruner.keep(own).index.tolist() == sorted(order[: pruner.budget(tokens)].tolist())
