"""VisionThink's protocol: its tool call, its answer, and the turns around them. Text only, no torch.

Round 1 is `<think>…</think><answer>…</answer>` or `<think>…</think><tool_call>…</tool_call>`; the reply to a call is a
user turn with the original image, or with an error, and round 2 is the answer. Parsing follows the authors' adapter,
scripts/vllm_tool.py in dvlab-research/VisionThink at 42afd8c.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lmms_awares.protocol.base import AnyCall, Part, Status, ToolProtocol

TOOL_NAME = "resize_image"
ACTION = "resize"
ROUND_TOKENS = 8192  # new tokens per round, whatever the task's limit

# Where a closing tag or bracket is missing the second group is empty: one pass, whatever a model may repeat.
_BLOCK = re.compile(r"<tool_call>(.*?)(</tool_call>|\Z)", re.DOTALL)
_OBJECT = re.compile(r"\{.*?(\}\}|$)", re.MULTILINE)  # on one line, and closed twice in a row
_BOX = "\\boxed{"


@dataclass(frozen=True)
class ToolCall:
    """A tool call as it was read from a reply.

    Attributes:
        text: the reply's tool-call blocks.
        error: why the call cannot be executed; None for a call that shows the original image.
    """

    text: str
    error: str | None

    @property
    def ids(self) -> tuple[str, ...]:
        """`("all",)`, the whole image in the terms of AwaRes' protocol, or empty for an invalid call."""
        return ("all",) if self.error is None else ()

    @property
    def status(self) -> Status:
        """`valid` or `invalid`; there is one grammar, so nothing is recovered."""
        return "valid" if self.error is None else "invalid"

    @property
    def note(self) -> str | None:
        """The error."""
        return self.error


def format_call() -> str:
    """Return the canonical call, the only one that the tool accepts."""
    call = json.dumps({"name": TOOL_NAME, "arguments": {"action": ACTION}})
    return f"<tool_call>\n{call}\n</tool_call>"


def parse_reply(text: str) -> ToolCall | None:
    """Return the tool call in a first reply, or None where the reply holds none. Never raises.

    As in the authors' adapter: a block counts once it is closed; all blocks together must hold exactly one object,
    written on one line and ending in `}}`, whose `arguments.action` is `resize`; the tool's name is not looked at.
    """
    blocks = call_blocks(text)
    if not blocks:
        return None
    error = None
    try:
        _check([json.loads(found) for found in call_objects(blocks)])
    except (ValueError, LookupError, TypeError, RecursionError) as failure:
        error = str(failure)
    return ToolCall("\n".join(block[0] for block in blocks), error)


def call_blocks(text: str) -> list[re.Match[str]]:
    """Return the closed tool-call blocks of a reply; group 1 is what stands inside."""
    return [block for block in _BLOCK.finditer(text) if block[2]]


def call_objects(blocks: Sequence[re.Match[str]]) -> list[str]:
    """Return every shortest run from `{` to `}}` on one line of the blocks."""
    return [found[0] for block in blocks for found in _OBJECT.finditer(block[1]) if found[1]]


def _check(calls: Sequence[dict[str, Any]]) -> None:
    """Refuse calls that cannot be executed; the error's text is shown to the model."""
    actions = [call["arguments"]["action"] for call in calls]
    if any(action != ACTION for action in actions):
        raise ValueError(f"The only action of {TOOL_NAME} is {ACTION}.")
    if len(actions) != 1:
        raise ValueError(f"One call of {TOOL_NAME} was expected, found {len(actions)}.")


def final_answer(turns: Sequence[str]) -> str:
    """Return the final answer from a conversation's assistant turns, first to last, for tasks unaware of the protocol.

    The text inside the last `<answer>` of the last turn that has one; without any, the text behind the last turn's
    reasoning; without reasoning, all of the last turn. Tool calls are left out, and a `\boxed{}` around the whole is
    removed.

    Example:
        >>> final_answer(["<think>A sign.</think><answer>stop</answer>"])
        'stop'
    """
    text = next((turn for turn in reversed(turns) if "<answer>" in turn), turns[-1])
    if "<answer>" in text:
        text = text.rpartition("<answer>")[2].partition("</answer>")[0]
    else:
        text = text.rpartition("</think>")[2]
    return _unboxed(_BLOCK.sub("", text).strip())


