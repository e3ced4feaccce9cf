"""Power of the gate before a candidate is run: how many documents show which drop, from the baseline's own scores.

What two runs have in common is not known before the second one, so a candidate is assumed: a share `changed` of its
answers is drawn anew, each scoring what a document of the benchmark scores by chance, and as many of those are lost as
make the true drop. All other answers are the baseline's. So the variance of a pair's difference is about
`2 * changed * variance of the baseline's scores`; with `changed=1` the runs agree no more than chance has it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lmms_awares.report.gate.paired import POWER, Values

MOST = 10_000_000  # documents; where more are needed, none are named


@dataclass(frozen=True)
class Pairs:
    """Score differences, baseline minus candidate, of a benchmark's documents; scores are 0..1.

    Attributes:
        moments: means of the difference and of its square, cube and fourth power.
        whole: every difference is -1, 0 or 1, so that the gate puts McNemar's exact test to them.
    """

    moments: tuple[float, float, float, float]
    whole: bool


def pairs_of(scores: Values, drop: float, changed: float) -> Pairs | None:
    """Differences under the assumption that the module names; more answers are drawn anew where a drop needs it.

    Args:
        scores: [n] of the baseline, 0..1.
        drop: true drop of the mean score, 0..1.
        changed: share of the answers that are drawn anew, above 0 and at most 1.

    Returns:
        None where the baseline scores too little to lose as much.

    Example:
        >>> pairs_of(np.array([1.0, 0.0]), 0.1, 0.5)  # 40 % of the new right answers are lost
        Pairs(moments=(0.1, 0.25, 0.1, 0.25), whole=True)
    """
    mean, square, cube, fourth = (float((scores**power).mean()) for power in (1, 2, 3, 4))
    if drop > mean:
        return None
    share = max(changed, drop / mean) if mean else changed
    lost = drop / (share * mean) if mean else 0.0  # of what is drawn anew
    # Of X - X'K, where X and X' are scores of two documents, and K is 0 for a lost answer, else 1.
    kept = 1 - lost
    differences = (
        mean * lost,
        square * (1 + kept) - 2 * mean**2 * kept,
        cube * lost,
        fourth * (1 + kept) - 8 * mean * cube * kept + 6 * square**2 * kept,
    )
    first, second, third, last = (round(share * moment, 12) for moment in differences)
    return Pairs((first, second, third, last), bool(np.isin(scores, (0, 1)).all()))


def together(parts: Sequence[tuple[int, Pairs | None]]) -> Pairs | None:
    """All documents of several benchmarks as one sample; `parts`: documents of each, and their differences."""
    known = [(count, pairs) for count, pairs in parts if pairs is not None]
    if len(known) < len(parts):
        return None
    weights = [count for count, _ in known]
    first, second, third, last = np.average([pairs.moments for _, pairs in known], axis=0, weights=weights).tolist()
    return Pairs((first, second, third, last), all(pairs.whole for _, pairs in known))


def power(pairs: Pairs, documents: int, alpha: float) -> float:
    """Chance that the gate finds the drop beyond chance on so many documents, tested one-sided at `alpha`."""
    if not pairs.moments[1]:
        return 0.0
    return _exact(pairs, documents, alpha) if pairs.whole else _normal(pairs, documents, alpha)


def _exact(pairs: Pairs, documents: int, alpha: float) -> float:
    """McNemar's test: how many documents differ is binomial, and so is how many of those are lost."""
    from scipy.stats import binom

    drop, differ, _, _ = pairs.moments
    low, high = (int(end) for end in binom.ppf((1e-9, 1 - 1e-9), documents, differ))
    differing = np.arange(low, high + 1)
    least = binom.isf(alpha, differing, 0.5)  # more than so many lost are beyond chance
    found = binom.sf(least, differing, (differ + drop) / 2 / differ)
    return float(binom.pmf(differing, documents, differ) @ found)


def _normal(pairs: Pairs, documents: int, alpha: float) -> float:
    """The test of `lmms_awares.report.gate.paired.adjusted_mean`: is the mean above `reach` standard errors?

    Mean and standard error are functions of the sums of the differences and of their squares, which rise together: the
    spread of mean - reach * error is that of these sums, to first order.
    """
    from scipy.stats import norm

    drop, square, cube, fourth = pairs.moments
    reach, adjusted = norm.isf(alpha), documents + 2
    mean = documents * drop / adjusted
    error = (((documents * square + 1) / adjusted - mean**2) / adjusted) ** 0.5
    slopes = np.array([1 + reach * mean / (adjusted * error), -reach / (2 * adjusted * error)]) / adjusted
    mixed = cube - drop * square
    spread = documents * np.array([[square - drop**2, mixed], [mixed, fourth - square**2]])
    return float(norm.sf((reach * error - mean) / (slopes @ spread @ slopes) ** 0.5))


def documents_for(pairs: Pairs | None, alpha: float) -> int | None:
    """Return how many documents find the drop with a chance of `POWER`; None where `MOST` do not."""
    if pairs is None:
        return None
    return _first(lambda documents: power(pairs, documents, alpha) >= POWER, MOST)


def shown_by(documents: int, pairs_at: Callable[[float], Pairs | None], alpha: float) -> float | None:
    """Return the smallest drop, in steps of 0.0001, that so many documents find with a chance of `POWER`.

    Args:
        pairs_at: the differences that a drop makes; None from where on there is not so much to lose.

    Returns:
        0..1; None where they show none.
    """

    def enough(step: int) -> bool:
        pairs = pairs_at(step / _STEPS)
        return pairs is None or power(pairs, documents, alpha) >= POWER

    step = _first(enough, _STEPS)
    return None if step is None or pairs_at(step / _STEPS) is None else step / _STEPS


_STEPS = 10_000


def _first(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number from 1 to `most` that is enough; None where `most` is not.

    By halving, as if all above it were enough. An exact test's power falls a little where one more document raises the
    number that must be lost, so that a few below the answer may be enough as well.
    """
    low, high = 0, 1
    while not enough(high):
        if high == most:
            return None
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
