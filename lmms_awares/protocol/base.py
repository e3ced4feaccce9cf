"""The shape that the protocols share: what is said to a model that may ask for more pixels, and what it says."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

Part = dict[str, Any]  # of a chat message's content: {"type": "text", "text": ...} or {"type": "image"}
Status = Literal["valid", "recovered", "invalid"]


class Call(Protocol):
    """A tool call that a reply attempts."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Crops that it asks for; none where nothing in it is usable."""

    @property
    def status(self) -> Status:
        """`valid` (the exact grammar), `recovered` (could be understood), `invalid` (could not be run)."""

    @property
    def text(self) -> str:
        """The part of the reply that is the call."""


AnyCall = TypeVar("AnyCall", bound=Call)


class ToolProtocol(ABC, Generic[AnyCall]):
    """One way to ask for more pixels. Text only: whoever shows it to a model brings the images.

    Evaluation, the mini suite's training and everything else that shows the protocol to a model goes through this.

    Attributes:
        own: our own wording, by part; `system` is one.
        adjacent: a turn that answers a call follows the reply's end without the chat template's line break.
    """

    own: ClassVar[Mapping[str, str]]
    adjacent: bool = False

    @property
    @abstractmethod
    def keep(self) -> int:
        """Tokens of a first reply that stay in the conversation."""

    def opening(self, content: Sequence[Part]) -> list[Part]:
        """The first user turn, from the one that the task brings."""
        return list(content)

    @abstractmethod
    def read(self, reply: str) -> AnyCall | None:
        """The call in a first reply, or None where none is attempted. Never raises."""

    @abstractmethod
    def respond(self, call: AnyCall, images: int) -> list[Part]:
        """The user turn that answers a call with so many images."""

    def answer(self, replies: Sequence[str]) -> str:
        """The answer in a conversation's replies, first to last, for tasks that know nothing of the protocol."""
        return replies[-1].strip()
