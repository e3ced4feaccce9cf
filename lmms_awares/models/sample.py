"""One request of lmms-eval, made ready: document, images, views, prompt."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from lmms_awares import images
from lmms_awares.engine.chat import Message
from lmms_awares.engine.conversation import Segment
from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.trace import CropTrace, PruningTrace, ToolCallTrace, TurnTrace
from lmms_awares.views import ViewPlan


@dataclass(frozen=True)
class Decoding:
    """How to decode an answer; from the task's `generation_kwargs`."""

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
        except (TypeError, ValueError):
            raise ConfigError(f"gen_kwargs {kwargs} hold a value that is no number") from None
        if decoding.max_new_tokens < 1 or decoding.temperature < 0 or decoding.top_k < 0 or not 0 < decoding.top_p <= 1:
            raise ConfigError(
                "gen_kwargs need max_new_tokens >= 1, temperature >= 0, 0 < top_p <= 1 and top_k >= 0, "
                f"got {asdict(decoding)}"
            )
        return decoding


@dataclass(frozen=True)
class Address:
    """Where a sample comes from."""

    task: str
    split: str
    doc_id: int
    repeat: int = 0  # of sampled generations of the same document (lmms-eval's --repeats)


@dataclass(frozen=True)
class Sample:
    """A sample ready for generation.

    Attributes:
        images: RGB originals.
        plans: one per image.
        prompt: turn 1, tokenised with its views.
        request: crops that a control policy asks for, () for a direct answer; None where the model decides.
        preprocess_s: loading, resizing and tokenising, seconds.
    """

    at: Address
    images: list[Image.Image]
    plans: list[ViewPlan]
    prompt: Segment
    request: tuple[str, ...] | None
    decoding: Decoding
    preprocess_s: float


@dataclass
class Outcome:
    """What a model made of a sample. Token counts are visual tokens; times are seconds."""

    answer: str
    visual_tokens: int | float
    turns: list[TurnTrace]
    latency_s: float
    truncated: bool
    input_tokens: int
    visual_tokens_processed: int | float
    pruning: PruningTrace | None = None
    tool_call: ToolCallTrace | None = None
    crops: list[CropTrace] = field(default_factory=list)


def check_grids(segment: Segment, expected: Sequence[int]) -> None:
    """Compare the processor's grids with the planned token counts.

    Raises:
        RuntimeError: they differ, so the installed transformers counts otherwise than this plugin.
    """
    found = list(segment.visual_tokens)
    if found != list(expected):
        raise RuntimeError(f"planned {list(expected)} visual tokens, the image processor made {found}")


def check_context(tokens: int, context: int) -> None:
    """Refuse a conversation that is longer than what the model was made for: it would answer, but nonsense.

    Args:
        tokens: of all turns before the next reply, images included as the views show them, before any pruning.
        context: `max_position_embeddings`.

    Raises:
        SampleError: it is too long.
    """
    if tokens > context:
        raise SampleError(
            f"its prompt of {tokens} tokens is longer than the model's context of {context}; where its images are what "
            "is long, a lower max_pixels helps"
        )


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
