"""The seam between a method and whoever answers: turns in, replies out, no tensors.

    method                         engine                      local.py | (a server)
    Opening(messages, views)  ──►  prepare ─► Prepared   ──►   ids, patches, grids
                                   start   ─► Talk       ──►   KV cache
    Reply                     ◄──  talk.generate
    Turn(content, views)      ──►  talk.prepare, talk.continue_rows
    Reply                     ◄──  talk.generate

A `Talk` is a batch of conversations that go on together; each row is one sample's.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lmms_awares.cost import Cost
from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.families import Family
from lmms_awares.protocol.base import Part
from lmms_awares.tokens import VisualTokens
from lmms_awares.views import View

if TYPE_CHECKING:
    from lmms_awares.pruning import Pruner

Message = dict[str, Any]  # {"role": ..., "content": [Part, ...]}


@dataclass(frozen=True)
class Opening:
    """Everything up to the first reply.

    Attributes:
        messages: the task's chat messages; one image part per view, in order.
        system: goes in front of a system message that the task may bring; None leaves the template's default.
        views: what is shown, with the visual tokens that each will cost.
    """

    messages: Sequence[Message]
    system: str | None
    views: Sequence[View] = ()


@dataclass(frozen=True)
class Turn:
    """A user turn behind a reply.

    Attributes:
        content: parts of a chat message; one image part per view, in order.
        views: what is shown.
        adjacent: leave out the line break that the chat template writes between the reply's end and this turn.
    """

    content: Sequence[Part]
    views: Sequence[View] = ()
    adjacent: bool = False


@dataclass(frozen=True)
class Prepared:
    """An opening or a turn in the engine's own form.

    Attributes:
        length: tokens, visual ones included, before any pruning.
    """

    length: int


@dataclass(frozen=True)
class Decoding:
    """How to decode a reply; from the task's `generation_kwargs`. Greedy where the temperature is 0."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    @classmethod
    def from_task(cls, kwargs: dict[str, Any]) -> "Decoding":
        """Read lmms-eval's `generation_kwargs`; absent values take lmms-eval's defaults.

        Raises:
            ConfigError: a value out of range; beam search, which cannot continue on a shared cache.
        """
        given = {"max_new_tokens": 128, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "num_beams": 1}
        given |= {key: value for key, value in kwargs.items() if key in given and value is not None}
        if given["num_beams"] != 1:
            raise ConfigError(f"num_beams={given['num_beams']} is not supported; remove it from gen_kwargs")
        try:
            decoding = cls(
                max_new_tokens=int(given["max_new_tokens"]),
                temperature=float(given["temperature"]),
                top_p=float(given["top_p"]),
                top_k=int(given["top_k"]),
            )
        except (TypeError, ValueError, OverflowError):  # the last: a whole number that is infinite
            raise ConfigError(f"gen_kwargs {kwargs} hold a value that is no number") from None
        warm = 0 <= decoding.temperature < math.inf  # nor is it NaN
        if decoding.max_new_tokens < 1 or not warm or decoding.top_k < 0 or not 0 < decoding.top_p <= 1:
            raise ConfigError(
                "gen_kwargs need max_new_tokens >= 1, temperature >= 0, 0 < top_p <= 1 and top_k >= 0, "
                f"got {asdict(decoding)}"
            )
        return decoding


@dataclass(frozen=True)
class Times:
    """Where a turn's seconds went; None where the engine does not tell. See `lmms_awares.trace.TurnTrace`."""

    vision_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


@dataclass(frozen=True)
class Reply:
    """One assistant turn.

    Attributes:
        ids: generated ids up to and including the end of turn, where there is one.
        ended: the turn ended by itself, not at the token limit.
        closed: it ended with the token that the chat template writes there; any other end is left out of the
            conversation, and the next turn brings the template's.
        seconds: wall clock of the whole batch's turn, device synchronised.
        visual: visual tokens of the row's whole conversation so far.
        times: the parts of `seconds`.
        prompt_tokens: tokens of the row's conversation in front of this reply, before any pruning.
        cached_tokens: of these, those that a KV cache held already; None where the engine does not tell.
        processed: visual tokens of the row's whole conversation so far, as often as they were prefilled; None where the
            engine does not tell.
        cost: of the row's whole conversation so far, as if it were generated alone; None where it is not known.
        logits: [T, vocab] float32 logits of each generated step, on request.
    """

    ids: list[int]
    ended: bool
    closed: bool
    seconds: float
    visual: VisualTokens
    times: Times = Times()
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    processed: int | float | None = None
    cost: Cost | None = None
    logits: Any = None


class Talk(ABC):
    """A batch of conversations on one KV cache."""

    @abstractmethod
    def generate(self, decoding: Decoding, *, keep: int | None = None) -> list[Reply]:
        """Let every row reply.

        Args:
            keep: another turn may follow: only so many tokens of a reply stay in the conversation, and none of them is
                an image's placeholder. None: this is the last reply.
        """

    @abstractmethod
    def say(self, replies: Sequence[str]) -> None:
        """Put replies into the conversations in place of generated ones."""

    @abstractmethod
    def prepare(self, row: int, turn: Turn) -> Prepared:
        """The turn that follows the last reply of `row`.

        Raises:
            SampleError: the conversation would be longer than the model's context.
        """

    @abstractmethod
    def continue_rows(self, rows: Sequence[int], turns: Sequence[Prepared]) -> None:
        """Keep only `rows`, and append a turn to each of them."""


class Engine(ABC):
    """Who answers.

    Attributes:
        family: the checkpoint's.
        pixel_limits: (min_pixels, max_pixels) of every view.
        pruner: what drops visual tokens of every view; None where nothing does.
        revision: hex content hash of checkpoint and adapter.
        parallel: talks that may go on at the same time, each in a thread of its own.
    """

    family: Family
    pixel_limits: tuple[int, int]
    pruner: "Pruner | None"
    revision: str
    parallel: int = 1

    @abstractmethod
    def quote(self, text: str) -> str:
        """Somebody's text, made safe for a message: control tokens in it are read as text."""

    @abstractmethod
    def wording(self, opening: Opening) -> str:
        """All that the opening says, for the key under which an answer is kept."""

    @abstractmethod
    def prepare(self, opening: Opening) -> Prepared:
        """The opening in the engine's own form.

        Raises:
            SampleError: it is longer than the model's context.
        """

    @abstractmethod
    def start(self, openings: Sequence[Prepared], *, reuse_cache: bool = True, seed: int | None = None) -> Talk:
        """Begin conversations.

        Args:
            reuse_cache: False prefills all again in each turn, as a reference.
            seed: of sampling; None where decoding is greedy.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, special tokens left out."""

    def close(self) -> None:  # noqa: B027  # an engine in this process has nothing to end
        """End what is going on, because the run ends early."""

    @abstractmethod
    def conditions(self) -> dict[str, Any]:
        """What answers depend on besides the method: the fields of `lmms_awares.trace.Conditions` that it knows."""


def check_context(tokens: int, context: int) -> None:
    """Refuse a conversation that is longer than what the model was made for: it would answer, but nonsense.

    Args:
        tokens: of all turns before the next reply, images included as the views show them, before any pruning.
        context: `max_position_embeddings`, or a server's own limit.

    Raises:
        SampleError: it is too long.
    """
    if tokens > context:
        raise SampleError(
            f"its prompt of {tokens} tokens is longer than the model's context of {context}; where its images are what "
            "is long, a lower max_pixels helps"
        )
