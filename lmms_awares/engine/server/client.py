"""Requests to a server: streamed, timed, retried, and never longer than their limit.

thread (a sample)        event loop (one thread for all)
complete ──────────────► pace ► request ► chunks ► Completion
         ◄──────────────        └─ 429, 5xx, stall, cut, no JSON: wait, again
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import asdict
from threading import Lock, Thread
from typing import Any, TypeVar, cast

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from lmms_awares.engine.server.address import Address, Served
from lmms_awares.engine.server.completion import Completion, read_chunk, read_whole
from lmms_awares.engine.server.pace import Pace
from lmms_awares.engine.turns import Decoding, Message
from lmms_awares.errors import ConfigError, SampleError, UserError

Result = TypeVar("Result")
ATTEMPTS = 10
_LONGEST_WAIT_S = 20.0
_TIMEOUTS = 4  # of these, that may reach the time limit
_CONNECT_S = 10.0
_REASON = 160  # characters of what a server said
_REFUSED, _UNKNOWN, _TOO_MANY, _SERVERS_FAULT = (401, 403), 404, 429, 500  # status codes
_AGAIN = (408, 409, _TOO_MANY)


class ServerError(SampleError):
    """A request that failed for good, for a reason of its own."""


class ServerGoneError(UserError):
    """A server that fails every request."""


class TransientError(Exception):
    """A request that may succeed when repeated.

    Args:
        busy: the server has too much to do.
        refused: it says so itself, and perhaps for how many seconds.
    """

    def __init__(self, reason: str, *, busy: bool = False, refused: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.busy, self.refused, self.wait_s = busy, refused, wait_s


class _TimedOutError(TransientError):
    """A request that reached its time limit."""


class Client:
    """Requests to one server, many at a time, from any thread.

    Args:
        concurrency: in flight at most.
        timeout_s: of one request, from its start to its last token.
    """

    def __init__(self, address: Address, served: Served, *, concurrency: int, timeout_s: float) -> None:
        self.address, self.served = address, served
        self._timeout_s, self.concurrency = timeout_s, concurrency
        self._loop = asyncio.new_event_loop()
        self._openai = openai.AsyncOpenAI(
            base_url=address.base_url,
            api_key=address.key or "none",
            max_retries=0,  # repetitions are counted and paced here
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S),
        )
        self._pace = Pace(concurrency, timeout_s)
        self._lock, self._closed = Lock(), False
        self._failed = 0  # requests that failed for good since the last one that did not
        Thread(target=self._loop.run_forever, name="requests", daemon=True).start()

    def complete(self, conversations: Sequence[Sequence[Message]], request: dict[str, Any]) -> list[Completion]:
        """Let the server reply to each of some conversations.

        Args:
            conversations: messages in OpenAI's form.
            request: further fields, see `request_of`.

        Raises:
            ServerError: a request failed for a reason of its own, or as often as it is repeated.
            ServerGoneError: so did every other one for a while.
            ConfigError: the server refuses the key or does not know the model.
        """
        waiting = [self.begin(self.reply(list(messages), request)) for messages in conversations]
        return [future.result() for future in waiting]

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start work that awaits `reply`, on the loop that all requests share; a CancelledError behind `close`."""
        with self._lock:
            if self._closed:
                work.close()
                raise CancelledError
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End what is in flight; threads that wait for it get a CancelledError. No request can follow."""
        with self._lock:
            if not self._closed:
                asyncio.run_coroutine_threadsafe(self._end(), self._loop)
            self._closed = True

    async def _end(self) -> None:
        ending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._openai.close()
        self._loop.stop()

    async def reply(self, messages: list[Message], request: dict[str, Any], *, stream: bool = True) -> Completion:
        """Let the server reply to one conversation, see `complete`.

        Args:
            stream: False: the reply comes as a whole, which costs less; nobody learns when its first piece was there.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError), stop=_Patience(), wait=_wait, reraise=True
        )
        try:
            completion: Completion = await retrying(self._paced, messages, request, stream)
        except TransientError as error:
            raise self._given_up(str(error)) from None
        self._failed = 0
        return completion

    async def _paced(self, messages: list[Message], request: dict[str, Any], stream: bool) -> Completion:
        async with self._pace as pace:
            try:
                async with asyncio.timeout(self._timeout_s):
                    completion = await self._attempt(messages, request, stream)
            except TimeoutError:
                pace.record(busy=True)
                raise _TimedOutError(f"no answer in {self._timeout_s:g} s", busy=True) from None
            except TransientError as error:
                pace.record(busy=error.busy, refused=error.refused)
                raise
            pace.record(completion.seconds)
            return completion

    async def _attempt(self, messages: list[Message], request: dict[str, Any], stream: bool) -> Completion:
        started = time.perf_counter()
        completion = Completion()
        fields = {"model": self.served.model, "messages": cast(Any, messages), **request}
        try:
            await (self._pieces if stream else self._whole)(completion, fields, started)
        except Exception as error:
            raise self._named(error) from None
        if completion.finish is None:
            raise TransientError("the reply was cut, or was none")
        completion.seconds = time.perf_counter() - started
        return completion

    async def _pieces(self, completion: Completion, fields: dict[str, Any], started: float) -> None:
        stream: openai.AsyncStream[ChatCompletionChunk] = await self._openai.chat.completions.create(
            stream=True, **self.served.stream, **fields
        )
        async with stream:
            async for chunk in stream:
                read_chunk(completion, chunk, time.perf_counter() - started)

    async def _whole(self, completion: Completion, fields: dict[str, Any], started: float) -> None:
        # By `post`: walking through the fields' types and building a typed reply would take as long as all else.
        extra = fields.pop("extra_body", {})
        response = await self._openai.post("/chat/completions", cast_to=httpx2.Response, body={**fields, **extra})
        read_whole(completion, json.loads(response.content))

    def _named(self, error: Exception) -> Exception:
        """What an error of the client means for the run; itself where it is none of those that servers cause."""
        reason = " ".join(str(error).split())[:_REASON] or type(error).__name__
        if isinstance(error, openai.APIStatusError):
            return self._of_status(error, reason)
        # A ValueError is a chunk that is no JSON.
        if isinstance(error, openai.APIError | httpx2.HTTPError | ValueError):
            return TransientError(f"{type(error).__name__}: {reason}", busy=isinstance(error, openai.APITimeoutError))
        return error

    def _of_status(self, error: openai.APIStatusError, reason: str) -> Exception:
        at, status = f"base_url={self.address.shown}", error.status_code
        if status in _REFUSED:
            return ConfigError(f"{at} refuses the key of api_key_env (status {status})")
        if status == _UNKNOWN:
            return ConfigError(f"{at} does not know model {self.served.model} ({reason}); name one that it has")
        if status in _AGAIN or status >= _SERVERS_FAULT:
            return TransientError(reason, busy=True, refused=status == _TOO_MANY, wait_s=_retry_after(error))
        return ServerError(f"the server refuses it: {reason}")

    def _given_up(self, reason: str) -> UserError:
        """The error of a request that failed for good; of the whole run where no request succeeds any more."""
        self._failed += 1
        if self._failed >= max(4, 2 * self.concurrency):
            return ServerGoneError(
                f"base_url={self.address.shown} has failed the last {self._failed} requests ({reason}); mend the "
                "server and run the same command again: what is answered stays in the journal"
            )
        return ServerError(f"the server did not answer: {reason}")


