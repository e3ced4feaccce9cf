"""ERGO's protocol: the first reply names one box, the second turn shows it; without a usable one the whole image.

Parsing and mapping follow the authors' code, src/ergo/utils.py in nota-github/ERGO at c6d6742; what it does with each
box is recorded in tests/data/boxes. Text only, no torch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from lmms_awares.crops import Box
from lmms_awares.protocol.base import Part, words_of
from lmms_awares.protocol.boxes import BoxCall, BoxProtocol, clamped_note, lost, named, placed, read_as, unusable
from lmms_awares.tokens import budget_size
from lmms_awares.views import Size, ViewPlan

ROUND_TOKENS = 1024  # new tokens per round, whatever the task's limit
MAX_VISION_TOKENS = 1280  # of the first view, and of a crop

_ZOOM = re.compile(r"<zoom>(.*?)</zoom>", re.DOTALL)
_BOX = re.compile(r"\[\d+,\s*\d+,\s*\d+,\s*\d+\]")


def format_call(corners: Sequence[int]) -> str:
    """Return the canonical call for a box in px of the view, (left, top, right, bottom).

    Example:
        >>> format_call((10, 20, 150, 160))
        '<zoom>[10, 20, 150, 160]</zoom>'
    """
    return f"<zoom>[{', '.join(map(str, corners))}]</zoom>"


def parse_reply(text: str) -> BoxCall:
    """Return the call in a first reply, not yet placed; an unusable one where it names no box. Never raises.

    As in the authors' code: the first closed pair of tags must hold exactly one box of unsigned whole numbers.
    """
    if "</zoom>" not in text or (found := _ZOOM.search(text)) is None:
        return unusable("", "the reply names no box in <zoom></zoom>")
    boxes = _BOX.findall(found[1])
    if len(boxes) != 1:
        return unusable(found[0], f"<zoom></zoom> holds {len(boxes)} boxes of four whole numbers, not one")
    try:
        return read_as(found[0], [int(number) for number in boxes[0].strip("[]").split(",")])
    except ValueError:  # more digits than Python reads
        return unusable(found[0], "<zoom></zoom> holds a number of too many digits")


def locate(numbers: Sequence[float], view: Size, size: Size) -> Box:
    """Return the px of the original image that a box of the view means, clamped to the image.

    Args:
        numbers: left, top, right, bottom in px of the view.
        view, size: (width, height) of view and image in px.

    Raises:
        ValueError, OverflowError: an inverted box, or a number that no float holds.

    Example:
        >>> locate((161, 119, 483, 9999), (644, 476), (640, 480))
        (160, 120, 480, 480)
    """
    scales = (size[0] / view[0], size[1] / view[1]) * 2
    left, top, right, bottom = (
        int(max(0, min(number * scale, side))) for number, scale, side in zip(numbers, scales, size * 2, strict=True)
    )
    if right < left or bottom < top:
        raise ValueError("it is inverted")
    return left, top, right, bottom


# Our own words for the facts that the authors' prompts state.
OWN_PROMPTS: dict[str, str] = {
    "system": (
        "A question about a picture comes in two steps. First you name the one box of the picture that shows all that "
        "the answer needs; it is cut out of the original and shown to you, sharper. Then you answer."
    ),
    "turn1": (
        "{Question}\nDo not answer yet. Think inside <think></think> about where to look, then give the box, left, "
        "top, right and bottom in whole pixels of this picture, like this: "
        f"{format_call((10, 20, 150, 160))}"
    ),
    "turn2": (
        "{Question}\nThis picture is the box that you named. Think inside <think></think>, with both pictures in mind, "
        "then answer inside <answer></answer>."
    ),
}


class Ergo(BoxProtocol):
    """ERGO's protocol; see docs/methods/ergo.md.

    Args:
        prompts: by part; `turn1` and `turn2` hold `{Question}` for the task's words. Default: our own.

    Example:
        >>> Ergo().read("<zoom>[10, 20, 150, 160]</zoom>").numbers
        (10, 20, 150, 160)
    """

    own: ClassVar[Mapping[str, str]] = OWN_PROMPTS

    def __init__(self, prompts: Mapping[str, str] = OWN_PROMPTS) -> None:
        self._prompts = prompts

    @property
    def keep(self) -> int:
        """All of the first reply."""
        return ROUND_TOKENS

    def opening(self, content: Sequence[Part]) -> list[Part]:
        """Return the image, then the task's words inside the first turn's."""
        images = [part for part in content if part["type"] != "text"]
        return [*images, self._asking("turn1", words_of(content))]

    def read(self, reply: str) -> BoxCall:
        """Read the call as `parse_reply` does; every reply is one."""
        return parse_reply(reply)

    def place(self, call: BoxCall, plan: ViewPlan) -> BoxCall:
        """Find the box in the original image; without one that can be cut out the call is unusable.

        A box without width or without height is shown where the authors' code shows it: as a black strip.
        """
        if not call.numbers:
            return call
        view = plan.first_size
        try:
            box = locate(call.numbers, view, (plan.width, plan.height))
            sides = box[2] - box[0], box[3] - box[1]
            # Where the authors' resizing fails, so does theirs of the whole sample.
            budget_size(*sides, plan.min_pixels, plan.budget or plan.max_pixels, token_side=plan.token_side)
        except (ValueError, OverflowError):
            return unusable(call.text, lost(call, view))
        found = placed(call, box, plan, clamped_note(call, view))
        if 0 in sides and found.box is not None:
            return replace(found, note=f"{named(call)} shows nothing of the image: a black strip")
        return found

    def write(self, corners: Sequence[int]) -> str:
        """Write the call as `format_call` does."""
        return format_call(corners)

    def respond(self, call: BoxCall, images: int, question: str = "") -> list[Part]:
        """Return the turn with the images, then the task's words inside the second turn's."""
        return [*([{"type": "image"}] * images), self._asking("turn2", question)]

    def answer(self, replies: Sequence[str]) -> str:
        """Return the text in the first `<answer>` of the last reply; all of that reply where it is empty or missing."""
        inside = "".join(replies[-1].split("<answer>")[1:2]).partition("</answer>")[0].strip()
        return inside or replies[-1].strip()

    def _asking(self, part: str, question: str) -> Part:
        return {"type": "text", "text": self._prompts[part].format(Question=question)}
