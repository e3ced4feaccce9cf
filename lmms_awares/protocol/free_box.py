"""AwaRes' turns with a box of any place and size in the call: `GET_CROPS: [120, 40, 360, 200]`. Text only, no torch."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from lmms_awares.protocol.boxes import BoxCall, clamped_note, lost, placed, read_as, scaled, unusable
from lmms_awares.protocol.get_crops import ATTEMPT, TOOL_NAME, GetCrops, fold
from lmms_awares.views import ViewPlan

_CANONICAL = re.compile(rf"{TOOL_NAME}: \[(\d{{1,6}}(?:, \d{{1,6}}){{3}})\]")
_ATTEMPT = re.compile(ATTEMPT)
_NUMBER = r"-?\d{1,6}(?:\.\d{1,6})?"
_FOUR = re.compile(rf"[\s:=*`\"'\[({{]{{0,16}}({_NUMBER}(?:[\s,;]{{1,4}}{_NUMBER}){{3}})(?![\d.]|[\s,;]{{1,4}}-?\d)")


def format_call(corners: Sequence[int]) -> str:
    """Return the canonical call for a box in whole px of the view, (left, top, right, bottom).

    Example:
        >>> format_call((120, 40, 360, 200))
        'GET_CROPS: [120, 40, 360, 200]'
    """
    return f"{TOOL_NAME}: [{', '.join(map(str, corners))}]"


def parse_reply(text: str) -> BoxCall | None:
    """Return the call in a first reply, not yet placed; None where the reply attempts none. Never raises.

    `valid` is the canonical call alone. Elsewhere four numbers behind the tool's name are `recovered`; of several calls
    the first usable one counts.

    Example:
        >>> parse_reply("I call get_crops(10.5 20 30 40)").numbers
        (10.5, 20.0, 30.0, 40.0)
    """
    if canonical := _CANONICAL.fullmatch(text.strip()):
        return read_as(text.strip(), [int(number) for number in canonical[1].split(",")])
    folded, first = fold(text), None
    for attempt in _ATTEMPT.finditer(folded):
        if found := _FOUR.match(folded, attempt.end()):
            said = folded[attempt.start() : found.end()]
            return read_as(said, [float(number) for number in re.findall(_NUMBER, found[1])], exact=False)
        first = first or unusable(attempt[0], "the call names no box of four numbers")
    return first


OWN_PROMPT: str = (
    "The picture you are shown is a reduced-resolution view of a sharper original. "
    "Where this view is enough, give the answer straight away. Where a detail that decides the answer is too small "
    "to make out, let your whole reply be one tool call with nothing around it, written like this:\n"
    f"{format_call((120, 40, 360, 200))}\n"
    "The numbers are left, top, right and bottom of a box, in whole pixels of the view. That part then arrives at full "
    "resolution, and you answer from it. You may call at most once, so let the box hold all you need, but as little of "
    "the picture as will do."
)


class FreeBox(GetCrops):
    """The protocol of `awares` with `boxes=free`: as `GetCrops`, but for what the call names.

    Example:
        >>> FreeBox().read("GET_CROPS: [120, 40, 360, 200]").numbers
        (120, 40, 360, 200)
    """

    own: ClassVar[Mapping[str, str]] = {"system": OWN_PROMPT}

    def read(self, reply: str) -> BoxCall | None:
        """Read the call as `parse_reply` does."""
        return parse_reply(reply)

    def place(self, call: BoxCall, plan: ViewPlan) -> BoxCall:
        """Clamp the box to the view; one of which nothing is left is unusable. A clamped call is `recovered`."""
        if not call.numbers:
            return call
        (left, top, right, bottom), (width, height) = call.numbers, plan.first_size
        box = max(0, left), max(0, top), min(width, right), min(height, bottom)
        if not (box[0] < box[2] and box[1] < box[3]):
            return unusable(call.text, lost(call, plan.first_size))
        if note := clamped_note(call, plan.first_size):
            call = read_as(call.text, call.numbers, exact=False)
        return placed(call, scaled(box, plan.width / width, plan.height / height), plan, note)

    def write(self, corners: Sequence[int]) -> str:
        """Write the call as `format_call` does."""
        return format_call(corners)