def request_of(served: Served, decoding: Decoding, *, seed: int | None, suppressed: Sequence[int]) -> dict[str, Any]:
    """The fields of a request besides model and messages.

    Args:
        seed: of sampling; None for greedy decoding.
        suppressed: ids that must not be generated.
    """
    settings = asdict(decoding)
    extra = dict(served.request)
    request: dict[str, Any] = {"max_tokens": settings["max_new_tokens"], "temperature": settings["temperature"]}
    if decoding.temperature > 0:
        request |= {"top_p": decoding.top_p, "seed": seed}
        extra |= {"top_k": decoding.top_k} if decoding.top_k else {}
    if suppressed:
        request["logit_bias"] = {str(id): -100.0 for id in suppressed}
    return {**request, "extra_body": extra}


def _retry_after(error: openai.APIStatusError) -> float | None:
    said = error.response.headers.get("retry-after", "")
    return float(said) if said.replace(".", "", 1).isdigit() else None


class _Patience:
    """When a request is given up: a new one for each."""

    def __init__(self) -> None:
        self._timeouts = 0

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        self._timeouts += isinstance(error, _TimedOutError)
        return state.attempt_number >= ATTEMPTS or self._timeouts >= _TIMEOUTS


_BACKOFF = wait_random_exponential(multiplier=0.25, max=_LONGEST_WAIT_S)


def _wait(state: RetryCallState) -> float:
    """Seconds before a repetition: longer each time, and at least what the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_s if isinstance(error, TransientError) else None
    return max(_BACKOFF(state), min(asked or 0.0, _LONGEST_WAIT_S))
