"""AdaptVision's protocol: VisionThink's turns, but the call asks for one box, and the answer to it is that crop.

Parsing and clamping follow the authors' adapter, scripts/vllm_adaptvision.py in AdaptVision/AdaptVision at 9b7d57c;
what it does with each box is recorded in tests/data/boxes. Text only, no torch.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from lmms_awares.crops import FreeBox
from lmms_awares.protocol.boxes import (
    BoxCall,
    BoxProtocol,
    clamped_note,
    lost,
    named,
    placed,
    read_as,
    scaled,
    unusable,
)
from lmms_awares.protocol.visionthink import Thinking, call_blocks, call_objects
from lmms_awares.views import Size, ViewPlan

TOOL_NAME = "request_local_region"
ROUND_TOKENS = 1600  # new tokens per round, whatever the task's limit
FACTOR = 2  # of the view's px to those that boxes are clamped in
MAX_ASPECT = 200
BoxMap = Literal["ratio", "double"]
_CANNOT_BE_READ = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def format_call(corners: Sequence[float]) -> str:
    """Return the canonical call for a box in px of the view, (left, top, right, bottom).

    Example:
        >>> format_call((10, 20, 150, 160)).splitlines()[1]
        '{"name": "request_local_region", "arguments": {"bbox_2d": [10, 20, 150, 160]}}'
    """
    call = json.dumps({"name": TOOL_NAME, "arguments": {"bbox_2d": list(corners)}})
    return f"<tool_call>\n{call}\n</tool_call>"


def parse_reply(text: str) -> BoxCall | None:
    """Return the call in a first reply, not yet placed; None where the reply holds no closed block. Never raises.

    As in the authors' adapter, in two stages. All blocks together must hold exactly one object, on one line and ending
    in `}}`, of the tool's name, with four numbers in order; and the first block as a whole must be a call's JSON: its
    box counts.
    """
    blocks = call_blocks(text)
    if not blocks:
        return None
    whole = "\n".join(block[0] for block in blocks)
    try:
        _check([json.loads(found) for found in call_objects(blocks)])
    except _CANNOT_BE_READ as failure:
        return unusable(whole, str(failure))
    try:
        call = json.loads(blocks[0][1].strip())
        numbers = call["arguments"]["bbox_2d"] if "name" in call else ()
        _require_numbers(numbers)
    except _CANNOT_BE_READ:
        return unusable(whole, "The first block is not one call and nothing else.")
    return read_as(whole, numbers)


def _check(calls: Sequence[dict[str, Any]]) -> None:
    """Refuse calls that cannot be executed; the error's text is shown to the model."""
    if len(calls) != 1:
        raise ValueError(f"One call of {TOOL_NAME} was expected, found {len(calls)}.")
    if calls[0].get("name") != TOOL_NAME:
        raise ValueError(f"The only tool is {TOOL_NAME}.")
    numbers = calls[0].get("arguments", {}).get("bbox_2d")
    _require_numbers(numbers)
    left, top, right, bottom = numbers
    if not (right > left and bottom > top):
        raise ValueError(f"{lost(read_as('', numbers), (0, 0))}; x1 < x2 and y1 < y2 are needed.")


def _require_numbers(numbers: Any) -> None:
    if not (len(numbers) == 4 and all(isinstance(number, int | float) for number in numbers)):
        raise ValueError("A box has four numbers: x1, y1, x2, y2.")


def clamp(numbers: Sequence[float], view: Size) -> tuple[int, int, int, int]:
    """Return a box in px of the doubled view, clamped to it as in the authors' adapter.

    Args:
        numbers: left, top, right, bottom in px of the view.
        view: (width, height) of the view in px.

    Raises:
        ValueError, OverflowError: nothing is left of it, or too thin a strip.

    Example:
        >>> clamp((77.3, 63, 231, 1000), (308, 252))
        (154, 126, 462, 504)
    """
    width, height = view[0] * FACTOR, view[1] * FACTOR
    left, top, right, bottom = (
        max(0, min(int(number * FACTOR), side))
        for number, side in zip(numbers, (width, height, width, height), strict=True)
    )
    if right <= left or bottom <= top:
        raise ValueError("nothing of it lies in the view")
    sides = right - left, bottom - top
    if max(sides) / min(sides) > MAX_ASPECT:
        raise ValueError(f"its sides' ratio is above {MAX_ASPECT}")
    return left, top, right, bottom


# Our own words for the facts that the authors' prompts state.
OWN_PROMPTS: dict[str, str] = {
    "system": (
        "You see a picture at half its width and height. Think first, inside <think></think>. Then answer inside "
        "<answer></answer>, a number or an option's letter in \\boxed{}. Or, where a detail that decides the answer is "
        "too small to make out, call the tool, once, with the box around it, left, top, right and bottom in pixels of "
        f"the picture that you see, and you are shown that part sharper:\n{format_call((10, 20, 150, 160))}"
    ),
    "turn2": (
        "This is the part that you asked for. Think inside <think></think>, with both pictures and the question in "
        "mind, then answer inside <answer></answer>."
    ),
    "error": (  # stands right behind the error's own text
        "\nThe tool could not be run, for the reason above. Think inside <think></think>, then answer from the picture "
        "that you have, inside <answer></answer>."
    ),
}


class AdaptVision(Thinking[BoxCall], BoxProtocol):
    """AdaptVision's protocol; see docs/methods/adaptvision.md.

    Args:
        prompts: as `Thinking`; default: our own.
        box_map: of a box to the full view: `ratio` scales each side by the views' ratio, `double` by 2, as the authors'
            adapter does; what it then has outside the full view is black.

    Example:
        >>> AdaptVision().read(AdaptVision().write((10, 20, 150, 160))).numbers
        (10, 20, 150, 160)
    """

    own: ClassVar[Mapping[str, str]] = OWN_PROMPTS

    def __init__(self, prompts: Mapping[str, str] = OWN_PROMPTS, box_map: BoxMap = "ratio") -> None:
        super().__init__(prompts)
        self._map = box_map

    @property
    def keep(self) -> int:
        """One less than `ROUND_TOKENS`: at the limit, the last token gives way to an end of turn."""
        return ROUND_TOKENS - 1

    def read(self, reply: str) -> BoxCall | None:
        """Read the call as `parse_reply` does."""
        return parse_reply(reply)

    def place(self, call: BoxCall, plan: ViewPlan) -> BoxCall:
        """Clamp the box as `clamp` does; an error where nothing is left of it."""
        if not call.numbers:
            return call
        view = plan.first_size
        try:
            box: FreeBox = clamp(call.numbers, view)
        except (ValueError, OverflowError) as error:  # the latter: infinity, which ends the authors' run
            return unusable(call.text, f"The {named(call)} cannot be shown: {error}.")
        base = plan.full_size if self._map == "double" else (FACTOR * view[0], FACTOR * view[1])
        of_original = scaled(box, plan.width / base[0], plan.height / base[1])
        return placed(call, of_original, plan, clamped_note(call, view))

    def write(self, corners: Sequence[int]) -> str:
        """Write the call as `format_call` does."""
        return format_call(corners)
