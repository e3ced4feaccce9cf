"""`visionthink` through every branch of its protocol, on a model that is made to say what a script has."""

import pytest
from harness import answers, document, picture
from loguru import logger
from PIL import Image
from scripted import Script
from transformers import Qwen2VLImageProcessor

from lmms_awares.engine import local
from lmms_awares.engine.turns import Decoding
from lmms_awares.errors import ConfigError
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import prompts
from lmms_awares.protocol import visionthink as visionthink_protocol
from lmms_awares.protocol.prompts import PromptError, Source
from lmms_awares.protocol.visionthink import OWN_ERROR_PROMPT, OWN_SYSTEM_PROMPT, OWN_TURN2_PROMPT, format_call
from lmms_awares.views import show

TOLERANCE = 1e-5
LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
SIZES = [(336, 280), (300, 500), (560, 420), (420, 336)]
CALL = f"<think>small</think>{format_call()}"
BAD = "<think>small</think><tool_call>zoom!</tool_call>"
ANSWER = "<think>clear</think><answer>7</answer>"


@pytest.fixture(scope="module")
def build(small_checkpoint):
    """Models, each made once."""
    made = {}

    def make(**arguments):
        key = tuple(sorted(arguments.items()))
        if key not in made:
            options = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **arguments}
            made[key] = VisionThink(device="cpu", **options)
        return made[key]

    return make


@pytest.fixture
def play(build, monkeypatch):
    """Runs documents through a model that follows a script; returns (answer, trace) pairs and the conversations.

    A reply of the script is a text, or the number of tokens that the model says by itself before it ends its turn.
    """

    def run(docs, script, *, limit=None, batch_size=1, reuse_cache=True, quick=True, **arguments):
        monkeypatch.setattr(visionthink_protocol, "ROUND_TOKENS", limit or visionthink_protocol.ROUND_TOKENS)
        model = build(**arguments)

        def line(reply):
            end = model.engine.chat.tokenizer.eos_token_id
            return [*[None] * reply, end] if isinstance(reply, int) else model.engine.chat.encode_reply(reply)

        lines = [[line(reply) for reply in replies] for replies in script]
        kind = type("Scripted", (Script,), {"lines": lines, "made": [], "quick": quick})
        start = type(model.engine).start
        monkeypatch.setattr(local, "Conversation", kind)
        monkeypatch.setattr(
            model.engine, "start", lambda openings, **_: start(model.engine, openings, reuse_cache=reuse_cache)
        )
        monkeypatch.setattr(model, "batch_size", batch_size)
        return answers(model, docs, max_new_tokens=5), kind.made

    return run


@pytest.fixture(scope="module")
def real(checkpoint):
    """The checkpoint with the real tokenizer."""
    return str(checkpoint)


@pytest.fixture(scope="module")
def tokenizer(real, build):
    """The real tokenizer."""
    return build(pretrained=real).engine.chat.tokenizer


