"""Paired tests: how much worse is a candidate on the very same documents, and is that within what is allowed?

Two questions are put to the differences of one benchmark:

- Is the candidate worse at all? One-sided: McNemar's exact test where every difference is -1, 0 or 1, else a normal
  test of the mean.
- Is it shown to be worse by less than the margin? A one-sided non-inferiority test of the mean.

Intervals and normal tests add half an observation to each of the four outcomes of a pair (Agresti and Min, 2005): with
few differing pairs the plain variance is far too small, and with none it is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Verdict = Literal["ok", "worse", "undecided"]
POWER = 0.8  # at which the smallest detectable difference is stated


@dataclass(frozen=True)
class Effect:
    """How much worse the candidate is in one quantity, on one benchmark; in the unit of that quantity.

    `verdict`: `ok` where the non-inferiority test passes. `worse` where it does not and the candidate is worse beyond
    chance: a change that is real and may exceed the margin. Else `undecided`: too few documents to tell.

    Attributes:
        baseline, candidate: means.
        worse_by: mean paired difference; positive is worse.
        low, high: ends of the 1 - 2*alpha interval, so that each is a one-sided bound at alpha.
        p_worse: Holm-corrected p-value of "is not worse at all".
        p_within: p-value of "is worse by the margin or more".
        detectable: the smallest true difference that is found worse than nothing with a probability of `POWER`, at
            Holm's strictest step.
    """

    baseline: float
    candidate: float
    worse_by: float
    low: float
    high: float
    p_worse: float
    p_within: float
    detectable: float
    verdict: Verdict


def compare_pairs(
    pairs: Sequence[tuple[Values, Values]], *, scale: float, lower_is_worse: bool, margin: float, alpha: float
) -> list[Effect]:
    """Compare baseline and candidate on each benchmark, with Holm's correction over the benchmarks.

    Args:
        pairs: (baseline, candidate) per benchmark, each [n] with values of about 0..1, in the same order of documents.
        scale: units per 1, e.g. 100 for points.
        lower_is_worse: True for scores, False for costs.
        margin: what is allowed, in units.
        alpha: level of each family of one-sided tests.
    """
    from scipy.stats import norm
    from statsmodels.stats.multitest import multipletests

    if not pairs:
        return []
    sign = 1 if lower_is_worse else -1
    differences = [sign * (baseline - candidate) for baseline, candidate in pairs]
    corrected = multipletests([p_not_worse(worse) for worse in differences], alpha=alpha, method="holm")[1]
    effects = []
    for (baseline, candidate), worse, p_worse in zip(pairs, differences, corrected, strict=True):
        mean, error = adjusted_mean(worse)
        p_within = float(norm.cdf((mean - margin / scale) / error))
        reach = norm.isf(alpha) * error
        effects.append(
            Effect(
                baseline=scale * float(baseline.mean()),
                candidate=scale * float(candidate.mean()),
                worse_by=scale * float(worse.mean()),
                low=scale * float(mean - reach),
                high=scale * float(mean + reach),
                p_worse=float(p_worse),
                p_within=p_within,
                detectable=scale * float((norm.isf(alpha / len(pairs)) + norm.ppf(POWER)) * error),
                verdict="ok" if p_within < alpha else "worse" if p_worse < alpha else "undecided",
            )
        )
    return effects


def p_not_worse(worse: Values) -> float:
    """One-sided p-value of "the candidate is not worse". `worse`: [n] differences, positive where it is."""
    from scipy.stats import binomtest, norm

    differing = worse[worse != 0]
    if not len(differing):
        return 1.0
    if np.all(np.abs(differing) == 1):
        lost = int((differing > 0).sum())
        return float(binomtest(lost, len(differing), alternative="greater").pvalue)
    mean, error = adjusted_mean(worse)
    return float(norm.sf(mean / error))


def adjusted_mean(worse: Values) -> tuple[float, float]:
    """Mean and standard error of paired differences, with half a pair won, half a pair lost and one tied added."""
    n = len(worse) + 2
    mean = float(worse.sum()) / n
    variance = (float((worse**2).sum()) + 1) / n - mean**2
    return mean, (variance / n) ** 0.5
