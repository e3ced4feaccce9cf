"""Messages as a server takes them: images as data URLs, lossless and of exactly the view's size."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from lmms_awares.engine.turns import Message
from lmms_awares.views import View


def as_sent(messages: Sequence[Message], views: Sequence[View]) -> list[Message]:
    """Messages in OpenAI's form: each image part becomes the next view, as a lossless PNG of exactly its size."""
    waiting = iter(views)

    def part(of: dict[str, Any]) -> dict[str, Any]:
        if of["type"] == "text":
            return {"type": "text", "text": of["text"]}
        return {"type": "image_url", "image_url": {"url": as_png_url(next(waiting).image)}}

    return [{"role": m["role"], "content": _content(m, [part(of) for of in parts_of(m)])} for m in messages]


def parts_of(message: Message) -> list[dict[str, Any]]:
    """Return a message's content as parts."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _content(message: Message, parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """An assistant's content as plain text, which every server takes."""
    return "".join(part["text"] for part in parts) if message["role"] == "assistant" else parts


def as_png_url(image: Image.Image) -> str:
    """An image as a data URL; compressed a little, since encoding takes longer than sending."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
