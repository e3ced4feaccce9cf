"""Calls for one box of any place and size, in px of the first view: what the protocols with such calls share."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmms_awares.crops import FreeBox
from lmms_awares.protocol.base import ToolProtocol
from lmms_awares.protocol.get_crops import ToolCall
from lmms_awares.views import Size, ViewPlan

BOX = "box"  # stands where a call of the ten crops has ids


@dataclass(frozen=True)
class BoxCall(ToolCall):
    """A call for a box, as it was read; `BoxProtocol.place` says what it is of an image.

    Attributes:
        numbers: left, top, right, bottom as written; empty where there are none.
        box: px of the original image, which it may leave; None until it is placed, and where it cannot be shown.
        note: why it cannot be shown, in one line, or what was done to its box.
    """

    numbers: tuple[float, ...] = ()
    box: FreeBox | None = None


def unusable(text: str, note: str) -> BoxCall:
    """Return a call that cannot be executed."""
    return BoxCall((), "invalid", text, note=note)


def read_as(text: str, numbers: Sequence[float], *, exact: bool = True) -> BoxCall:
    """Return a call whose box is still to be placed."""
    return BoxCall((), "valid" if exact else "recovered", text, numbers=tuple(numbers))


class BoxProtocol(ToolProtocol[BoxCall]):
    """A protocol whose calls are for one box."""

    @abstractmethod
    def place(self, call: BoxCall, plan: ViewPlan) -> BoxCall:
        """Return the call with its box in px of the original image; `invalid` where there is none. Never raises."""

    @abstractmethod
    def write(self, corners: Sequence[int]) -> str:
        """Return the canonical call for a box in whole px of the first view."""


def placed(call: BoxCall, box: FreeBox, plan: ViewPlan, note: str | None = None) -> BoxCall:
    """Return the call with its box, or an unusable one where the image processor would refuse what it shows."""
    try:
        plan.crop_tokens(box)
    except ValueError as error:
        return unusable(call.text, f"{named(call)} cannot be shown: {error}")
    return replace(call, ids=(BOX,), box=box, note=note)


def named(call: BoxCall) -> str:
    """Name a call's box for a message, as the call has it.

    Example:
        >>> named(read_as("", (0.5, 0, 20, 10**30)))
        'box [0.5, 0, 20, 1e+30]'
    """
    return f"box [{', '.join(map(_short, call.numbers))}]"


def _short(number: float) -> str:
    try:
        return f"{number:.7g}"
    except OverflowError:  # an integer that no float holds
        return "inf"


def lost(call: BoxCall, view: Size) -> str:
    """Say why nothing of a call's box lies in the view."""
    left, top, right, bottom = call.numbers
    if left > right or top > bottom:
        return f"{named(call)} is inverted"
    if not (left < right and top < bottom):  # also NaN
        return f"{named(call)} has no area"
    return f"{named(call)} lies outside the view of {view[0]}x{view[1]} px"


def clamped_note(call: BoxCall, view: Size) -> str | None:
    """Say that a call's box leaves the view and was clamped to it; None where it does not."""
    left, top, right, bottom = call.numbers
    if left >= 0 and top >= 0 and right <= view[0] and bottom <= view[1]:
        return None
    return f"{named(call)} was clamped to the view of {view[0]}x{view[1]} px"


def scaled(box: FreeBox, across: float, down: float) -> FreeBox:
    """Return a box in another unit."""
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def in_view(box: FreeBox, plan: ViewPlan) -> tuple[int, int, int, int]:
    """Return the px of the first view that hold a box of the original image.

    Example:
        >>> from lmms_awares.views import plan_views
        >>> in_view((100, 100, 301, 200), plan_views(644, 476))
        (52, 47, 158, 95)
    """
    width, height = plan.first_size
    left, top, right, bottom = scaled(box, width / plan.width, height / plan.height)
    return math.floor(left), math.floor(top), min(width, math.ceil(right)), min(height, math.ceil(bottom))
