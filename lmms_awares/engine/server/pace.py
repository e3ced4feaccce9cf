"""How many requests are in flight: fewer where a server pushes back, more where it copes."""

import asyncio

from lmms_eval.models.model_utils.concurrency_control import AdaptiveConcurrencyConfig, decide_next_concurrency
from loguru import logger

_FAILING = 0.3  # share of requests that fail over too much work, from which on fewer are sent
_WINDOW = 16  # requests that a decision rests on, at least
_SLOW = 0.25  # a p95 latency above this share of the time limit: requests wait in the server's queue


class Pace:
    """A limit that follows what became of the last requests, by lmms-eval's own rule.

    Use as an async context manager around a request, and report its end with `record`.

    Args:
        most: requests in flight at most, and at the start.
        timeout_s: time limit of one request.
    """

    def __init__(self, most: int, timeout_s: float) -> None:
        self.limit = most
        self._busy = 0
        self._free = asyncio.Condition()
        self._config = AdaptiveConcurrencyConfig.from_raw(
            min_concurrency=1,
            max_concurrency=most,
            target_latency_s=_SLOW * timeout_s,
            increase_step=0.25,
            decrease_factor=0.5,
            failure_threshold=_FAILING,
        )
        self._latencies: list[float] = []
        self._failed = self._refused = self._ended = 0

    async def __aenter__(self) -> "Pace":
        async with self._free:
            await self._free.wait_for(lambda: self._busy < self.limit)
            self._busy += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._free:
            self._busy -= 1
            self._free.notify_all()

    def record(self, seconds: float | None = None, *, busy: bool = False, refused: bool = False) -> None:
        """Note how a request ended.

        Args:
            seconds: it took; None where it failed.
            busy: it failed because the server has too much to do.
            refused: the server asked for fewer requests (429).
        """
        self._ended += 1
        self._failed += busy
        self._refused += refused
        if seconds is not None:
            self._latencies.append(seconds)
        if self._ended < max(_WINDOW, self.limit):
            return
        decision = decide_next_concurrency(
            current_concurrency=self.limit,
            total_requests=self._ended,
            failed_requests=self._failed,
            rate_limited_requests=self._refused,
            latencies=self._latencies,
            config=self._config,
        )
        if decision.next_concurrency != self.limit:
            logger.debug(f"requests in flight: {self.limit} -> {decision.next_concurrency}")
        self.limit = decision.next_concurrency
        self._latencies, self._failed, self._refused, self._ended = [], 0, 0, 0
