"""Two rounds in one conversation, where the first reply decides whether there is a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from lmms_awares.engine.turns import Decoding, Prepared, Reply, Talk, Turn
from lmms_awares.errors import SampleError
from lmms_awares.protocol.base import AnyCall


@dataclass(frozen=True)
class Second(Generic[AnyCall]):
    """A second round: the call that led to it, the user turn that answered the call, and what was then said.

    Attributes:
        preprocess_s: making the user turns of the whole batch, seconds.
    """

    call: AnyCall
    turn: Prepared
    reply: Reply
    preprocess_s: float


@dataclass(frozen=True)
class Rounds(Generic[AnyCall]):
    """What one row said.

    Attributes:
        second: None where the first reply was the last.
        seconds: from the start of the batch's first round to the end of the row's last one: both rounds, and what lies
            between them. Waiting for a server's free place, or repeating a request, is no part of it.
        error: why there is no second round although the first reply was a call; else None.
    """

    first: Reply
    second: Second[AnyCall] | None
    seconds: float
    error: SampleError | None = None


def two_rounds(
    talk: Talk,
    respond: Callable[[int, Reply], tuple[AnyCall, Turn] | None],
    *,
    first: Decoding,
    second: Decoding,
    keep: int,
) -> list[Rounds[AnyCall]]:
    """Generate a batch's first round; rows whose reply is a call go on to the second, the others are done.

    Args:
        respond: the call in a row's reply and the user turn that it gets, or None. A turn that no longer fits the
            context ends that row, and the others go on.
        first, second: how to decode each round.
        keep: tokens of a first reply that stay in the conversation.
    """
    replies = talk.generate(first, keep=keep)
    between = time.perf_counter()
    responses: dict[int, tuple[AnyCall, Prepared]] = {}
    errors: dict[int, SampleError] = {}
    for row, reply in enumerate(replies):
        response = respond(row, reply)
        if response is None:
            continue
        try:
            responses[row] = response[0], talk.prepare(row, response[1])
        except SampleError as error:
            errors[row] = error
    seconds: dict[int, Second[AnyCall]] = {}
    rendering = 0.0
    if responses:
        talk.continue_rows(list(responses), [turn for _, turn in responses.values()])
        rendering = time.perf_counter() - between
        finals = talk.generate(second)
        for (row, (call, turn)), final in zip(responses.items(), finals, strict=True):
            seconds[row] = Second(call, turn, final, rendering)

    def elapsed(row: int) -> float:
        later = seconds.get(row)
        return replies[row].seconds + (rendering + later.reply.seconds if later else 0.0)

    return [Rounds(reply, seconds.get(row), elapsed(row), errors.get(row)) for row, reply in enumerate(replies)]
