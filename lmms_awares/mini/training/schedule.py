"""AdamW with the schedule that all stages share: warm-up, constant rate, linear decay."""

from collections.abc import Sequence

import torch
from torch import nn

_WARM_UP = 50  # steps


class Schedule:
    """An optimiser of some modules and its learning rate: linear warm-up, constant, linear decay to zero.

    AdamW alone: torch's Muon orthogonalises in bfloat16, which took 3 s a step on a CPU without bfloat16 units, ten
    times the rest of the step.

    Args:
        modules: everything in them that requires gradients is trained.
        steps: length of the schedule.
        rate: peak learning rate.
        decay_from: share of the steps after which the rate falls.
    """

    def __init__(self, modules: Sequence[nn.Module], steps: int, *, rate: float, decay_from: float = 0.5) -> None:
        self._parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._parameters, rate, (0.9, 0.98), weight_decay=0.01)
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: _factor(step, steps, decay_from)
        )

    def clear(self) -> None:
        """Reset the gradients."""
        self._optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clip the gradients' norm to 1, step the optimiser, and advance the schedule."""
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._scheduler.step()


def _factor(step: int, steps: int, decay_from: float) -> float:
    left = (steps - step) / max(1.0, steps * (1 - decay_from))
    return min(1.0, (step + 1) / _WARM_UP, max(0.01, left))
