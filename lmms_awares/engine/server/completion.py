"""A reply as it comes, piece by piece. Nothing that a server sends is taken for what it should be."""

import json
from dataclasses import dataclass

from openai.types.chat import ChatCompletionChunk

_MOST = 2**31  # no count nor id is as large


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
        chunk: as the client hands it over, which looks at nothing in it; what engines add to the OpenAI fields is read
            too.
        seconds: since the request.

    Raises:
        ValueError: JSON of another form.
    """
    try:
        _read(completion, chunk, seconds)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"no chat completion ({error})") from None


def _read(completion: Completion, chunk: ChatCompletionChunk, seconds: float) -> None:
    for choice in chunk.choices or ():
        if completion.first_s is None and choice.delta is not None and (choice.delta.content or choice.finish_reason):
            completion.first_s = seconds
        completion.text += _text((choice.delta.content if choice.delta else None) or "")
        completion.finish = choice.finish_reason or completion.finish
        ids = (choice.model_extra or {}).get("token_ids")
        if ids is not None:
            completion.ids = [*(completion.ids or []), *map(_count, ids)]
    if chunk.usage is not None:
        completion.prompt_tokens = _told(chunk.usage.prompt_tokens)
        completion.new_tokens = _told(chunk.usage.completion_tokens)
        details = chunk.usage.prompt_tokens_details
        if details is not None:
            completion.cached_tokens = _told(details.cached_tokens)
            if (completion.cached_tokens or 0) > (completion.prompt_tokens or _MOST):
                raise ValueError(f"{completion.cached_tokens} cached tokens of {completion.prompt_tokens}")
            completion.image_tokens = _told(((details.model_extra or {}).get("multimodal_tokens") or {}).get("image"))


def _told(count: object) -> int | None:
    return None if count is None else _count(count)


def _count(number: object) -> int:
    """A count or an id.

    Raises:
        ValueError: it is none.
    """
    if type(number) is not int or not 0 <= number < _MOST:
        raise ValueError(f"{number!r} is no count")
    return number


def _text(said: str) -> str:
    """What can be written to a file: half a pair of surrogates, as some servers cut them, is replaced."""
    return said.encode("utf-8", "replace").decode()


def read_whole(completion: Completion, body: bytes) -> None:
    """Fill a completion from a reply that came as a whole: text, end and usage.

    Args:
        body: JSON. What is no completion leaves `finish` at None.

    Raises:
        ValueError: no JSON, or JSON of another form.
    """
    try:
        said = json.loads(body)
    except RecursionError:
        raise ValueError("no chat completion (JSON too deep)") from None
    match said:
        case {"choices": [{"message": {"content": str() | None as text}, "finish_reason": str(finish)}, *_]}:
            completion.text, completion.finish = _text(text or ""), finish
    match said:
        case {"usage": {"prompt_tokens": prompt, "completion_tokens": new}}:
            completion.prompt_tokens, completion.new_tokens = _told(prompt), _told(new)
