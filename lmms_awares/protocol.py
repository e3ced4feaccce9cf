"""The tool call of the two-turn protocol: `GET_CROPS: ['0', '5']`, alone in the first assistant turn."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lmms_awares.crops import CROPS, check_ids

TOOL_NAME = "GET_CROPS"
CALL_BUDGET = 64  # new tokens within which a tool call must stand, whatever the task's limit

Status = Literal["valid", "recovered", "invalid"]

_ID = "|".join(f"'{id}'" for id in CROPS)
_CANONICAL = re.compile(rf"{TOOL_NAME}: \[(?:{_ID})(?:, (?:{_ID}))*\]")
# With an underscore or hyphen (or glued) the words are the tool's name; with a blank they are plain English unless
# a list follows at once.
_ATTEMPT = re.compile(r"(?<![A-Za-z0-9])GET(?:[_-]?CROPS?(?![A-Za-z0-9])|\s+CROPS?\s*:?\s*(?=\[))", re.IGNORECASE)
_OPENING = re.compile(r"[\s:*`]*([\[({])?")
_NAMES = {crop.name: crop.id for crop in CROPS.values()} | {id: id for id in CROPS}
_LONGEST_LIST = 300  # characters; ten crop names with quotes take about 140


@dataclass(frozen=True)
class ToolCall:
    """What a reply asked for.

    Attributes:
        ids: crop ids in the order asked, duplicates dropped; empty iff `status` is `invalid`.
        status: `valid` (the exact grammar), `recovered` (known ids could be taken out), `invalid` (a call was
            attempted but nothing in it is usable).
        text: the part of the reply from the tool's name to the end of its list.
    """

    ids: tuple[str, ...]
    status: Status
    text: str


def format_call(ids: Iterable[str]) -> str:
    """The canonical call, e.g. `GET_CROPS: ['0', '5']`.

    Raises:
        ValueError: no id, or an unknown one.
    """
    return f"{TOOL_NAME}: [{', '.join(repr(id) for id in check_ids(ids))}]"


def parse_reply(text: str) -> ToolCall | None:
    """The tool call in an assistant's reply, or None where no call is attempted. Never raises.

    Where a reply attempts several calls, the first usable one counts.
    """
    if _CANONICAL.fullmatch(text.strip()):
        return ToolCall(tuple(dict.fromkeys(re.findall(r"'(\w+)'", text))), "valid", text.strip())
    # NFKC folds full-width brackets, colons and digits, which multilingual models like to write.
    folded = unicodedata.normalize("NFKC", text)
    first: ToolCall | None = None
    for attempt in _ATTEMPT.finditer(folded):
        ids, end = _read_ids(folded, attempt.end())
        call = ToolCall(ids, "recovered" if ids else "invalid", folded[attempt.start() : end].strip())
        if ids:
            return call
        first = first or call
    return first


def _read_ids(text: str, start: int) -> tuple[tuple[str, ...], int]:
    """Known ids behind the tool's name at `start`, and where the list ends."""
    opening = _OPENING.match(text, start)
    assert opening is not None  # the pattern matches the empty string
    body = text[opening.end() : opening.end() + _LONGEST_LIST]
    closing = re.search(r"[\])}]", body)
    if opening.group(1) and closing:
        ids = [id for item in re.split(r"[,;/、|]", body[: closing.start()]) for id in _known(item)]
        return tuple(dict.fromkeys(ids)), opening.end() + closing.end()
    ids, length = _leading_ids(body)
    return tuple(dict.fromkeys(ids)), opening.end() + length


def _known(item: str) -> list[str]:
    """Ids in one item of a list: a whole name such as `top left`, else the known words in it."""
    bare = re.sub(r"[\s\"'`’‘“”<>.:]+", " ", item).strip().lower()
    whole = re.sub(r"[ _-]+", "-", bare)
    if whole in _NAMES:
        return [_NAMES[whole]]
    return [_NAMES[word] for word in bare.replace("_", "-").split() if word in _NAMES]


def _leading_ids(body: str) -> tuple[list[str], int]:
    """The run of ids with which an unclosed list starts; stops at the first word that is no id."""
    ids: list[str] = []
    end = 0
    for item in re.finditer(r"[\s,;\"'`]*(\w+(?:[-_ ](?:left|right))?)", body, re.IGNORECASE):
        if item.start() != end:
            break
        known = _NAMES.get(re.sub(r"[ _]", "-", item.group(1).lower()))
        if known is None:
            break
        ids.append(known)
        end = item.end()
    return ids, end
