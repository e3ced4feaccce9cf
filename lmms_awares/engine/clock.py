"""Wall clock of what runs on a device, and where a `generate` turns from prefill to decoding."""

import time
from typing import Any

import torch
from transformers import StoppingCriteria

from lmms_awares.engine.turns import Times


def device_time(device: torch.device) -> float:
    """Seconds of `time.perf_counter` when `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Stages(StoppingCriteria):
    """The stages of one turn. `generate` calls a stopping criterion behind every token; this one stops nothing.

    Attributes:
        started, encoded, first_token: seconds of `device_time`; the last is there when `generate` is.

    Example:
        stages = Stages(model.device)
        features = tower(pixels); stages.mark_encoded()
        model.generate(ids, stopping_criteria=[stages])
        seconds, times = stages.finish()
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.started = self.encoded = device_time(device)
        self.first_token: float | None = None

    def mark_encoded(self) -> None:
        """The images are encoded and pruned."""
        self.encoded = device_time(self._device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """[B] bool, all False; the device is waited for once only, so that decoding runs as without it."""
        if self.first_token is None:
            self.first_token = device_time(self._device)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def finish(self) -> tuple[float, Times]:
        """Seconds of the turn, which ends now, and its parts."""
        ended = device_time(self._device)
        first = ended if self.first_token is None else self.first_token
        return ended - self.started, Times(self.encoded - self.started, first - self.encoded, ended - first)