def grid(size):
    """(width, height) in px that the real image processor gives an image of this size."""
    processor = Qwen2VLImageProcessor(**LIMITS)
    _, rows, columns = processor(images=[Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"][0].tolist()
    return columns * 14, rows * 14


def tokens(size):
    """Visual tokens of that."""
    width, height = grid(size)
    return width * height // 784


BRANCHES = {
    "direct answer": ([ANSWER], "7", None),
    "no reasoning": (["<think></think><answer>3</answer>"], "3", None),
    "no protocol at all": (["blue"], "blue", None),
    "boxed": (["<think>a</think><answer>\\boxed{B}</answer>"], "B", None),
    "reasoning not closed": (["<think>hm"], "<think>hm", None),
    "answer not closed": (["<think>a</think><answer>5"], "5", None),
    "call not closed": ([f"<think>a</think>{format_call().removesuffix('</tool_call>')}"], "", None),
    "call": ([CALL, ANSWER], "7", "valid"),
    "call without reasoning": ([format_call(), ANSWER], "7", "valid"),
    "another tool's name": ([CALL.replace("resize_image", "zoom"), ANSWER], "7", "valid"),
    "answer and call": ([f"<answer>2</answer>{CALL}", "<think>b</think>hm"], "2", "valid"),
    "call in round 2": ([CALL, CALL], "", "valid"),
    "malformed": ([BAD, ANSWER], "7", "invalid"),
    "another action": ([CALL.replace('"resize"', '"zoom"'), ANSWER], "7", "invalid"),
    "two calls": ([f"{format_call()}\n{format_call()}", ANSWER], "7", "invalid"),
    "malformed, then a call": ([BAD, CALL], "", "invalid"),
}


@pytest.mark.parametrize(("replies", "answer", "status"), BRANCHES.values(), ids=BRANCHES)
def test_every_branch(play, replies, answer, status):
    size = (336, 280)
    ((said, trace),), (conversation,) = play([document(size)], [replies])
    low, full = tokens((168, 140)), tokens(size)
    assert (low, full) == (30, 120)
    assert said == answer
    assert [turn.text for turn in trace.turns] == replies
    assert (trace.tool_call and trace.tool_call.status) == status
    assert trace.called == (status == "valid")
    assert trace.visual_tokens == trace.visual_tokens_processed == low + trace.called * full
    assert trace.rtr == (1.25 if trace.called else 0.25)
    assert [(crop.id, crop.tokens) for crop in trace.crops] == [("all", full)] * trace.called
    shown = [int(grid.prod()) // 4 for segment in conversation._segments[0] for grid in segment.grids]
    assert shown == [low, full][: 1 + trace.called]  # low-res first, then the original
    assert trace.response_chars == sum(map(len, replies))
    assert not trace.truncated


def test_limits_are_the_protocols_own():
    model = object.__new__(VisionThink)
    for task in ({"max_new_tokens": 16}, {"temperature": 1.0, "top_p": 0.5}, {"num_beams": 3, "until": ["\n"]}):
        assert model.decoding(task) == Decoding(max_new_tokens=8192, temperature=0.0)


def collapsed(conversation):
    """A conversation's ids with one placeholder per image."""
    ids, pad = conversation.ids, conversation._model.config.image_token_id
    return [id for k, id in enumerate(ids) if id != pad or ids[k - 1] != pad]


VISION = "<|vision_start|><|image_pad|><|vision_end|>"
HEADER = "<|im_end|>\n<|im_start|>assistant\n"


def test_own_prompts_are_laid_out_by_the_chat_template(play, real, tokenizer):
    for replies in ([CALL, ANSWER], [BAD, ANSWER]):
        ((_, trace),), (conversation,) = play([document((336, 280))], [replies], pretrained=real)
        assert trace.prompt == "own"
        error = "One call of resize_image was expected, found 0."
        content = f"{VISION}{OWN_TURN2_PROMPT}" if trace.called else error + OWN_ERROR_PROMPT
        assert tokenizer.decode(collapsed(conversation)) == (
            f"<|im_start|>system\n{OWN_SYSTEM_PROMPT}<|im_end|>\n"
            f"<|im_start|>user\n{VISION}What is written here?{HEADER}"
            f"{replies[0]}<|im_end|>\n<|im_start|>user\n{content}{HEADER}{ANSWER}<|im_end|>"
        )


TEXTS = {
    "system": "Be kind.\n\n# Tools\n<tools>\n{}\n</tools>",
    "turn2": "Look again, then answer.",
    "error": "Mind the error.",
    "instruction": "Reason first, box it: \\boxed{{}}. Here:\n{Question}",
    "result": "<|im_start|>user\n<tool_response>\nSharper:\n",
}
MODULE = '''
SYSTEM = """Be kind.\n\n# Tools\n<tools>\n{}\n</tools>"""
SECOND = "Look again, then answer."
ERROR = "Mind the error."
class Adapter(Base):
    def generate_until(self, requests):
        if self.prompt == 'tool':
            template = "Reason first, box it: \\\\boxed{{}}. Here:\\n{Question}"
        else:
            template = open("x")
        for result in requests:
            if result:
                message = "<|im_start|>user\\n" + "<tool_response>\\nSharper:\\n"
                message += SECOND
            else:
                message = "<|im_start|>user\\n" + result + ERROR
'''
WHERE = {
    "system": "SYSTEM",
    "turn2": "SECOND",
    "error": "ERROR",
    "instruction": "Adapter.generate_until.template",
    "result": "Adapter.generate_until.message",
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Made-up texts in a file that is built as the authors' is, imported under the name `visionthink`."""
    sources = {part: Source("a/b", "c", "d.py", WHERE[part], prompts._digest(text)) for part, text in TEXTS.items()}
    monkeypatch.setitem(prompts.PUBLISHED, "visionthink", sources)
    monkeypatch.setenv("AWARES_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d.py").write_text(MODULE)
    prompts.import_prompts("visionthink", str(tmp_path / "d.py"))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("first", [CALL, BAD], ids=["call", "error"])
@pytest.mark.usefixtures("published")
def test_published_prompts_byte_for_byte(play, real, tokenizer, first, images):
    """Ids are those of the release: every turn tokenised by itself, and no line break behind an end of turn."""
    doc = {"images": [picture((336, 280), k) for k in range(images)], "question": "How much?\nOne word."}
    ((_, trace),), (conversation,) = play([doc], [[first, ANSWER]], pretrained=real, prompt="visionthink")
    shown = f"{VISION}\n" * images
    turns = [
        f"<|im_start|>system\n{TEXTS['system']}<|im_end|>\n<|im_start|>user\n"
        f"Reason first, box it: \\boxed{{}}. Here:\n{shown}How much?\nOne word.{HEADER}",
        f"{first}<|im_end|>",
        f"<|im_start|>user\n<tool_response>\nSharper:\n{shown}</tool_response>\nLook again, then answer.{HEADER}"
        if first == CALL
        else f"<|im_start|>user\nOne call of resize_image was expected, found 0.Mind the error.{HEADER}",
        f"{ANSWER}<|im_end|>",
    ]
    expected = [id for turn in turns for id in tokenizer.encode(turn, add_special_tokens=False)]
    assert collapsed(conversation) == expected
    assert trace.prompt == "visionthink"
    assert trace.visual_tokens == images * (30 + 120 * trace.called)
    assert trace.rtr == (1.25 if trace.called else 0.25)


def free(play, docs, script, **options):
    """The second round's replies, which the model speaks by itself, logits included; and the traces."""
    pairs, conversations = play(docs, [[first, 6] for first in script], quick=False, **options)
    finals = [reply for conversation in conversations for replies in conversation.said[1:] for reply in replies]
    return finals, [trace for _, trace in pairs]


def assert_equal(replies, others):
    for one, other in zip(replies, others, strict=True):
        assert one.ids == other.ids
        assert len(one.ids) == 7
        assert (one.logits - other.logits).abs().max() < TOLERANCE


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("first", [CALL, BAD], ids=["call", "error"])
def test_cached_equals_fresh(play, first, attention):
    docs = [document(size, seed) for seed, size in enumerate(SIZES[:2])]
    options = {"attn_implementation": attention}
    cached, _ = free(play, docs, [first] * 2, **options)
    fresh, _ = free(play, docs, [first] * 2, reuse_cache=False, **options)
    assert_equal(cached, fresh)
    assert (cached[0].logits[0] - cached[1].logits[0]).abs().max() > 0.05  # other images, other logits


def test_batch_equals_singles(play):
    """Rows that answer, call, and call in vain, with replies and images of different lengths."""
    docs = [document(size, seed, question="Why? " * (seed + 1)) for seed, size in enumerate(SIZES)]
    script = [CALL, BAD, ANSWER, f"<think>{'hm ' * 9}</think>{format_call()}"]
    singles, alone = free(play, docs, script)
    batch, together = free(play, docs, script, batch_size=4)
    assert [trace.tool_call and trace.tool_call.status for trace in together] == ["valid", "invalid", None, "valid"]
    assert_equal(singles, batch)
    for one, other in zip(alone, together, strict=True):
        assert (one.visual_tokens, one.rtr, one.crops) == (other.visual_tokens, other.rtr, other.crops)
        assert [turn.text for turn in one.turns] == [turn.text for turn in other.turns]


@pytest.mark.parametrize("tail", [" and on and on", ""], ids=["cut", "just done"])
def test_a_first_round_at_its_limit(play, build, tail):
    """As in the release, the last token gives way to the end of turn, whether it was one or not."""
    tokenizer = build().engine.chat.tokenizer
    limit = len(tokenizer.encode(CALL + tail[:3])) + 1
    ((_, trace),), (conversation,) = play([document((336, 280))], [[CALL + tail, 6]], limit=limit, quick=False)
    first = conversation.said[0][0]
    assert len(first.ids) == limit
    assert trace.tool_call.status == "valid"
    assert trace.turns[0].new_tokens == limit - 1
    prompt, turn = (segment.ids.tolist() for segment in conversation._segments[0])
    assert turn[0] == tokenizer.eos_token_id
    assert conversation.ids[: len(prompt + first.ids + turn) - 1] == prompt + first.ids[:-1] + turn


def test_a_call_whose_last_token_is_cut_is_none(play, build):
    limit = len(build().engine.chat.tokenizer.encode(CALL))
    ((_, trace),), _ = play([document((336, 280))], [[CALL]], limit=limit, quick=False)
    assert trace.tool_call is None
    assert trace.truncated


@pytest.mark.parametrize("size", [(800, 600), (1700, 2200), (40, 400), (30, 30), (100, 52), (56, 56)], ids=str)
@pytest.mark.parametrize("lowres_base", ["raw", "processed"])
def test_image_sizes(play, size, lowres_base):
    """The half image is the release's: halved, then enlarged to a side of 28 px; `raw` halves the original pixels."""
    ((_, trace),), (conversation,) = play([document(size)], [[CALL, ANSWER]], lowres_base=lowres_base)
    whole = size if lowres_base == "raw" else grid(size)
    assert trace.full_tokens == tokens(size)
    assert trace.lowres_tokens == min(tokens(release_half(whole)), trace.full_tokens)
    assert trace.visual_tokens == trace.lowres_tokens + trace.full_tokens
    assert int(conversation._is_image.sum()) == trace.visual_tokens


def release_half(size):
    """Size in px that the authors' adapter gives a halved image."""
    width, height = size[0] // 2, size[1] // 2
    if width < 28 or height < 28:
        scale = max(28 / width, 28 / height)
        width, height = int(width * scale), int(height * scale)
    return width, height


@pytest.mark.parametrize("size", [(640, 480), (48, 280)], ids=str)
def test_the_first_view_has_the_releases_pixels(build, size):
    model, image = build(lowres_base="raw"), picture(size)
    half = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.LANCZOS)
    half = half.resize(release_half(size), Image.Resampling.LANCZOS)
    shown = show(image, model.plan(image), model.view).image
    assert shown.tobytes() == half.resize(grid(half.size), Image.Resampling.BICUBIC).tobytes()


def test_other_prompts(play, build, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("Mine.")
    monkeypatch.setenv("AWARES_CACHE", str(tmp_path / "cache"))
    for prompt, label in (("default", "default"), (str(tmp_path / "mine.txt"), "file:mine.txt:")):
        ((_, trace),), (conversation,) = play([document((336, 280))], [[CALL, ANSWER]], prompt=prompt)
        assert trace.prompt.startswith(label)
        assert trace.called
        assert len(conversation._segments[0][1].ids) > 120 + len(OWN_TURN2_PROMPT)  # the rest is ours
    with pytest.raises(PromptError, match="prompt awares-adapter has no part 'turn2'"):
        build(prompt="awares-adapter")
    with pytest.raises(PromptError, match="run `awares prompts import visionthink`"):
        build(prompt="visionthink", seed=1)
    with pytest.raises(ConfigError, match=r"unknown model argument policy for visionthink; known: pretrained"):
        build(policy="never")


def test_published_checkpoint_without_its_prompt_warns(build, small_checkpoint, tmp_path):
    (tmp_path / "VisionThink-Efficient").symlink_to(small_checkpoint)
    said = []
    sink = logger.add(said.append, level="WARNING")
    build(pretrained=str(tmp_path / "VisionThink-Efficient"))
    logger.remove(sink)
    assert "awares prompts import visionthink" in "".join(said)


def test_unanswerable_samples_fail_alone(play):
    docs = [{"images": [], "question": "?"}, document((336, 280))]
    ((nothing, failed), (said, trace)), _ = play(docs, [[ANSWER]], batch_size=2)
    assert nothing == ""
    assert "no image" in failed.failed
    assert said == "7"
    assert trace.failed is None
