"""How far two sets of labels agree (paper Table 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmms_awares.errors import DataError

LABELS = ("LR", "HR")  # rows and columns of a table, in this order


@dataclass(frozen=True)
class Agreement:
    """Two sets of labels of the same samples, `a` and `b`.

    Attributes:
        table: [2, 2] int64, how many samples `a` (rows) and `b` (columns) label LR and HR.
    """

    table: NDArray[np.int64]

    @property
    def agreement(self) -> float:
        """The share, 0..1, of samples with the same label."""
        return float(np.trace(self.table) / self.table.sum())

    @property
    def kappa(self) -> float:
        """Cohen's kappa, -1..1: agreement beyond what chance gives to sets with these shares of HR.

        NaN where both sets hold one and the same label only: chance alone would agree as well.
        """
        from statsmodels.stats.inter_rater import cohens_kappa

        if self.table.max() == self.table.sum() == np.trace(self.table):
            return float("nan")
        return float(cohens_kappa(self.table, return_results=False))


def agreement(a: Sequence[str], b: Sequence[str]) -> Agreement:
    """Compare two sets of labels.

    Args:
        a, b: `LR` or `HR` of each sample, in the same order.

    Raises:
        DataError: no labels, sets of unlike length, or another label.

    Example:
        >>> found = agreement(["LR", "LR", "HR", "HR"], ["LR", "LR", "HR", "LR"])
        >>> found.table.tolist(), found.agreement, found.kappa
        ([[2, 0], [1, 1]], 0.75, 0.5)
    """
    if len(a) != len(b):
        raise DataError(f"{len(a)} and {len(b)} labels cannot be compared; give both of the same samples")
    if not len(a):
        raise DataError("there are no labels to compare")
    table = np.zeros((2, 2), dtype=np.int64)
    for first, second in zip(a, b, strict=True):
        if first not in LABELS or second not in LABELS:
            odd = first if first not in LABELS else second
            raise DataError(f"{odd!r} is no label; expected LR or HR")
        table[LABELS.index(first), LABELS.index(second)] += 1
    return Agreement(table)
