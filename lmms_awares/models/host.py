"""lmms-eval's side of every model: what it asks of a chat model, and what it must not ask."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from tqdm import tqdm

from lmms_awares.envelope import seal
from lmms_awares.errors import ConfigError
from lmms_awares.journal import Entry
from lmms_awares.models.together import Answer, answer_together
from lmms_awares.models.windows import wants_trace
from lmms_awares.ranks import current


class HostModel(lmms):
    """A model of lmms-eval that answers batch by batch.

    Args:
        device: where to run; default: the process's accelerator, else the CPU.
        batch_size: samples generated together.

    Raises:
        ConfigError: a batch size that is no number.
    """

    is_simple = False  # lmms-eval: requests carry chat messages
    model_id: str

    def __init__(self, device: str | None, batch_size: int | str) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ConfigError(f"batch_size={batch_size} is not supported; give a number such as 1 or 8")
        self.batch_size = int(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self._device = device if device and self._world_size == 1 else self.accelerator.device

    @abstractmethod
    def entries_of(self, requests: Sequence[Instance]) -> Iterator[tuple[int, Entry]]:
        """Answer requests: the number of each and its entry, as soon as it is there, in any order."""

    @property
    def device(self) -> Any:
        """Where lmms-eval gathers results."""
        return self._device

    def clean(self) -> None:
        """Keep the weights when lmms-eval has its answers: a trainer's callback evaluates the same object again."""

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Not offered: the benchmarks generate."""
        raise NotImplementedError(f"{self.model_id} generates; tasks that need log-likelihoods cannot run on it")

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Not offered: the crop protocol's turns are the model's own, not the task's."""
        raise NotImplementedError(f"{self.model_id} does not run tasks with rounds of their own")

    @abstractmethod
    def planned_tokens(self, request: Instance) -> int:
        """Visual tokens that a request's first view costs by its plan; 0 where the request cannot be answered."""

    def generate_until(self, requests: list[Instance]) -> list[Answer]:
        """Answer requests, where several processes run together with the others, see `answer_requests`."""
        ranks = current()
        if ranks is None or not ranks.share:
            return self.answer_requests(requests)
        return answer_together(requests, ranks, self.planned_tokens, self.answer_requests)

    def answer_requests(self, requests: list[Instance]) -> list[Answer]:
        """Answer requests; each result is (text, token counts), the documented form that survives lmms-eval's cache."""
        entries: dict[int, Entry] = {}
        started = time.perf_counter()
        with tqdm(total=len(requests), disable=self.rank != 0, desc=self.model_id) as progress:
            for number, entry in self.entries_of(requests):
                entries[number] = entry
                progress.update()
        elapsed = time.perf_counter() - started
        tokens = sum(entry.output_tokens for entry in entries.values() if not entry.trace.reused)
        log_metrics(
            total_elapsed_time=elapsed,
            total_gen_tokens=tokens,
            avg_speed=tokens / elapsed,
            additional_metrics={"total_requests": len(entries)},
        )
        return [
            (
                seal(entry.answer, entry.trace) if wants_trace(request) else entry.answer,
                {"input_tokens": entry.input_tokens, "output_tokens": entry.output_tokens},
            )
            for request, entry in ((request, entries[number]) for number, request in enumerate(requests))
        ]
