"""One request of lmms-eval, made ready: document, images, views, prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from lmms_awares import images
from lmms_awares.cost import Cost
from lmms_awares.engine.turns import Decoding, Message, Prepared
from lmms_awares.errors import SampleError
from lmms_awares.models.decisions import Decision
from lmms_awares.protocol.base import words_of
from lmms_awares.trace import CropTrace, PruningTrace, ToolCallTrace, TurnTrace
from lmms_awares.views import ViewPlan


@dataclass(frozen=True)
class Address:
    """Where a sample comes from."""

    task: str
    split: str
    doc_id: int
    repeat: int = 0  # of sampled generations of the same document (lmms-eval's --repeats)


@dataclass(frozen=True)
class Lent:
    """The image of another document, which crops are cut from.

    Attributes:
        doc_id: of that document.
        image: RGB, in the size of the sample's own image.
    """

    doc_id: int
    image: Image.Image


@dataclass(frozen=True)
class Sample:
    """A sample ready for generation.

    Attributes:
        images: RGB originals.
        plans: one per image.
        prompt: turn 1 with its views, in the engine's form.
        decision: who decides on crops, and what was decided.
        preprocess_s: loading, resizing and tokenising, seconds.
        seed: of sampling; None where decoding is greedy.
        question: the words of the task's last message.
        lent: what crops are cut from, where that is not the sample's own image.
    """

    at: Address
    images: list[Image.Image]
    plans: list[ViewPlan]
    prompt: Prepared
    decision: Decision
    decoding: Decoding
    preprocess_s: float
    seed: int | None
    question: str
    lent: Lent | None = None


@dataclass
class Outcome:
    """What a model made of a sample. Token counts are visual tokens; times are seconds; what is None is not known."""

    answer: str
    visual_tokens: int | float
    turns: list[TurnTrace]
    latency_s: float
    truncated: bool
    input_tokens: int
    visual_tokens_processed: int | float | None
    cost: Cost | None = None
    pruning: PruningTrace | None = None
    tool_call: ToolCallTrace | None = None
    crops: list[CropTrace] = field(default_factory=list)


def messages_of(
    doc: dict[str, Any], doc_to_messages: Callable[[dict[str, Any]], list[Message]], quote: Callable[[str], str]
) -> list[Message]:
    """A document's chat messages as the task makes them, with `quote` applied to their texts.

    Raises:
        SampleError: it cannot make any.
    """
    try:
        return [quoted(message, quote) for message in doc_to_messages(doc)]
    except (AttributeError, KeyError, TypeError) as error:  # a null where the task expects text
        raise SampleError(f"the task cannot make a prompt of its document: {error!r}") from None


def question_of(messages: Sequence[Message]) -> str:
    """The words of the last message, images left out."""
    content = messages[-1]["content"]
    return content if isinstance(content, str) else words_of(content)


def quoted(message: Message, quote: Callable[[str], str]) -> Message:
    """A task's message with `quote` applied to its texts."""
    if isinstance(message["content"], str):
        return {**message, "content": quote(message["content"])}
    parts = [{**part, "text": quote(part["text"])} if part["type"] == "text" else part for part in message["content"]]
    return {**message, "content": parts}


def read_images(messages: Sequence[Message]) -> list[Image.Image]:
    """RGB images of a conversation, in order.

    Raises:
        SampleError: no image, or a video or audio.
        OSError: an image that cannot be read.
    """
    parts = [part for message in messages for part in message["content"] if part["type"] != "text"]
    others = sorted({part["type"] for part in parts} - {"image"})
    if others:
        raise SampleError(f"the sample holds {' and '.join(others)}; only images are supported")
    if not parts:
        raise SampleError("the sample holds no image; only samples with images are supported")
    return [images.decode(url) if isinstance(url := part["url"], str) else images.from_pillow(url) for part in parts]
