"""How a rollout's engine writes turns and finds calls: a chat template and a response template of transformers.

Prompts must be those of evaluation, so the template is held against the checkpoint's own before training starts.
"""

from importlib.resources import files
from typing import Any

from lmms_awares.errors import ConfigError
from lmms_awares.protocol import GetCrops, format_call
from lmms_awares.protocol.get_crops import ATTEMPT

TOOL = "get_crops"  # the environment's method
TEMPLATE: str = (files("lmms_awares.training") / "chat_template.jinja").read_text(encoding="utf-8")
_END = r"<\|im_end\|>\s*"
RESPONSE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": r"<\|im_start\|>assistant\n",
    "fields": {
        # A reply with a call anywhere in it goes to the tool as a whole, and the protocol reads it there.
        "tool_calls": {
            "open_pattern": rf"\A(?=.*?{ATTEMPT})",
            "close_pattern": _END,
            "content": "text",
            "repeats": True,
            "transform": {"type": "function", "function": {"name": TOOL, "arguments": {"reply": "{content}"}}},
        },
        "content": {"close_pattern": _END, "content": "text"},
    },
}
"""A reply in which the protocol sees a call, in plain letters, is a call of the tool; any other is an answer."""


def set_format(processor: Any) -> None:
    """Give a checkpoint's processor the templates of rollouts.

    Raises:
        ConfigError: its own chat template words the protocol's turns in another way.

    Example:
        set_format(AutoProcessor.from_pretrained("Qwen/Qwen2.5-VL-7B-Instruct"))
    """
    own = processor.apply_chat_template(_conversation(call=False), tokenize=False, add_generation_prompt=True)
    processor.chat_template = processor.tokenizer.chat_template = TEMPLATE
    processor.tokenizer.response_template = RESPONSE
    ours = processor.apply_chat_template(_conversation(call=True), tokenize=False, add_generation_prompt=True)
    if own != ours:
        at = next(
            place for place, (one, other) in enumerate(zip(own + "\0", ours + "\0", strict=False)) if one != other
        )
        raise ConfigError(
            f"the checkpoint's chat template writes {own[at : at + 40]!r} where rollouts have {ours[at : at + 40]!r}; "
            "GRPO knows the chat format of Qwen2.5-VL and Qwen3-VL"
        )


def _conversation(*, call: bool) -> list[dict[str, Any]]:
    """Both turns; with `call` as a rollout holds them, else as evaluation does."""
    protocol = GetCrops()
    reply, crops = format_call(["0", "5"]), [{"type": "image"}] * 2
    said: dict[str, Any] = {"role": "assistant", "content": _text(reply)}
    if call:
        made = {"type": "function", "function": {"name": TOOL, "arguments": {"reply": reply}}}
        said = {"role": "assistant", "content": _text(""), "tool_calls": [made]}
    return [
        {"role": "system", "content": _text(protocol.own["system"])},
        {"role": "user", "content": protocol.opening([{"type": "image"}, *_text("What is it?")])},
        said,
        {"role": "tool" if call else "user", "content": crops},
    ]


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]