def _unboxed(text: str) -> str:
    """Remove a box around the whole text."""
    if not (text.startswith(_BOX) and text.endswith("}")):
        return text
    inner = text[len(_BOX) : -1]
    depth = 0
    for character in inner:
        depth += (character == "{") - (character == "}")
        if depth < 0:  # the box ends before the text does
            return text
    return inner.strip() if depth == 0 else text


# Our own words for the facts that the authors' prompts state. A checkpoint is trained with them: they stay as they are.
# The checkpoint's chat template lays them out: system; user with the task's own content; assistant; user with the
# original images and OWN_TURN2_PROMPT, or with the error's text and OWN_ERROR_PROMPT; assistant.
OWN_SYSTEM_PROMPT: str = (
    "You see a picture at half its width and height. Think first, inside <think></think>. Then answer inside "
    "<answer></answer>, a number or an option's letter in \\boxed{}. Or, where a detail that decides the answer is too "
    f"small to make out, call the tool, once, and you are shown the original:\n{format_call()}"
)
OWN_TURN2_PROMPT: str = (
    "This is the original picture. Think inside <think></think>, with both pictures and the question in mind, then "
    "answer inside <answer></answer>."
)
OWN_ERROR_PROMPT: str = (  # stands right behind the error's own text
    "\nThe tool could not be run, for the reason above. Think inside <think></think>, then answer from the picture "
    "that you have, inside <answer></answer>."
)
OWN_PROMPTS: dict[str, str] = {
    "system": OWN_SYSTEM_PROMPT,
    "turn2": OWN_TURN2_PROMPT,
    "error": OWN_ERROR_PROMPT,
}


class Thinking(ToolProtocol[AnyCall]):
    """Reasoning, then an answer or a call in tags; a call is answered by images, or by an error without any.

    Args:
        prompts: texts of the user turns around the task's words and the images, by part.
            `turn2`: comes with the images.
            `error`: comes right behind an error.
            `instruction`: the first turn, with `{Question}` for the task's content; absent: that content alone.
            `result`: header and opening of the turn that shows images; absent: the images come first.
    """

    def __init__(self, prompts: Mapping[str, str]) -> None:
        self._turn2, self._error = prompts["turn2"], prompts["error"]
        self._instruction, self._result = prompts.get("instruction"), prompts.get("result")
        # The authors' turns follow the end of the one before without the line break that the template writes.
        self.adjacent = self._result is not None

    def opening(self, content: Sequence[Part]) -> list[Part]:
        """Return the task's content, inside the instruction if the prompts have one."""
        if self._instruction is None:
            return list(content)
        before, after = self._instruction.format(Question="\0").split("\0")
        return [_text(before), *_lines(content), _text(after)]

    def respond(self, call: AnyCall, images: int) -> list[Part]:
        """Return the turn with the images, or with the error where the call cannot be executed."""
        if call.status == "invalid":
            return [_text(f"{call.note}{self._error}")]
        shown: list[Part] = [{"type": "image"}] * images
        if self._result is None:
            return [*shown, _text(self._turn2)]
        opening = self._result.removeprefix("<|im_start|>user\n").partition("<|vision_start|>")[0]
        return [_text(opening), *_lines(shown), _text(f"</tool_response>\n{self._turn2}")]

    def answer(self, replies: Sequence[str]) -> str:
        """Return the answer as `final_answer` does."""
        return final_answer(replies)


class VisionThink(Thinking[ToolCall]):
    """VisionThink's protocol; see docs/methods/visionthink.md.

    Args:
        prompts: as `Thinking`; default: our own.

    Example:
        >>> VisionThink().read(format_call()).status
        'valid'
    """

    own: ClassVar[Mapping[str, str]] = OWN_PROMPTS

    def __init__(self, prompts: Mapping[str, str] = OWN_PROMPTS) -> None:
        super().__init__(prompts)

    @property
    def keep(self) -> int:
        """One less than `ROUND_TOKENS`: at the limit, the last token gives way to an end of turn."""
        return ROUND_TOKENS - 1

    def read(self, reply: str) -> ToolCall | None:
        """Read the call as `parse_reply` does."""
        return parse_reply(reply)


def _lines(content: Sequence[Part]) -> list[Part]:
    """Put a line break behind every image of `content`."""
    return [part for item in content for part in ([item] if item["type"] == "text" else [item, _text("\n")])]


def _text(text: str) -> Part:
    return {"type": "text", "text": text}
