"""The interface of all protocols: the turns that a model is shown, and the tool call that is read from its reply."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

Part = dict[str, Any]  # of a chat message's content: {"type": "text", "text": ...} or {"type": "image"}
Status = Literal["valid", "recovered", "invalid"]


def words_of(content: Sequence[Part]) -> str:
    """Return the text of a message's content, images left out."""
    return "".join(part["text"] for part in content if part["type"] == "text")


class Call(Protocol):
    """A tool call that a reply attempts."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the crops that the call asks for; empty where nothing in the call is usable."""

    @property
    def status(self) -> Status:
        """`valid` (the exact grammar), `recovered` (understood nevertheless), `invalid` (cannot be executed)."""

    @property
    def text(self) -> str:
        """The part of the reply that is the call."""

    @property
    def note(self) -> str | None:
        """What is wrong with the call, in one line, or what was done to it; None for neither, or where it is plain."""


AnyCall = TypeVar("AnyCall", bound=Call)


class ToolProtocol(ABC, Generic[AnyCall]):
    """One way to ask for more pixels. Text only: whoever shows the turns to a model brings the images.

    Evaluation, the mini suite's training and everything else that shows the protocol to a model uses this class.

    Attributes:
        own: our own wording, by part; `system` is one of the parts.
        adjacent: a turn that answers a call follows the reply's end without the chat template's line break.
    """

    own: ClassVar[Mapping[str, str]]
    adjacent: bool = False

    @property
    @abstractmethod
    def keep(self) -> int:
        """Number of tokens of a first reply that stay in the conversation."""

    def opening(self, content: Sequence[Part]) -> list[Part]:
        """Return the first user turn, made of the task's own `content`; the same here."""
        return list(content)

    @abstractmethod
    def read(self, reply: str) -> AnyCall | None:
        """Return the call in a first reply, or None where the reply attempts none. Never raises."""

    @abstractmethod
    def respond(self, call: AnyCall, images: int) -> list[Part]:
        """Return the user turn that answers a call by so many images."""

    def answer(self, replies: Sequence[str]) -> str:
        """Return the final answer from a conversation's replies, first to last, for tasks unaware of the protocol."""
        return replies[-1].strip()
