"""Rendering and tokenising: the small checkpoints' template against the official one, and the crop turn."""

from importlib.resources import files

import pytest
from harness import picture
from transformers import AutoProcessor

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.mini.random_checkpoint import chat_template

IMAGE = {"type": "image"}
CONVERSATIONS = {
    "question": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "What is it?"}]}],
    "string content": [{"role": "user", "content": "Hello {{ name }}"}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [IMAGE]}],
    "two turns": [
        {"role": "system", "content": [{"type": "text", "text": "Look."}]},
        {"role": "user", "content": [IMAGE, IMAGE, {"type": "text", "text": "Which <|sign|>?\n\nA. x"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "GET_CROPS: ['0', '5']"}]},
        {"role": "user", "content": [IMAGE, IMAGE]},
    ],
}


@pytest.fixture(scope="module")
def chat(checkpoint):
    return ChatFormat(AutoProcessor.from_pretrained(checkpoint))


@pytest.fixture
def official_template(chat):
    """Qwen2.5-VL's own template, from a package that ships a copy."""
    processor, own = chat._processor, chat._processor.chat_template
    processor.chat_template = (files("trl") / "chat_templates" / "qwen2_5_vl.jinja").read_text(encoding="utf-8")
    yield
    processor.chat_template = own


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_own_template_renders_as_the_official_one(messages, chat, official_template):
    official = chat.render(messages, None)
    chat._processor.chat_template = chat_template()
    assert chat.render(messages, None) == official


def test_crop_turn_under_the_official_template(chat, official_template):
    turn = chat.crop_turn([picture((112, 112)), picture((56, 84))], ended=True)
    text = chat.tokenizer.decode(turn.ids.tolist())
    pads = "<|image_pad|>"
    first, second = (f"<|vision_start|>{pads * n}<|vision_end|>" for n in (16, 6))
    assert text == f"\n<|im_start|>user\n{first}{second}<|im_end|>\n<|im_start|>assistant\n"
    assert turn.is_image.sum() == 22
    assert turn.grids.tolist() == [[1, 8, 8], [1, 6, 4]]


def test_system_prompt_goes_in_front_of_the_tasks_own(chat):
    task = [{"role": "system", "content": [{"type": "text", "text": "Task."}]}, {"role": "user", "content": [IMAGE]}]
    assert "<|im_start|>system\nOurs.\n\nTask.<|im_end|>" in chat.render(task, "Ours.")
    assert "You are a helpful assistant." in chat.render(task[1:], None)
    assert len(task) == 2, "the task's messages are not changed"


def test_special_tokens_have_their_published_ids(chat):
    """The vocabulary is the real one: ids as in Qwen2.5-VL's tokenizer."""
    expected = {"<|endoftext|>": 151643, "<|im_end|>": 151645, "<|vision_start|>": 151652, "<|image_pad|>": 151655}
    assert {token: chat.tokenizer.convert_tokens_to_ids(token) for token in expected} == expected
    assert chat.tokenizer.convert_tokens_to_ids("<tool_call>") == 151657


def test_replies_survive_the_round_trip(chat):
    for text in ("GET_CROPS: ['0', '5']", "42 %", "你好, <b>", "<tool_call>{}</tool_call>"):
        ids = chat.encode_reply(text)
        assert ids[-1] == chat.tokenizer.eos_token_id
        assert chat.decode(ids) == text
