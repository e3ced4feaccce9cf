"""`adaptvision`, `ergo`, `awares` with `boxes=free`: what a box shows and costs, on a model that follows a script."""

import io
import json
import random

import pytest
import torch
from harness import answers, document, picture
from PIL import Image
from scripted import Script
from transformers import Qwen2VLImageProcessor

from lmms_awares.crops import shown_area
from lmms_awares.engine import local
from lmms_awares.engine.turns import Decoding
from lmms_awares.errors import ConfigError
from lmms_awares.models.adaptvision import AdaptVision
from lmms_awares.models.awares import Awares
from lmms_awares.models.ergo import Ergo
from lmms_awares.protocol import adaptvision, ergo, free_box, prompts
from lmms_awares.protocol.adaptvision import OWN_PROMPTS
from lmms_awares.protocol.prompts import Source
from lmms_awares.training.environment import CropEnvironment, ViewLimits
from lmms_awares.views import LOWRES, show

LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
KINDS = {
    "adaptvision": (AdaptVision, {}, adaptvision.format_call, "<think>a</think><answer>7</answer>"),
    "ergo": (Ergo, {"max_vision_tokens": 40}, ergo.format_call, "<think>a</think><answer>7</answer>"),
    "free": (Awares, {"boxes": "free"}, free_box.format_call, "7"),
}
SIZES = [(336, 280), (300, 500), (560, 420), (420, 336)]


@pytest.fixture(scope="module")
def build(small_checkpoint):
    """Models, each made once."""
    made = {}

    def make(kind, **arguments):
        key = kind, tuple(sorted(arguments.items()))
        if key not in made:
            options = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **arguments}
            made[key] = kind(device="cpu", **options)
        return made[key]

    return make


@pytest.fixture
def play(build, monkeypatch):
    """Runs documents through a model that follows a script; returns (answer, trace) pairs and the conversations.

    A reply of the script is a text, or the number of tokens that the model says by itself before it ends its turn.
    """

    def run(name, docs, script, *, batch_size=1, reuse_cache=True, quick=True, **arguments):
        kind, own, _, _ = KINDS[name]
        model = build(kind, **own, **arguments)

        def line(reply):
            end = model.engine.chat.tokenizer.eos_token_id
            return [*[None] * reply, end] if isinstance(reply, int) else model.engine.chat.encode_reply(reply)

        lines = [[line(reply) for reply in replies] for replies in script]
        scripted = type("Scripted", (Script,), {"lines": lines, "made": [], "quick": quick})
        start = type(model.engine).start
        monkeypatch.setattr(local, "Conversation", scripted)
        monkeypatch.setattr(
            model.engine, "start", lambda openings, **_: start(model.engine, openings, reuse_cache=reuse_cache)
        )
        monkeypatch.setattr(model, "batch_size", batch_size)
        return answers(model, docs, max_new_tokens=8), scripted.made

    return run


def real_tokens(image):
    """Visual tokens that the real image processor makes of an image."""
    grid = Qwen2VLImageProcessor(**LIMITS)(images=[image], return_tensors="pt")["image_grid_thw"][0]
    return int(grid.prod()) // 4


# --- counts


@pytest.mark.parametrize("base", ["processed", "raw"])
@pytest.mark.parametrize("name", KINDS)
def test_random_boxes_cost_what_the_processor_counts(build, name, base):
    """250 boxes a base, some outside or inverted: tokens of what is really shown, by the real processor."""
    kind, own, write, _ = KINDS[name]
    model, dice, shown = build(kind, lowres_base=base, **own), random.Random(7), 0
    for number in range(250):
        size = dice.randint(40, 900), dice.randint(40, 900)
        image = Image.new("RGB", size)
        plan = model.plan(image)
        first = show(image, plan, LOWRES)
        assert real_tokens(first.image) == first.tokens
        width, height = plan.first_size
        corners = [dice.randint(0, int(1.2 * side)) for side in (width, height, width, height)]
        if number % 5:
            corners = [*map(min, corners[:2], corners[2:]), *map(max, corners[:2], corners[2:])]
        call = model.protocol.place(model.protocol.read(write(corners)), plan)
        if call.box is None:
            assert call.status == "invalid"
            assert call.note
            continue
        view = show(image, plan, call.box)
        assert real_tokens(view.image) == view.tokens == plan.crop_tokens(call.box)
        shown += 1
    assert shown > 150


