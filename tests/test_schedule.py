"""Staged pruners' budgets at the depths of real models: the shares, the counts they lead to, and ratios without any.

SparseVLM's expected numbers were worked out apart from this code, from the release's profile "192" (309, 204 and 113 of
576).
"""

import pytest

from lmms_awares.pruning import PruningError
from lmms_awares.pruning.fastv import FastV
from lmms_awares.pruning.schedule import Stage, plan_stages
from lmms_awares.pruning.sparsevlm import keep_count, left_after

LAYERS = (2, 6, 15)


def before_and_after(stages, depth):
    """Shares of the visual tokens at the entry and at the exit of each layer."""
    shares = [1.0, *(stage.share for stage in stages)]
    entry = [shares[sum(stage.layer < layer for stage in stages)] for layer in range(depth)]
    return entry, [shares[sum(stage.layer <= layer for stage in stages)] for layer in range(depth)]


@pytest.mark.parametrize(
    ("depth", "ratio", "shares"),
    [
        (28, 0.7, (0.8228, 0.7225, 0.6005)),
        (28, 0.5, (0.6742, 0.5184, 0.3567)),
        (36, 0.7, (0.8366, 0.7427, 0.6271)),
        (36, 0.5, (0.6994, 0.5510, 0.3925)),
        (32, 1 / 3, (309 / 576, 204 / 576, 113 / 576)),  # the release's own budget
    ],
)
def test_layers_and_shares(depth, ratio, shares):
    stages = plan_stages(ratio, depth, "layer_mean")
    assert tuple(stage.layer for stage in stages) == LAYERS
    assert [stage.share for stage in stages] == pytest.approx(list(shares), abs=1e-3 if depth == 32 else 1e-4)
    assert sum(before_and_after(stages, depth)[1]) / depth == pytest.approx(ratio, abs=1e-9)


@pytest.mark.parametrize(
    ("ratio", "kept", "mean_input"), [(0.7, [837, 736, 611], 0.714), (0.5, [679, 525, 359], 0.523)]
)
def test_counts_of_an_image_at_28_layers(ratio, kept, mean_input):
    """1,024 visual tokens; what a stage merges is part of what the next one may keep from."""
    stages, tokens, found = plan_stages(ratio, 28, "layer_mean"), 1024, []
    for stage in stages:
        found.append(keep_count(tokens, stage.target(1024)))
        tokens = left_after(tokens, found[-1])
        assert tokens == stage.target(1024)
    assert found == kept
    assert sum(before_and_after(stages, 28)[0]) / 28 == pytest.approx(mean_input, abs=5e-4)


def test_a_single_stage():
    """After layer 2, to the ratio itself; which leaves a higher mean over the layers."""
    (stage,) = plan_stages(0.7, 28, "single")
    assert (stage.layer, stage.share) == (2, 0.7)
    assert sum(before_and_after([stage], 28)[1]) / 28 == pytest.approx(0.72, abs=0.005)


def test_a_ratio_that_the_first_layers_exceed():
    with pytest.raises(PruningError, match="retain_ratio=0.07 cannot be met by sparsevlm: the first 2 of 28 layers"):
        plan_stages(0.07, 28, "layer_mean")
    assert plan_stages(0.08, 28, "layer_mean")[-1].share < 0.01


# FastV: one stage -----------------------------------------------------------------------------------------------------

FASTV_PLANS = [
    (ratio, depth, whole)
    for ratio in (0.3, 0.5, 0.7, 0.95)
    for depth in (4, 28, 36)
    for whole in (1, 2, 3)
    if ratio * depth > whole - 1  # else refused
]


@pytest.mark.parametrize(("ratio", "depth", "whole"), FASTV_PLANS)
def test_fastv_meets_the_ratio_as_the_mean_over_layers(ratio, depth, whole):
    """Counts after each layer: all before the stage, its share from there on."""
    (stage,) = FastV(ratio, whole_layers=whole).stages(depth)
    assert stage.layer == whole - 1
    assert ((whole - 1) + (depth - whole + 1) * stage.share) / depth == pytest.approx(ratio)


def test_fastv_at_the_published_depth():
    """As docs/methods/fastv.md gives them."""
    assert FastV(0.5).stages(28) == (Stage(1, pytest.approx(13 / 27)),)
    assert FastV(0.7).stages(28) == (Stage(1, pytest.approx(18.6 / 27)),)
    assert FastV(0.7, schedule="single").stages(28) == (Stage(1, 0.7),)
    assert FastV(1, whole_layers=99).stages(28) == ()


def test_fastv_refuses_what_it_cannot_meet():
    with pytest.raises(
        PruningError, match="retain_ratio=0.03 cannot be met by fastv: 1 of 28 layers put out all visual"
    ):
        FastV(0.03).stages(28)
    assert FastV(0.03, schedule="single").stages(28) == (Stage(1, 0.03),)
    with pytest.raises(PruningError, match="whole_layers=28 must be below the model's 28 layers"):
        FastV(0.5, whole_layers=28).stages(28)
    with pytest.raises(PruningError, match="whole_layers must be at least 1, got 0"):
        FastV(0.5, whole_layers=0)
    with pytest.raises(PruningError, match="schedule='kept' is a str; Input should be 'layer_mean' or 'single'"):
        FastV(0.5, schedule="kept")
