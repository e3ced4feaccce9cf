"""AwaRes' protocol and our wording of it. Its tool call, `GET_CROPS: ['0', '5']`, stands alone in the first reply."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lmms_awares.crops import CROPS, check_ids
from lmms_awares.protocol.base import Part, Status, ToolProtocol

TOOL_NAME = "GET_CROPS"
CALL_BUDGET = 64  # new tokens within which a tool call must stand, whatever the task's limit

_QUOTED = "|".join(f"'{id}'" for id in CROPS)
_CANONICAL = re.compile(rf"{TOOL_NAME}: \[(?:{_QUOTED})(?:, (?:{_QUOTED}))*\]")
# With an underscore or hyphen (or glued) the words are the tool's name; with a blank they are plain English unless
# a list follows at once. Blanks are bounded so that long runs of them cost linear time.
ATTEMPT = r"(?i:(?<![A-Za-z0-9])GET(?:\\?[_-]?CROPS?(?![A-Za-z0-9])|\s{1,8}CROPS?\s{0,8}:?\s{0,8}(?=\[)))"
"""Pattern of the tool's name, in text whose full-width letters are folded."""
_ATTEMPT = re.compile(ATTEMPT)
_OPENING = re.compile(r"[\s:=*`\"']{0,16}([\[({])?")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
# Two-word names first, since each of their words is a name too. A digit in a number, as in 0.5 or 42, is no id.
_KNOWN = r"(?:top|bottom)[ _-]?(?:left|right)|all|center|top|bottom|left|right|(?<![\w.-])[0-8](?!\.?\w)"
_ID = re.compile(rf"(?<![A-Za-z-])(?:{_KNOWN})(?![A-Za-z])", re.IGNORECASE)
_LEADING = re.compile(
    rf"[\s\"'`]*(?:{_KNOWN})(?![A-Za-z])(?:[\s\"'`]*[,;/、،|][\s\"'`]*(?:{_KNOWN})(?![A-Za-z]))*", re.IGNORECASE
)
_IDS_BY_NAME = {re.sub("[ _-]", "", crop.name): crop.id for crop in CROPS.values()} | {id: id for id in CROPS}
_LONGEST_LIST = 300  # characters; ten crop names with quotes take about 140


@dataclass(frozen=True)
class ToolCall:
    """A tool call as it was read from a reply.

    Attributes:
        ids: crop ids in the order asked, duplicates dropped; empty iff `status` is `invalid`.
        status: `valid` (the exact grammar), `recovered` (known ids could be taken out), `invalid` (a call was
            attempted but nothing in it is usable).
        text: the part of the reply from the tool's name to the end of its list.
        note: what else is to be said about it.
    """

    ids: tuple[str, ...]
    status: Status
    text: str
    note: str | None = None


def format_call(ids: Iterable[str]) -> str:
    """Return the canonical call for crop ids.

    Raises:
        ValueError: no id, or an unknown one.

    Example:
        >>> format_call(("0", "5"))
        "GET_CROPS: ['0', '5']"
    """
    return f"{TOOL_NAME}: [{', '.join(repr(id) for id in check_ids(ids))}]"


def parse_reply(text: str) -> ToolCall | None:
    """Return the tool call in an assistant's reply, or None where the reply attempts none. Never raises.

    Where a reply attempts several calls, the first usable one counts.

    Example:
        >>> call = parse_reply("I will call get_crops(top-left, center)")
        >>> call.ids, call.status, call.text
        (('0', '4'), 'recovered', 'get_crops(top-left, center)')
    """
    if _CANONICAL.fullmatch(text.strip()):
        return ToolCall(tuple(dict.fromkeys(re.findall(r"'(\w+)'", text))), "valid", text.strip())
    folded = fold(text)
    first: ToolCall | None = None
    for attempt in _ATTEMPT.finditer(folded):
        ids, end = _read_ids(folded, attempt.end())
        call = ToolCall(ids, "recovered" if ids else "invalid", folded[attempt.start() : end].strip())
        if ids:
            return call
        first = first or call
    return first


_REGIONS = ", ".join("all the whole image" if c.id == "all" else f"{c.id} {c.name}" for c in CROPS.values())
OWN_PROMPT: str = (
    "The picture you are shown is a reduced-resolution view of a sharper original. "
    "Where this view is enough, give the answer straight away. Where a detail that decides the answer is too small "
    "to make out, let your whole reply be one tool call with nothing around it, written like this:\n"
    f"{format_call(('0', '5'))}\nThe regions you list then arrive at full resolution, and you answer from them. "
    "You may call at most once, so list every region you need, but as little of the picture as will do.\n"
    f"Regions, each as id and name: {_REGIONS}."
)


class GetCrops(ToolProtocol[ToolCall]):
    """AwaRes' protocol (paper section 3.1): a call is answered by a user turn that holds the crops and no text.

    Example:
        >>> call = GetCrops().read("GET_CROPS: ['0', '5']")
        >>> call.ids
        ('0', '5')
        >>> GetCrops().respond(call, images=2)
        [{'type': 'image'}, {'type': 'image'}]
    """

    own: ClassVar[Mapping[str, str]] = {"system": OWN_PROMPT}

    @property
    def keep(self) -> int:
        """`CALL_BUDGET`, whatever the task's limit."""
        return CALL_BUDGET

    def read(self, reply: str) -> ToolCall | None:
        """Read the call as `parse_reply` does."""
        return parse_reply(reply)

    def respond(self, call: ToolCall, images: int) -> list[Part]:
        """Return the turn with the crops, in the order asked."""
        return [{"type": "image"}] * images


def fold(text: str) -> str:
    """Convert full-width letters, digits, brackets and colons, as multilingual models write them, to plain ones.

    Character by character: over a whole string NFKC takes quadratic time in runs of combining marks.
    """
    if text.isascii():
        return text
    return "".join(unicodedata.normalize("NFKC", character) for character in text).translate(
        str.maketrans("【】〔〕‘’“”", "[][]''\"\"")
    )


def _read_ids(text: str, start: int) -> tuple[tuple[str, ...], int]:
    """Return the known ids behind the tool's name at `start`, and the position where their list ends."""
    opening = _OPENING.match(text, start)
    assert opening is not None  # the pattern matches the empty string
    body = text[opening.end() : opening.end() + _LONGEST_LIST]
    length = _closing(body, opening.group(1)) if opening.group(1) else None
    if length is None:
        # No list, or one that is never closed: only what stands in front, separated as a list is.
        leading = _LEADING.match(body)
        length = leading.end() if leading else 0
    ids = (_IDS_BY_NAME[re.sub("[ _-]", "", found.lower())] for found in _ID.findall(body[:length].replace("_", " ")))
    return tuple(dict.fromkeys(ids)), opening.end() + length


def _closing(body: str, opened: str) -> int | None:
    """Return the length of `body` up to and with the bracket that closes `opened`; None where it stays open."""
    depth = 1
    for position, character in enumerate(body):
        depth += (character == opened) - (character == _BRACKETS[opened])
        if depth == 0:
            return position + 1
    return None
