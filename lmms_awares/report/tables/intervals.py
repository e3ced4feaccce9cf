"""Bootstrap intervals of scores and of their average over benchmarks."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
_DRAWS = 4_000_000  # indices in memory at a time
Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def interval(samples: Sequence[Values], seed: int = 0) -> tuple[float, float] | None:
    """Compute the 95 % percentile bootstrap interval of the mean over benchmarks of each benchmark's mean.

    Args:
        samples: [n] scores per benchmark; one benchmark gives the interval of its mean. Each is resampled on its own.
        seed: of the resampling.

    Returns:
        (low, high) in the unit of the scores; None where a benchmark has fewer than two samples.

    Example:
        >>> interval([np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.0])])  # without spread within the benchmarks
        (0.5, 0.5)
    """
    if not samples or min(map(len, samples)) < 2:
        return None
    if sum(np.ptp(values) for values in samples) == 0:  # nothing to resample; SciPy would warn
        mean = float(np.mean([values[0] for values in samples]))
        return mean, mean

    from scipy import stats  # takes a second to import, and most tables show no interval

    def statistic(*drawn: Values, axis: int) -> Values:
        total: Values = sum(np.mean(values, axis=axis) for values in drawn) / len(drawn)
        return total

    result = stats.bootstrap(
        list(samples),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _DRAWS // sum(map(len, samples))),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)
