"""Asking a judge or an oracle behind an OpenAI-compatible server: each request once, whatever becomes of the run.

Request ─► key ─► log? ─yes─► reply ─► read ─► result
                   │ no                 │ BadReplyError: the next attempt, then Rejected
                   └─► server ─► log ─► reply
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from lmms_awares.curation.request_log import Reply
from lmms_awares.curation.rows import Rejected
from lmms_awares.engine.server.client import Client, ServerError
from lmms_awares.engine.server.completion import Completion
from lmms_awares.journal import digest

ATTEMPTS = 3  # at a reply that can be read
_SHOWN = 160  # characters of a reply in a reason
_REFUSAL = re.compile(r"\b(?:sorry|apologi[sz]e|cannot|can't|can’t|unable|not able|as an ai)\b", re.IGNORECASE)
Message = dict[str, Any]
Read = TypeVar("Read")


class BadReplyError(ValueError):
    """A reply that cannot be read; its text is the reason, the same for all of its kind."""


def is_refusal(text: str) -> bool:
    """Whether a reply says that the model will not or cannot reply."""
    return _REFUSAL.search(text) is not None


class Log(Protocol):
    """Where finished requests are kept; `request_log.RequestLog`, or what stands for it in a worker."""

    def get(self, key: str) -> Reply | None:
        """The reply to a request that finished."""

    def add(self, stage: str, key: str, reply: Reply) -> None:
        """Keep a reply to a stage's request."""


@dataclass
class Meter:
    """What was asked so far, for the progress display and the summary.

    Attributes:
        sent, known: requests that were sent, and those that the log answered.
        unreadable: replies that could not be read.
        input_tokens, output_tokens: of requests that were sent, as far as the server counts.
    """

    sent: int = 0
    known: int = 0
    unreadable: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: "Meter") -> None:
        """Add what another process counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def count(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """Note a request that was sent and answered."""
        self.sent += 1
        self.input_tokens += input_tokens or 0
        self.output_tokens += output_tokens or 0


@dataclass(frozen=True)
class Request:
    """A question to a model.

    Attributes:
        content: makes the user message's content, in OpenAI's form, when it is sent; images as data URLs.
        facts: what the request depends on, as JSON: texts, and hashes of images.
        max_tokens: of the reply.
    """

    content: Callable[[], Any]
    facts: Sequence[Any]
    max_tokens: int


@dataclass(frozen=True)
class Said(Generic[Read]):
    """What a reply says, and the reply itself."""

    value: Read
    text: str


@dataclass
class Asker:
    """One served model, asked many things at a time. Decoding is greedy but for repeated attempts.

    Args:
        client: requests to its server.
        log: finished requests.
        stage: the name of the stage that asks.
        version: hash of the prompt's wording.
    """

    client: Client
    log: Log
    stage: str
    version: str
    meter: Meter = field(default_factory=Meter)
    _flying: dict[str, "asyncio.Task[Reply]"] = field(default_factory=dict)

    def ask(self, requests: Sequence[Request], read: Callable[[str], Read]) -> "list[Said[Read] | Rejected]":
        """Ask side by side; results in order.

        Args:
            read: takes a reply's text apart; raises BadReplyError.

        Raises:
            ConfigError: the server refuses the key or does not know the model.
            ServerGoneError: it fails every request.
        """
        places = asyncio.Semaphore(self.client.concurrency)
        waiting: list[Future[Said[Read] | Rejected]] = [
            self.client.begin(self._answered(request, read, places)) for request in requests
        ]
        try:
            return [future.result() for future in waiting]
        finally:
            for future in waiting:
                future.cancel()

    async def _answered(
        self, request: Request, read: Callable[[str], Read], places: asyncio.Semaphore
    ) -> "Said[Read] | Rejected":
        reason, text = "", ""
        for attempt in range(ATTEMPTS):
            async with places:  # a message with its images is made when it is its turn
                try:
                    text = (await self._reply(request, attempt)).text
                except ServerError as error:
                    return Rejected("no reply", str(error), final=False)
            try:
                return Said(read(text), text)
            except BadReplyError as error:
                self.meter.unreadable += 1
                reason = str(error)
        return Rejected(reason, f"{ATTEMPTS} replies, the last one: {' '.join(text.split())[:_SHOWN]!r}")

    async def _reply(self, request: Request, attempt: int) -> Reply:
        """The reply to one attempt, from the log, from a request that is under way, or from the server."""
        # Another seed and some warmth: a deterministic server would repeat a bad reply for ever.
        sampling: dict[str, Any] = {"temperature": 0.0}
        if attempt:
            sampling = {"temperature": 0.7, "seed": attempt}
        sampling["max_tokens"] = request.max_tokens
        key = digest(self.client.served.model, list(request.facts), sampling, self.version)
        known = self.log.get(key)
        if known is not None:
            self.meter.known += 1
            return known
        task = self._flying.get(key)
        if task is None:
            task = self._flying[key] = asyncio.ensure_future(self._sent(key, request, sampling))
            task.add_done_callback(lambda _: self._flying.pop(key))
        return await asyncio.shield(task)

    async def _sent(self, key: str, request: Request, sampling: dict[str, Any]) -> Reply:
        messages = [{"role": "user", "content": request.content()}]
        done: Completion = await self.client.reply(
            messages, sampling | {"extra_body": dict(self.client.served.request)}, stream=False
        )
        reply = Reply(done.text, done.prompt_tokens, done.new_tokens)
        self.log.add(self.stage, key, reply)
        self.meter.count(reply.input_tokens, reply.output_tokens)
        return reply