@pytest.mark.parametrize("name", KINDS)
def test_rtr_is_what_was_shown(play, name):
    _, _, write, answer = KINDS[name]
    docs = [document(size, seed) for seed, size in enumerate(SIZES)]
    script = [[write((20, 30, 90, 100)), answer]] * len(docs)
    pairs, conversations = play(name, docs, script)
    for (said, trace), conversation in zip(pairs, conversations, strict=True):
        assert said == "7"
        (crop,) = trace.crops
        assert (trace.tool_call.status, trace.tool_call.ids, crop.id, trace.tool_call.note) == (
            "valid",
            ["box"],
            "box",
            None,
        )
        grids = [int(grid.prod()) // 4 for segment in conversation._segments[0] for grid in segment.grids]
        assert grids == [trace.lowres_tokens, crop.tokens]
        assert trace.visual_tokens == trace.visual_tokens_processed == sum(grids)
        assert trace.rtr == sum(grids) / trace.full_tokens
        assert 0 < shown_area([crop.box], trace.image_size) < 0.8


def test_a_box_shows_its_part_of_the_image(build):
    """White where the box is, black elsewhere: nothing but white arrives, from either map of boxes."""
    for name, arguments in (("adaptvision", {}), ("adaptvision", {"box_map": "double"}), ("ergo", {}), ("free", {})):
        kind, own, write, _ = KINDS[name]
        model = build(kind, **own, **arguments)
        image = Image.new("RGB", (560, 448))
        plan = model.plan(image)
        across, down = 560 / plan.first_size[0], 448 / plan.first_size[1]
        inner = [round(20 * across), round(40 * down), round(80 * across), round(100 * down)]
        image.paste((255, 255, 255), inner)
        call = model.protocol.place(model.protocol.read(write((20, 40, 80, 100))), plan)
        assert call.box == pytest.approx(inner, abs=1)
        assert torch.tensor(list(show(image, plan, call.box).image.convert("L").getdata())).float().mean() > 245


def test_double_maps_as_the_adapter(build):
    """Where view and full view are the same, doubled boxes point elsewhere, at black where nothing is."""
    image = Image.new("RGB", (56, 56), "white")
    model = build(AdaptVision, box_map="double")
    plan = model.plan(image)
    assert plan.lowres_is_full
    call = model.protocol.place(model.protocol.read(adaptvision.format_call((28, 28, 56, 56))), plan)
    assert call.box == (56, 56, 112, 112)
    assert show(image, plan, call.box).image.getextrema() == ((0, 0),) * 3
    ratio = build(AdaptVision)
    assert ratio.protocol.place(ratio.protocol.read(adaptvision.format_call((28, 28, 56, 56))), plan).box == (
        28,
        28,
        56,
        56,
    )


# --- what is said


BAD = {"inverted": (90, 30, 20, 100), "outside": (5000, 30, 6000, 100), "without area": (20, 30, 20, 30)}


@pytest.mark.parametrize("corners", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", KINDS)
def test_bad_boxes(play, name, corners):
    """AdaptVision's model gets an error and no image; the others' the whole image. The trace says in a line why."""
    _, _, write, answer = KINDS[name]
    ((said, trace),), (conversation,) = play(name, [document((336, 280))], [[write(corners), answer]])
    call = trace.tool_call
    if name == "ergo" and corners[0] == 5000:  # as released: clamped to the edge, which is a black strip
        assert (call.status, call.ids) == ("valid", ["box"])
        assert "black strip" in call.note
        return
    assert (said, call.status, call.ids) == ("7", "invalid", [])
    assert not trace.called
    assert "box [" in call.note
    assert "\n" not in call.note
    whole = [] if name == "adaptvision" else [("all", trace.full_tokens)]
    assert [(crop.id, crop.tokens) for crop in trace.crops] == whole
    assert trace.visual_tokens == trace.lowres_tokens + sum(tokens for _, tokens in whole)
    assert int(conversation._is_image.sum()) == trace.visual_tokens


@pytest.mark.parametrize("name", KINDS)
def test_a_box_that_leaves_the_view_is_clamped(play, name):
    _, _, write, answer = KINDS[name]
    ((_, trace),), _ = play(name, [document((336, 280))], [[write((20, 30, 5000, 6000)), answer]])
    assert trace.tool_call.status == ("recovered" if name == "free" else "valid")
    assert "clamped to the view" in trace.tool_call.note
    assert trace.crops[0].box[2:] == pytest.approx((336, 280))


def test_ergo_always_shows_a_second_image(play):
    replies = ["The plate is red.", "<answer>A</answer> <answer>B</answer>"]
    ((said, trace),), _ = play("ergo", [document((336, 280))], [replies])
    assert said == "A"
    assert (trace.tool_call.status, trace.tool_call.text) == ("invalid", "")
    assert [crop.id for crop in trace.crops] == ["all"]
    assert trace.rtr == (trace.lowres_tokens + trace.full_tokens) / trace.full_tokens


def test_adaptvision_may_answer_at_once(play):
    ((said, trace),), _ = play("adaptvision", [document((336, 280))], [["<think>a</think><answer>3</answer>"]])
    assert (said, trace.tool_call, trace.rtr) == ("3", None, 0.25)


def test_limits_are_the_protocols_own():
    for kind, tokens in ((AdaptVision, 1600), (Ergo, 1024)):
        model = object.__new__(kind)
        assert model.decoding({"max_new_tokens": 5, "temperature": 1.0}) == Decoding(tokens)


# --- the engine


def free(play, name, docs, script, **options):
    """The second round's replies, which the model speaks by itself, logits included; and the traces."""
    pairs, conversations = play(name, docs, [[first, 6] for first in script], quick=False, **options)
    finals = [reply for conversation in conversations for replies in conversation.said[1:] for reply in replies]
    return finals, [trace for _, trace in pairs]


@pytest.mark.parametrize("name", KINDS)
def test_cached_equals_fresh_and_batch_equals_singles(play, name):
    write = KINDS[name][2]
    docs = [document(size, seed, question="Why? " * (seed + 1)) for seed, size in enumerate(SIZES)]
    script = [write((20, 30, 90, 100)), write((0, 0, 33, 121)), write((9, 9, 3, 3)), write((50, 60, 84, 80))]
    cached, alone = free(play, name, docs, script)
    fresh, _ = free(play, name, docs, script, reuse_cache=False)
    batch, together = free(play, name, docs, script, batch_size=4)
    for one, two, three in zip(cached, fresh, batch, strict=True):
        assert len(one.ids) == 7
        assert one.ids == two.ids == three.ids
        assert (one.logits - two.logits).abs().max() < 1e-5
        assert (one.logits - three.logits).abs().max() < 1e-5
    assert (cached[0].logits[0] - cached[1].logits[0]).abs().max() > 0.01
    for one, two in zip(alone, together, strict=True):
        assert (one.visual_tokens, one.crops, one.tool_call) == (two.visual_tokens, two.crops, two.tool_call)


# --- prompts

VISION = "<|vision_start|><|image_pad|><|vision_end|>"
HEADER = "<|im_end|>\n<|im_start|>assistant\n"
TEXTS = {
    "adaptvision": {
        "system": "Be kind.",
        "turn2": "Look again.",
        "error": "Mind the error.",
        "instruction": "Reason, box it: \\boxed{{}}. Here:\n{Question}",
        "result": f"<|im_start|>user\n<tool_response>\nSharper:\n{VISION}\n</tool_response>\nLook again.{HEADER}",
    },
    "ergo": {"system": "Be kind.", "turn1": "{Question} Where?", "turn2": "{Question}\nAnd now?"},
}


def collapsed(conversation):
    """A conversation's ids with one placeholder per image."""
    ids, pad = conversation.ids, conversation._model.config.image_token_id
    return [id for k, id in enumerate(ids) if id != pad or ids[k - 1] != pad]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Made-up texts under the names of the published sets."""
    monkeypatch.setenv("AWARES_CACHE", str(tmp_path / "cache"))
    for name, texts in TEXTS.items():
        file = tmp_path / f"{name}.py"
        file.write_text("".join(f"{part} = {text!r}\n" for part, text in texts.items()))
        sources = {part: Source("a/b", "c", "d.py", part, prompts._digest(text)) for part, text in texts.items()}
        monkeypatch.setitem(prompts.PUBLISHED, name, sources)
        prompts.import_prompts(name, str(file))


@pytest.mark.usefixtures("published")
def test_published_prompts_byte_for_byte(play, build, checkpoint):
    """AdaptVision joins turns without a line break and shows the image last; ERGO's images come first."""
    call, answer = adaptvision.format_call((20, 30, 90, 100)), "<answer>7</answer>"
    doc = document((336, 280), question="How much?\nOne word.")
    _, (conversation,) = play("adaptvision", [doc], [[call, answer]], pretrained=str(checkpoint), prompt="adaptvision")
    tokenizer = build(AdaptVision, pretrained=str(checkpoint), prompt="adaptvision").engine.chat.tokenizer
    assert tokenizer.decode(collapsed(conversation)) == (
        f"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nReason, box it: \\boxed{{}}. Here:\n{VISION}\n"
        f"How much?\nOne word.{HEADER}{call}<|im_end|>{TEXTS['adaptvision']['result']}{answer}<|im_end|>"
    )
    call = ergo.format_call((20, 30, 90, 100))
    _, (conversation,) = play("ergo", [doc], [[call, answer]], pretrained=str(checkpoint), prompt="ergo")
    assert tokenizer.decode(collapsed(conversation)) == (
        f"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n{VISION}How much?\nOne word. Where?{HEADER}"
        f"{call}<|im_end|>\n<|im_start|>user\n{VISION}How much?\nOne word.\nAnd now?{HEADER}{answer}<|im_end|>"
    )


def test_own_prompts(play, build, checkpoint):
    for name, kind, own in (
        ("adaptvision", AdaptVision, OWN_PROMPTS),
        ("free", Awares, {"system": free_box.OWN_PROMPT}),
    ):
        _, _, write, answer = KINDS[name]
        ((_, trace),), (conversation,) = play(
            name, [document((336, 280))], [[write((20, 30, 90, 100)), answer]], pretrained=str(checkpoint)
        )
        tokenizer = build(kind, pretrained=str(checkpoint), **KINDS[name][1]).engine.chat.tokenizer
        assert trace.prompt == "own"
        said = tokenizer.decode(collapsed(conversation))
        assert said.startswith(f"<|im_start|>system\n{own['system']}<|im_end|>\n<|im_start|>user\n{VISION}What")
        assert f"<|im_end|>\n<|im_start|>user\n{VISION}{own.get('turn2', '')}<|im_end|>" in said


# --- control policies


@pytest.fixture
def short(monkeypatch):
    """Rounds of a few tokens: the random model never ends one by itself."""
    for protocol in (adaptvision, ergo):
        monkeypatch.setattr(protocol, "ROUND_TOKENS", 3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", KINDS)
def test_controls(build, name):
    kind, own, _, _ = KINDS[name]
    box = [40, 50, 160, 150]
    docs = [
        document((336, 280), 0, evidence_box=box, lowres_suffices=False),
        document((336, 280), 1, evidence_box=box, lowres_suffices=True),
    ]
    (_, needed), (_, enough) = answers(build(kind, policy="oracle", **own), docs)
    assert needed.method.endswith(":oracle")
    assert needed.tool_call.forced
    assert needed.crops[0].box == pytest.approx(box, abs=3)  # in whole px of the half-size view
    assert all(side <= outer for side, outer in zip(needed.crops[0].box[:2], box[:2], strict=True))
    if name == "ergo":  # which always names a box
        assert enough.crops[0].box == (0, 0, 336, 280)
    else:
        assert (enough.tool_call, enough.rtr) == (None, 0.25)
    (_, alone), _ = answers(build(kind, policy="never", **own), docs)
    assert (alone.tool_call, alone.prompt, alone.visual_tokens) == (None, "default", alone.lowres_tokens)
    many = [document((336, 280), seed) for seed in range(8)]
    drawn = [trace.crops for _, trace in answers(build(kind, policy="random", **own), many)]
    assert drawn == [trace.crops for _, trace in answers(build(kind, policy="random", **own), many)]
    assert len({str(crops) for crops in drawn}) > 3
    if name == "ergo":
        with pytest.raises(ConfigError, match="policy of ergo"):
            build(kind, policy="always_full")
    else:
        (_, whole), _ = answers(build(kind, policy="always_full", **own), docs)
        assert whole.crops[0].box == pytest.approx((0, 0, 336, 280))
        assert whole.visual_tokens == whole.lowres_tokens + whole.full_tokens


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", KINDS)
def test_oracle_with_a_bad_box_fails_that_sample_only(build, name):
    kind, own, _, _ = KINDS[name]
    bad = ([10, 10, 10, 20], [900, 10, 950, 20], [60, 60, 20, 20])
    docs = [document((336, 280), 0, evidence_box=box) for box in (*bad, [10, 10, 60, 40])]
    *failed, (_, good) = answers(build(kind, policy="oracle", **own), docs)
    assert all("evidence_box" in trace.failed for _, trace in failed)
    assert good.failed is None


def test_two_images_are_refused(build):
    doc = {"images": [picture((300, 200)), picture((200, 300))], "question": "?"}
    for kind, own, _, _ in KINDS.values():
        ((_, trace),) = answers(build(kind, **own), [doc])
        assert "exactly one image" in trace.failed


# --- training


def test_an_environment_with_boxes():
    file = io.BytesIO()
    picture((560, 420)).save(file, "PNG")
    environment = CropEnvironment(ViewLimits(3136, 12845056, 28), boxes="free")
    environment.reset(original={"bytes": file.getvalue()}, question="?")
    assert environment.area == 0
    width, height = environment.views[0].image.size
    shown = environment.get_crops(free_box.format_call((0, 0, width // 2, height // 2)))
    assert len(shown) == 1
    assert environment.call.status == "valid"
    assert environment.area == pytest.approx(0.25, abs=0.02)
    assert environment.rtr == sum(environment.tokens) / 300
    environment.get_crops("GET_CROPS: [9, 9, 3, 3]")
    assert (environment.call.status, environment.crops, environment.area) == ("invalid", ("all",), 1.0)
    assert json.dumps(environment.call.note)
