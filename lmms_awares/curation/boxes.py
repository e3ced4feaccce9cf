"""Boxes in an oracle's reply: JSON or a Python literal, alone or within text, in the shapes that VLMs write."""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmms_awares.curation.asking import BadReplyError, is_refusal

KINDS = ("question", "answer")
SCALE = 1000.0  # coordinates go from 0 to this, whatever the image's size
_LONGEST, _MOST = 20_000, 200  # characters of a reply that are read, and pairs of brackets
_BOX_KEYS = ("bbox_2d", "bbox", "box", "box_2d")
_LABEL_KEYS = ("label", "type", "name", "kind")
_PAIRS = {"}": "{", "]": "["}

Box = list[float]  # left, top, right, bottom
Boxes = Mapping[str, Sequence[Box]]  # by kind


def read_boxes(text: str, needed: Sequence[str] = ("answer",)) -> dict[str, list[Box]]:
    """Read an oracle's reply.

    Understood are `{"answer": box}` and `{"answer": [box, ...]}`, under keys that contain `question` or `answer`; and
    `{"bbox_2d": box, "label": "answer"}`, alone or in a list. A box is four numbers from 0 to 1000. Coordinates that
    all lie within 0..1 are on another scale, and refused rather than guessed.

    Args:
        needed: kinds without which the reply is bad; kinds: `KINDS`.

    Returns:
        boxes (left, top, right, bottom), 0..1000, of every kind, in the reply's order; none twice.

    Raises:
        BadReplyError: `empty reply`, `refusal`, `no boxes`, `not four numbers`, `outside 0..1000`,
            `coordinates in 0..1`, `inverted box`, `box without area`, `no answer box`, `no question box`.

    Example:
        >>> read_boxes('Here: {"answer": [10, 20, 30, 40]}')
        {'question': [], 'answer': [[10.0, 20.0, 30.0, 40.0]]}
    """
    if not text.strip():
        raise BadReplyError("empty reply")
    values = list(_literals(text[:_LONGEST]))
    found: dict[str, list[Box]] = {kind: [] for kind in KINDS}
    for kind, value in (pair for outer in values for pair in _walk(outer, None)):
        box = _checked(value)
        if box not in found[kind]:
            found[kind].append(box)
    if not any(found.values()):
        raise BadReplyError("refusal" if not values and is_refusal(text) else "no boxes")
    for kind in needed:
        if not found[kind]:
            raise BadReplyError(f"no {kind} box")
    return found


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them; what several boxes count as.

    Example:
        >>> hull([[0, 5, 10, 10], [5, 0, 20, 5]])
        [0, 0, 20, 10]
    """
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return [min(lefts), min(tops), max(rights), max(bottoms)]


def _literals(text: str) -> Iterator[Any]:
    """The outermost dicts and lists that can be read, in order."""
    end = 0
    for first, last in sorted(_bracketed(text))[:_MOST]:
        if first < end:
            continue  # within one that was read
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(text[first:last])
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
            end = last
            yield value
            break


def _bracketed(text: str) -> Iterator[tuple[int, int]]:
    """Spans from a bracket to the one that closes it."""
    open_at: list[int] = []
    for at, character in enumerate(text):
        if character in "{[":
            open_at.append(at)
        elif character in _PAIRS and open_at and text[open_at[-1]] == _PAIRS[character]:
            yield open_at.pop(), at + 1


def _walk(value: Any, kind: str | None) -> Iterator[tuple[str, Any]]:
    """What stands where a box of a kind is expected."""
    match value:
        case dict():
            kind = next((named for key in _LABEL_KEYS if (named := _kind(value.get(key)))), kind)
            for key, inner in value.items():
                yield from _walk(inner, kind if key in _BOX_KEYS else _kind(key) or kind)
        case [*items] if any(isinstance(item, dict | list | tuple) for item in items):
            for item in items:
                yield from _walk(item, kind)
        case [_, *_] if kind is not None:
            yield kind, value


def _kind(name: Any) -> str | None:
    """The one kind that a key or label speaks of."""
    named = [kind for kind in KINDS if kind in str(name).lower()]
    return named[0] if len(named) == 1 else None


def _checked(value: Sequence[Any]) -> Box:
    if len(value) != 4 or not all(isinstance(side, int | float) and not isinstance(side, bool) for side in value):
        raise BadReplyError("not four numbers")
    if not all(0 <= side <= SCALE for side in value):  # also refuses NaN
        raise BadReplyError("outside 0..1000")
    left, top, right, bottom = numbers = [float(side) for side in value]
    if left > right or top > bottom:
        raise BadReplyError("inverted box")
    if left == right or top == bottom:
        raise BadReplyError("box without area")
    if max(numbers) <= 1:
        raise BadReplyError("coordinates in 0..1")
    return numbers
