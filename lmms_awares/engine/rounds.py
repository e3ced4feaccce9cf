"""Two rounds on one KV cache, where the first reply decides whether there is a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lmms_awares.engine.conversation import Conversation, Reply, Segment
from lmms_awares.errors import SampleError

Call = TypeVar("Call")


@dataclass(frozen=True)
class Second(Generic[Call]):
    """A second round: the call that led to it, the user turn that answered the call, and what was then said."""

    call: Call
    turn: Segment
    reply: Reply


@dataclass(frozen=True)
class Rounds(Generic[Call]):
    """What one row said.

    Attributes:
        second: None where the first reply was the last.
        seconds: wall clock from the start of the batch's first round to the end of the row's last one.
        error: why there is no second round although the first reply was a call; else None.
    """

    first: Reply
    second: Second[Call] | None
    seconds: float
    error: SampleError | None = None


def two_rounds(
    conversation: Conversation,
    respond: Callable[[int, Reply], tuple[Call, Segment] | None],
    *,
    first: dict[str, Any],
    second: dict[str, Any],
) -> list[Rounds[Call]]:
    """Generate a batch's first round; rows whose reply is a call go on to the second, the others are done.

    Args:
        respond: the call in a row's reply and the user turn that it gets, or None. Where it raises SampleError, that
            row ends there and the others go on.
        first, second: arguments of `Conversation.generate`.
    """
    started = time.perf_counter()
    replies = conversation.generate(**first)
    responses: dict[int, tuple[Call, Segment]] = {}
    errors: dict[int, SampleError] = {}
    for row, reply in enumerate(replies):
        try:
            response = respond(row, reply)
        except SampleError as error:
            errors[row] = error
        else:
            responses |= {} if response is None else {row: response}
    seconds: dict[int, Second[Call]] = {}
    if responses:
        conversation.continue_rows(list(responses), [turn for _, turn in responses.values()])
        finals = conversation.generate(**second)
        for (row, (call, turn)), final in zip(responses.items(), finals, strict=True):
            seconds[row] = Second(call, turn, final)
    elapsed = time.perf_counter() - started  # a reply is there when its device is done
    return [
        Rounds(reply, seconds.get(row), elapsed if row in seconds else reply.seconds, errors.get(row))
        for row, reply in enumerate(replies)
    ]
