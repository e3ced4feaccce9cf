"""Paired tests: how much worse is a candidate on the same documents, and is the loss within the margin?

Where no document differs, the verdict is `same`, of these documents: nothing has to be estimated. Else two questions
are put to the differences of one benchmark:

- Is the candidate worse at all? One-sided: McNemar's exact test where every difference is -1, 0 or 1, else a test of
  the mean.
- Is it shown to be worse by less than the margin? A one-sided non-inferiority test of the mean.

All benchmarks together are one more member of the family, since a small loss on each may show in none: their documents'
differences as one sample. If no benchmark is worse, neither is the whole, so that Holm's correction covers it.

Scores: intervals and tests of the mean are normal, and add half an observation to each of the four outcomes of a pair
(Agresti and Min, 2005): with few differing pairs the plain variance is far too small, and with none it is zero. Costs
such as RTR are counted, not judged right or wrong, and half an observation of a whole unit would drown them: they get
the plain paired t test. Where all differences are equal, that test takes their value as certain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Verdict = Literal["same", "ok", "worse", "undecided"]
POWER = 0.8  # at which the smallest detectable difference is stated


@dataclass(frozen=True)
class Effect:
    """How much worse the candidate is in one quantity, on one benchmark or all; in the unit of that quantity.

    `verdict`: `same` where no document differs at all. `ok` where the non-inferiority test passes. `worse` where it
    does not and the candidate is worse beyond chance: a change that is real and may exceed the margin, or not. Else
    `undecided`: too few documents to tell. `same` says nothing of other documents; the interval does.

    Attributes:
        differ: documents whose value differs.
        baseline, candidate: means.
        worse_by: mean paired difference; positive is worse.
        low, high: ends of the 1 - 2*alpha interval, so that each is a one-sided bound at alpha.
        p_worse: Holm-corrected p-value of "is not worse at all".
        p_within: p-value of "is worse by the margin or more".
        detectable: the smallest true difference that is found worse than nothing with a probability of `POWER`, at
            Holm's strictest step; None where no spread was seen to tell from.
    """

    differ: int
    baseline: float
    candidate: float
    worse_by: float
    low: float
    high: float
    p_worse: float
    p_within: float
    detectable: float | None
    verdict: Verdict


def compare_pairs(
    pairs: Sequence[tuple[Values, Values]],
    *,
    scale: float,
    lower_is_worse: bool,
    margin: float,
    alpha: float,
    changed: Sequence[bool] | None = None,
) -> list[Effect]:
    """Compare baseline and candidate on each benchmark, with Holm's correction over all of them.

    Args:
        pairs: (baseline, candidate) per benchmark, each [n] with values of about 0..1, in the same order of documents.
        scale: units per 1, e.g. 100 for points.
        lower_is_worse: True for scores, False for costs; they are tested as the module says.
        margin: what is allowed, in units.
        alpha: level of each family of one-sided tests: the chance that anything is called worse where nothing is.
        changed: per benchmark, True where the documents are known to differ in something else, such as the answers:
            equal values are then no `same`.

    Returns:
        one effect for each pair; where there are several, one more for all documents together.
    """
    from statsmodels.stats.multitest import multipletests

    if not pairs:
        return []
    if len(pairs) > 1:
        together = [np.concatenate(side) for side in zip(*pairs, strict=True)]
        pairs = [*pairs, (together[0], together[1])]
        changed = [*changed, any(changed)] if changed else None
    sign, mean_of = (1, adjusted_mean) if lower_is_worse else (-1, plain_mean)
    differences = [sign * (baseline - candidate) for baseline, candidate in pairs]
    found = [p_not_worse(worse, mean_of) for worse in differences]
    corrected = multipletests(found, alpha=alpha, method="holm")[1]
    effects = []
    for i, ((baseline, candidate), worse, p_worse) in enumerate(zip(pairs, differences, corrected, strict=True)):
        mean = mean_of(worse)
        p_within = mean.p_below(margin / scale)
        low, high = mean.interval(alpha)
        detectable = mean.detectable(alpha / len(pairs))
        differ = int(np.count_nonzero(worse))
        effects.append(
            Effect(
                differ=differ,
                baseline=scale * float(baseline.mean()),
                candidate=scale * float(candidate.mean()),
                worse_by=scale * float(worse.mean()),
                low=scale * low,
                high=scale * high,
                p_worse=float(p_worse),
                p_within=p_within,
                detectable=None if detectable is None else scale * detectable,
                verdict=_verdict(p_within, p_worse, alpha, same=not differ and not (changed and changed[i])),
            )
        )
    return effects


def _verdict(p_within: float, p_worse: float, alpha: float, *, same: bool) -> Verdict:
    if same:
        return "same"
    return "ok" if p_within < alpha else "worse" if p_worse < alpha else "undecided"


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error; `freedom`: degrees of Student's distribution, infinite for the normal one."""

    value: float
    error: float
    freedom: float = np.inf

    def p_below(self, bound: float) -> float:
        """Return the p-value of "the true mean is `bound` or more"; without any spread the mean is the truth."""
        from scipy.stats import t

        if self.error == 0:
            return float(self.value > bound)
        return float(t.cdf((self.value - bound) / self.error, self.freedom))

    def p_above(self, bound: float) -> float:
        """Return the p-value of "the true mean is `bound` or less"."""
        return Mean(-self.value, self.error, self.freedom).p_below(-bound)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the one-sided bounds at `alpha`, (low, high)."""
        from scipy.stats import t

        reach = float(t.isf(alpha, self.freedom)) * self.error if self.error else 0.0
        return self.value - reach, self.value + reach

    def detectable(self, alpha: float) -> float | None:
        """Return the smallest true mean that is found above 0 at `alpha` with a probability of `POWER`."""
        from scipy.stats import t

        return float(t.isf(alpha, self.freedom) + t.ppf(POWER, self.freedom)) * self.error if self.error else None


def p_not_worse(worse: Values, mean_of: Callable[[Values], Mean]) -> float:
    """Return the one-sided p-value of "the candidate is not worse".

    Args:
        worse: [n] differences, positive where the candidate is worse.
        mean_of: the mean to test where a difference is not -1, 0 or 1.

    Example:
        >>> p_not_worse(np.array([1.0, 1.0, 1.0, 0.0]), plain_mean)  # three lost, none won: McNemar's exact test
        0.125
    """
    from scipy.stats import binomtest

    differing = worse[worse != 0]
    if not len(differing):
        return 1.0
    if np.all(np.abs(differing) == 1):
        lost = int((differing > 0).sum())
        return float(binomtest(lost, len(differing), alternative="greater").pvalue)
    return mean_of(worse).p_above(0.0)


def plain_mean(worse: Values) -> Mean:
    """Return the mean of paired differences; a single one says nothing about the spread, and gets error 1."""
    if len(worse) == 1:
        return Mean(float(worse[0]), 1.0, 1)
    same = bool(np.all(worse == worse[0]))
    return Mean(float(worse.mean()), 0.0 if same else float(worse.std(ddof=1)) / len(worse) ** 0.5, len(worse) - 1)


def adjusted_mean(worse: Values) -> Mean:
    """Return the mean of paired differences with half a pair won, half a pair lost and one tied added."""
    n = len(worse) + 2
    mean = float(worse.sum()) / n
    variance = (float((worse**2).sum()) + 1) / n - mean**2
    return Mean(mean, (variance / n) ** 0.5)
