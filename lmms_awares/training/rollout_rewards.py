"""Eq. 5 and 6 on rollouts: four rewards, each with its weight, as functions that a GRPO trainer calls.

reward = answer_weight * answer + alpha_miss * missed_call + alpha_use * call + area_weight * area
              0..1                     -1 or 0              -1 or 0            -(0..1)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lmms_awares.training.environment import CropEnvironment
from lmms_awares.training.judged_answers import JudgedAnswers
from lmms_awares.training.rewards import (
    ANSWER_REWARDS,
    ENCODER,
    CostParts,
    answer_similarity,
    best_of,
    cost_parts,
    right_numbers,
)

Message = dict[str, Any]
Reward = Callable[..., list[float]]


def final_answer(completion: Sequence[Message]) -> str:
    """Return the text that a rollout ends in; empty where it ends in a call.

    Example:
        >>> final_answer([{"role": "assistant", "content": "K7"}])
        'K7'
    """
    last = completion[-1]
    return "" if last["role"] != "assistant" or last.get("tool_calls") else str(last["content"]).strip()


@dataclass(frozen=True)
class AnswerReward:
    """How right a rollout's answer is.

    Attributes:
        kind: of `ANSWER_REWARDS`, or `judge`.
        judge: for `judge`.
        strict: an answer whose numbers are those of no reference gets 0.
        encoder: of `cosine`.
    """

    kind: str = "cosine"
    judge: JudgedAnswers | None = None
    strict: bool = False
    encoder: str = ENCODER

    def __call__(
        self, answers: Sequence[str], references: Sequence[Sequence[str]], questions: Sequence[str]
    ) -> list[float | None]:
        """Return a value for each answer, 0 where it is empty; None where a judge gave no usable reply."""
        if self.judge is not None:
            values = self.judge(questions, answers, references)
        else:
            reward = ANSWER_REWARDS[self.kind]
            if self.kind == "cosine":
                reward = partial(answer_similarity, encoder=self.encoder)
            values = list(best_of(reward, answers, references))
        if not self.strict:
            return values
        rows = zip(values, answers, references, strict=True)
        return [value if right_numbers(answer, known) else 0.0 for value, answer, known in rows]


def rollout_rewards(reward: AnswerReward) -> list[Reward]:
    """Return the functions `answer`, `missed_call`, `call` and `area`, in this order.

    Each takes what TRL gives a reward function: `completions`, `environments`, and the rows' columns as lists; and
    returns a value per rollout.
    """

    def answer(
        completions: Sequence[Sequence[Message]],
        answers: Sequence[Sequence[str]],
        question: Sequence[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        values = reward([final_answer(one) for one in completions], answers, question)
        if reward.judge is not None:
            log_metric("rollouts/unjudged", sum(value is None for value in values) / len(values))
        return [value or 0.0 for value in values]

    return [answer, missed_call, call, area]


def missed_call(label: Sequence[str], environments: Sequence[CropEnvironment], **_: Any) -> list[float]:
    """Return -1 for each rollout that showed no crop where one was needed, else 0."""
    return [-part.miss for part in _parts(label, environments)]


def call(label: Sequence[str], environments: Sequence[CropEnvironment], **_: Any) -> list[float]:
    """Return -1 for each rollout that showed crops, else 0."""
    return [-part.use for part in _parts(label, environments)]


def area(label: Sequence[str], environments: Sequence[CropEnvironment], **_: Any) -> list[float]:
    """Return the negative share (0..1) of the image that each rollout's crops cover."""
    return [-part.area for part in _parts(label, environments)]


def _parts(label: Sequence[str], environments: Sequence[CropEnvironment]) -> list[CostParts]:
    return [
        cost_parts(one, environment.crops, environment.size)
        for one, environment in zip(label, environments, strict=True)
    ]
