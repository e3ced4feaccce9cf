"""VisionThink's protocol: its tool call, its answer, and what is said around them. Pure text.

Round 1 is `<think>…</think><answer>…</answer>` or `<think>…</think><tool_call>…</tool_call>`; the reply to a call is a
user turn with the original image, or with an error, and round 2 is the answer.
"""

import json

TOOL_NAME = "resize_image"
ACTION = "resize"


def format_call() -> str:
    """The canonical call, the only one that the tool understands."""
    call = json.dumps({"name": TOOL_NAME, "arguments": {"action": ACTION}})
    return f"<tool_call>\n{call}\n</tool_call>"


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
