"""VisionThink's text protocol: calls as the authors' adapter reads them, answers, and the user turns' contents."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmms_awares.protocol import visionthink as protocol
from lmms_awares.protocol.visionthink import ToolCall, VisionThink, final_answer, format_call, parse_reply

CALL = '<tool_call>\n{"name": "resize_image", "arguments": {"action": "resize"}}\n</tool_call>'
OBJECT = '{"name": "resize_image", "arguments": {"action": "resize"}}'


def block(content):
    return f"<think>hm</think><tool_call>{content}</tool_call>"


def test_canonical_call():
    assert format_call() == CALL
    assert parse_reply(format_call()) == protocol.ToolCall(CALL, None)


@pytest.mark.parametrize(
    "text",
    [
        f"<think></think>{CALL}",
        f"<think>It is small.</think>\n{CALL}\nplease",
        block(OBJECT),
        block(OBJECT.replace("resize_image", "zoom")),
        block('{"arguments": {"action": "resize"}}'),
        block('{"arguments": {"action": "resize", "factor": 3}}'),
        block(f"call: {OBJECT} now"),
        f"{CALL} <tool_call>nothing</tool_call>",
        f"{CALL} <tool_call>{OBJECT}",
    ],
)
def test_usable_calls(text):
    call = parse_reply(text)
    assert call.error is None
    assert call.text.startswith("<tool_call>")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "found 0"),
        ("resize", "found 0"),
        ('{"name": "resize_image", "arguments": {"action": resize}}', "Expecting value"),
        ('{"name": "resize_image", "arguments": {"action": "resize"', "found 0"),
        ('{"arguments": {"action": "resize"}, "name": "resize_image"}', "found 0"),
        (json.dumps({"arguments": {"action": "resize"}}, indent=1), "found 0"),
        ('{"name": "resize_image", "parameters": {"action": "resize"}}', "'arguments'"),
        ('{"name": "resize_image", "arguments": {"act": "resize"}}', "'action'"),
        ('{"name": "resize_image", "arguments": {"action": "zoom"}}', "only action"),
        ('{"name": "resize_image", "arguments": {"action": {"a": 1}}', "delimiter"),
        ('{"arguments": "{}}', "Unterminated"),
        ('{"arguments": "resize", "more": {}}', "indices"),
        (OBJECT + OBJECT, "found 2"),
        (f"{OBJECT}</tool_call><tool_call>{OBJECT}", "found 2"),
        ('{"a":' * 20_000 + "}}", ""),  # too deep; the words are the interpreter's
    ],
)
def test_calls_that_cannot_be_run(content, error):
    call = parse_reply(block(content))
    assert error in call.error
    assert call.text.startswith("<tool_call>")


@pytest.mark.parametrize(
    "text", ["", "<think>no call</think><answer>7</answer>", f"<tool_call>{OBJECT}", f"{OBJECT}</tool_call>", OBJECT]
)
def test_no_call(text):
    assert parse_reply(text) is None


PIECES = ("<tool_call>", "</tool_call>", "{", "}", "}}", "\n", "a", OBJECT, '{"arguments": {"action": "zoom"}}')


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_reads_as_the_plain_rule_does(text):
    """Against the rule written down naively: lazy matches of closed blocks, and in them of one-line objects."""
    blocks = re.findall("<tool_call>(.*?)</tool_call>", text, re.DOTALL)
    call = parse_reply(text)
    assert (call is None) == (not blocks)
    if call:
        try:
            actions = [json.loads(o)["arguments"]["action"] for b in blocks for o in re.findall(r"\{.*?\}\}", b)]
        except (ValueError, LookupError, TypeError):
            actions = []
        assert (call.error is None) == (actions == ["resize"])


@pytest.mark.parametrize("text", ["<tool_call>" * 50_000, block("{" * 200_000), block("{\n" * 100_000)], ids=len)
def test_repetition_costs_linear_time(text):
    started = time.perf_counter()
    parse_reply(text)
    final_answer([text])
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("turns", "answer"),
    [
        (["<think>a</think><answer>7</answer>"], "7"),
        (["<think></think><answer> 7 \n</answer>"], "7"),
        (["<answer>draft</answer> no, <answer>8</answer> done"], "8"),
        (["<think>a</think><answer>5"], "5"),
        (["<think>a</think> 6"], "6"),
        (["<think>a</think>b</think>c"], "c"),
        (["<think>never closed"], "<think>never closed"),
        (["plain"], "plain"),
        ([""], ""),
        (["<answer>\\boxed{B}</answer>"], "B"),
        (["<answer> \\boxed{ \\frac{1}{2} } </answer>"], "\\frac{1}{2}"),
        (["<answer>\\boxed{\\boxed{3}}</answer>"], "\\boxed{3}"),
        (["<answer>\\boxed{1} or \\boxed{2}</answer>"], "\\boxed{1} or \\boxed{2}"),
        (["<answer>it is \\boxed{4}</answer>"], "it is \\boxed{4}"),
        (["<answer>\\boxed{{4}</answer>"], "\\boxed{{4}"),
        (["<answer>\\boxed{}</answer>"], ""),
        ([f"<think>a</think>{CALL}", "<think>b</think><answer>9</answer>"], "9"),
        ([f"<answer>2</answer>{CALL}", "<think>b</think>nothing"], "2"),
        ([f"<think>a</think>{CALL}", f"<think>b</think>{CALL}"], ""),
        ([f"<think>a</think>{CALL}", "<think>b</think>blue"], "blue"),
        ([f"<think>a</think>7 <tool_call>{OBJECT}"], "7"),
        ([f"<answer>7 {CALL}</answer>"], "7"),
    ],
)
def test_final_answer(turns, answer):
    assert final_answer(turns) == answer


def test_own_prompts_state_the_protocol():
    assert protocol.OWN_SYSTEM_PROMPT.endswith(format_call())
    for text in protocol.OWN_PROMPTS.values():
        assert len(text) < 400
        assert "<think></think>" in text
        assert "<answer></answer>" in text


IMAGE = {"type": "image"}
CONTENT = [IMAGE, {"type": "text", "text": "How {many}?"}]


def flat(content):
    return "".join("[image]" if part["type"] == "image" else part["text"] for part in content)


SHOWN, FAILED = ToolCall("", None), ToolCall("", "No.")


def test_own_wording_leaves_the_question_alone():
    own = VisionThink({"turn2": "Again.", "error": "\nSorry."})
    assert own.opening(CONTENT) == CONTENT
    assert flat(own.respond(SHOWN, 2)) == "[image][image]Again."
    assert flat(own.respond(FAILED, 0)) == "No.\nSorry."
    assert not own.adjacent


def test_published_wording():
    published = VisionThink(
        {
            "turn2": "Again.",
            "error": "Sorry.",
            "instruction": "Use \\boxed{{}}.\n{Question}",
            "result": "<|im_start|>user\n<tool_response>\nIt:\n",
        }
    )
    assert flat(published.opening(CONTENT)) == "Use \\boxed{}.\n[image]\nHow {many}?"
    assert flat(published.opening([IMAGE, *CONTENT])) == "Use \\boxed{}.\n[image]\n[image]\nHow {many}?"
    assert flat(published.respond(SHOWN, 1)) == "<tool_response>\nIt:\n[image]\n</tool_response>\nAgain."
    assert flat(published.respond(FAILED, 0)) == "No.Sorry."
    assert published.adjacent
