"""A reply as it came, in pieces or as a whole."""

from dataclasses import dataclass
from typing import Any

from openai.types.chat import ChatCompletionChunk


@dataclass
class Completion:
    """A reply as it came.

    Attributes:
        text: special tokens left out.
        ids: generated ids, the end of turn included; None where the server does not tell.
        finish: `stop` at an end of turn, `length` at the limit.
        prompt_tokens, image_tokens, cached_tokens, new_tokens: as the server counts; None where it does not.
        first_s: from the request to the first piece of text.
        seconds: from the request to its end; of the last attempt, without waiting for a place or a repetition.
    """

    text: str = ""
    ids: list[int] | None = None
    finish: str | None = None
    prompt_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens: int | None = None
    new_tokens: int | None = None
    first_s: float | None = None
    seconds: float = 0.0


def read_chunk(completion: Completion, chunk: ChatCompletionChunk, seconds: float) -> None:
    """Add one piece of a stream to a completion.

    Args:
        chunk: what engines add to the OpenAI fields is read too.
        seconds: since the request.
    """
    for choice in chunk.choices or ():
        if completion.first_s is None and choice.delta is not None and (choice.delta.content or choice.finish_reason):
            completion.first_s = seconds
        completion.text += (choice.delta.content if choice.delta else None) or ""
        completion.finish = choice.finish_reason or completion.finish
        ids = (choice.model_extra or {}).get("token_ids")
        if ids is not None:
            completion.ids = [*(completion.ids or []), *ids]
    if chunk.usage is not None:
        completion.prompt_tokens = chunk.usage.prompt_tokens
        completion.new_tokens = chunk.usage.completion_tokens
        details = chunk.usage.prompt_tokens_details
        if details is not None:
            completion.cached_tokens = details.cached_tokens
            completion.image_tokens = ((details.model_extra or {}).get("multimodal_tokens") or {}).get("image")


def read_whole(completion: Completion, said: Any) -> None:
    """Fill a completion from a reply that came as a whole.

    Args:
        said: its JSON. Of text, end and usage; what is no completion leaves `finish` at None.
    """
    match said:
        case {"choices": [{"message": {"content": str() | None as text}, "finish_reason": str(finish)}, *_]}:
            completion.text, completion.finish = text or "", finish
    match said:
        case {"usage": {"prompt_tokens": int(prompt), "completion_tokens": int(new)}}:
            completion.prompt_tokens, completion.new_tokens = prompt, new
