"""Control: the image is resized until its visual tokens meet the ratio, so the vision tower gets cheaper too."""

import math
from typing import ClassVar

from lmms_awares.cost import Shape
from lmms_awares.pruning.base import Pruner

FREE_DISTORTION = 0.1  # change of the aspect ratio that costs nothing against a closer token count
COUNT_WEIGHT = 2


def select(columns: int, rows: int, keep: float) -> tuple[int, int]:
    """Return (columns, rows) of a smaller grid with about `keep` tokens and about the same aspect ratio.

    The cost of a grid is twice its relative deviation from `keep`, plus the change of its aspect ratio beyond 10 %
    (both as natural logarithms); of equals, the least distorted.

    Example:
        >>> select(20, 10, keep=100)
        (14, 7)
    """

    def cost(grid: tuple[int, int]) -> tuple[float, float]:
        distortion = abs(math.log(grid[0] * rows / (grid[1] * columns)))
        miss = abs(math.log(math.prod(grid) / keep))
        return COUNT_WEIGHT * miss + max(0.0, distortion - FREE_DISTORTION), distortion

    return min(((min(columns, max(1, round(keep / height))), height) for height in range(1, rows + 1)), key=cost)


class Downsample(Pruner):
    """Acts before the vision tower: every view is resized (LANCZOS) to the grid that `select` gives."""

    name: ClassVar[str] = "downsample"

    @property
    def resizes(self) -> bool:
        """True unless everything is kept."""
        return self.retain_ratio < 1

    def selection_flops(self, shape: Shape, tokens: int) -> int:
        """None: the model sees a smaller image."""
        return 0

    def grid(self, columns: int, rows: int) -> tuple[int, int]:
        """Choose the grid by `select` at the ratio."""
        return select(columns, rows, self.retain_ratio * columns * rows)
