"""The lmms-eval models: token counts, policies, batching, limits, failures, journal, adapters."""

import json
import re
import shutil
import zlib

import pytest
import torch
from harness import TASK, answers, document, picture, requests
from PIL import Image
from transformers import Qwen2VLImageProcessor

from lmms_awares.crops import CROPS
from lmms_awares.errors import ConfigError
from lmms_awares.models.adaptvision import AdaptVision
from lmms_awares.models.awares import Awares
from lmms_awares.models.ergo import Ergo
from lmms_awares.models.pruned import Pruned, VisionZip
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import CALL_BUDGET, ToolCall, adaptvision, ergo, get_crops
from lmms_awares.trace import SCHEMA_VERSION, parse_trace

SIZES = [(640, 480), (300, 500), (850, 600), (96, 64), (420, 336)]
LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture
def build(small_checkpoint):
    """Models on the small checkpoint, fp32, CPU."""

    def make(kind=Awares, batch_size=1, **arguments):
        arguments = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **arguments}
        return kind(device="cpu", batch_size=batch_size, **arguments)

    return make


def call_sometimes(text):
    """A stand-in for a trained policy: a call that depends on nothing but what the model really said."""
    choice = zlib.crc32(text.encode()) % 4
    ids = ((), ("0",), ("0", "5"), ("all",))[choice]
    return ToolCall(ids, "valid", text) if ids else None


@pytest.fixture
def calling(monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", call_sometimes)


def real_grid(image):
    """(width, height) in px that the real image processor gives an image."""
    processor = Qwen2VLImageProcessor(min_pixels=LIMITS["min_pixels"], max_pixels=LIMITS["max_pixels"])
    _, rows, columns = processor(images=[image], return_tensors="pt")["image_grid_thw"][0].tolist()
    return columns * 14, rows * 14


def real_tokens(image, size=None):
    width, height = real_grid(image.resize(size) if size else image)
    return width * height // 784


@pytest.mark.parametrize("base", ["processed", "raw"])
@pytest.mark.parametrize("policy", ["never", "always_full", "random", "model"])
def test_tokens_equal_the_real_processors(build, docs, policy, base, calling):
    """Each view's size worked out here from the definitions; its tokens by the real processor."""
    for doc, (_, trace) in zip(docs, answers(build(policy=policy, lowres_base=base), docs), strict=True):
        (image,) = doc["images"]
        grid = real_grid(image)
        whole = grid if base == "processed" else image.size
        assert trace.full_tokens == real_tokens(image)
        half = real_tokens(image, (whole[0] // 2, whole[1] // 2))
        assert trace.lowres_tokens == min(half, trace.full_tokens)
        for crop in trace.crops:
            left, top, right, bottom = CROPS[crop.id].box(*image.size)
            size = round((right - left) * whole[0] / image.width), round((bottom - top) * whole[1] / image.height)
            assert crop.tokens == real_tokens(image, size if crop.id != "all" else None)
        assert trace.visual_tokens == trace.lowres_tokens + sum(crop.tokens for crop in trace.crops)
        assert trace.rtr == trace.visual_tokens / trace.full_tokens


TOLD = {
    "full": (FullResolution, {}, ("qwen2_5_vl_full", 1.0, "full", None)),
    "lowres": (LowResolution, {}, ("qwen2_5_vl_lowres", 0.25, "lowres", None)),
    "model": (Awares, {}, ("awares", None, "lowres", "model")),
    "control": (Awares, {"policy": "never"}, ("awares:never", None, "lowres", "never")),
    "blank": (Awares, {"crops": "blank"}, ("awares:blank-crops", None, "lowres", "model")),
    "pruned": (Pruned, {"pruner": "random", "retain_ratio": 0.5}, ("pruned+random@0.5", 0.5, "full", None)),
    "named": (VisionZip, {"retain_ratio": 0.7}, ("visionzip@0.7", 0.7, "full", None)),
    "both": (
        Awares,
        {"policy": "random", "pruner": "visionzip", "retain_ratio": 0.7},
        ("awares:random+visionzip@0.7", 0.7, "lowres", "random"),
    ),
    "visionthink": (VisionThink, {}, ("visionthink", None, "lowres", None)),
    "adaptvision": (AdaptVision, {}, ("adaptvision", None, "lowres", "model")),
    "ergo": (Ergo, {"policy": "oracle"}, ("ergo:oracle", None, "lowres", "oracle")),
}


@pytest.mark.parametrize(("kind", "arguments", "told"), TOLD.values(), ids=TOLD)
def test_traces_tell_the_method(build, monkeypatch, kind, arguments, told):
    """Of a sample that failed, too."""
    for protocol in (adaptvision, ergo):
        monkeypatch.setattr(protocol, "ROUND_TOKENS", 4)
    shown = document((300, 200), evidence_box=None)
    lost = shown | {"question": None}
    for _, trace in answers(build(kind, **arguments), [shown, lost]):
        assert (trace.method, trace.nominal, trace.view, trace.policy) == told
        assert (trace.conditions.family, trace.conditions.engine) == ("qwen2_5_vl", "local")
        assert trace.schema_version == SCHEMA_VERSION
    assert trace.failed


def test_full_and_lowres_baselines(build, docs):
    for _, trace in answers(build(FullResolution), docs):
        assert (trace.rtr, trace.tool_call, trace.crops) == (1.0, None, [])
        assert trace.prompt == "default"
    for _, trace in answers(build(LowResolution), docs):
        assert trace.visual_tokens == trace.lowres_tokens <= trace.full_tokens


def test_never_equals_the_lowres_baseline(build, docs):
    never, lowres = answers(build(policy="never"), docs), answers(build(LowResolution), docs)
    assert [a for a, _ in never] == [a for a, _ in lowres]
    assert [t.visual_tokens for _, t in never] == [t.visual_tokens for _, t in lowres]


def test_always_full_shows_the_full_view_once(build, docs):
    for doc, (_, trace) in zip(docs, answers(build(policy="always_full"), docs), strict=True):
        if doc["images"][0].size == (96, 64):  # the low-res view is the full view already
            assert (trace.tool_call, trace.rtr) == (None, 1.0)
        else:
            assert [crop.id for crop in trace.crops] == ["all"]
            assert trace.tool_call.forced
            assert trace.visual_tokens == trace.lowres_tokens + trace.full_tokens
            assert trace.visual_tokens_processed == trace.visual_tokens


def test_random_is_seeded(build):
    docs = [document((420, 336), seed) for seed in range(24)]

    def asked(**arguments):
        traces = [trace for _, trace in answers(build(policy="random", **arguments), docs)]
        return [tuple(trace.tool_call.ids) if trace.tool_call else () for trace in traces]

    first = asked(seed=1)
    assert first == asked(seed=1, batch_size=4)
    assert first != asked(seed=2)
    assert 6 <= first.count(()) <= 18  # half of the time; 24 fair coins leave this range once in 300 seeds
    assert len(set(first)) > 4


def test_oracle_asks_for_the_evidence(build):
    docs = [
        document((800, 600), 0, evidence_box=[10, 10, 60, 40], lowres_suffices=False),
        document((800, 600), 1, evidence_box=[10, 10, 60, 40], lowres_suffices=True),
        document((800, 600), 2, evidence_box=None, lowres_suffices=False),
        document((800, 600), 3, evidence_box=[0, 0, 800, 300], lowres_suffices=False),
    ]
    asked = [trace.tool_call.ids if trace.tool_call else [] for _, trace in answers(build(policy="oracle"), docs)]
    assert asked[:3] == [["0"], [], []]
    assert asked[3] in (["0"], ["1"], ["5"])  # all reach IoU 0.5; a quadrant is the cheapest
    with pytest.raises(ConfigError, match="evidence_box.*toy has none"):
        answers(build(policy="oracle"), [document((800, 600))])


@pytest.mark.parametrize(
    "box", [[10, 10, 10, 20], [900, 10, 950, 20], [0, 0, 9999, 9999], [None] * 4, [1, 2, 3], "box"], ids=str
)
def test_oracle_with_a_bad_box_fails_that_sample_only(build, box):
    docs = [document((800, 600), 0, evidence_box=box), document((800, 600), 1, evidence_box=[10, 10, 60, 40])]
    (_, bad), (_, good) = answers(build(policy="oracle", batch_size=2), docs)
    assert "evidence_box" in bad.failed
    assert good.tool_call.ids == ["0"]


def test_oracle_follows_the_minimum_crop_side(build):
    docs = [document((112, 112), 0, evidence_box=[0, 0, 50, 50])]
    ((_, trace),) = answers(build(policy="oracle", min_crop_side=28, min_pixels=784), docs)
    assert trace.tool_call.ids == ["0"]
    assert trace.crops[0].tokens == 4


def test_batches_equal_singles(build, docs, calling):
    docs = [*docs, *(document(size, 50 + seed) for seed, size in enumerate(SIZES))]
    single, batched = answers(build(), docs), answers(build(batch_size=4), docs)
    assert [a for a, _ in single] == [a for a, _ in batched]
    for (_, one), (_, four) in zip(single, batched, strict=True):
        assert one.visual_tokens == four.visual_tokens
        assert one.tool_call == four.tool_call
        assert [turn.text for turn in one.turns] == [turn.text for turn in four.turns]
    assert len({bool(trace.tool_call) for _, trace in single}) == 2, "the batch must mix calls and direct answers"


def test_reprefilling_changes_nothing_but_the_work(build, docs, calling):
    reused, fresh = answers(build(), docs), answers(build(reuse_cache=False), docs)
    assert [a for a, _ in reused] == [a for a, _ in fresh]
    for (_, one), (_, two) in zip(reused, fresh, strict=True):
        assert one.visual_tokens == two.visual_tokens
        again = two.lowres_tokens if two.tool_call else 0
        assert two.visual_tokens_processed - one.visual_tokens_processed == again
        # RTR counts each visual token once, also where it is prefilled twice (Eq. 9).
        assert one.rtr == two.rtr == two.visual_tokens / two.full_tokens


def test_unusable_call_gets_the_whole_image_and_is_no_call(build, monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", lambda text: ToolCall((), "invalid", "GET_CROPS: []"))
    ((_, trace),) = answers(build(), [document((640, 480))])
    assert [crop.id for crop in trace.crops] == ["all"]
    assert trace.tool_call.status == "invalid"
    assert not trace.called


def test_answers_and_calls_have_their_own_limits(build, monkeypatch):
    """The task's limit holds for answers in both turns; a call may be longer, up to its own budget."""
    seen = []

    def spy(text):
        seen.append(text)
        return call_sometimes(text)

    monkeypatch.setattr(get_crops, "parse_reply", spy)
    model = build()
    docs = [document(size, seed) for seed, size in enumerate(SIZES * 2)]
    for answer, trace in answers(model, docs, max_new_tokens=5):
        assert trace.turns[-1].new_tokens <= 5
        assert answer == trace.turns[-1].text.strip()
        assert trace.truncated
        if trace.tool_call:
            assert trace.turns[0].new_tokens == CALL_BUDGET  # the random model never ends a turn by itself
    decoded = model.engine.chat.tokenizer
    assert max(len(decoded.encode(text)) for text in seen) > 5, "the parser must see more than the task's limit"


def test_direct_answer_equals_the_baselines_under_the_same_limit(build, docs):
    """With the same prompt and no call, awares' longer first turn must not change the answer."""
    own = answers(build(prompt="default"), docs, max_new_tokens=5)
    base = answers(build(LowResolution), docs, max_new_tokens=5)
    assert [a for a, _ in own] == [a for a, _ in base]
    assert [t.truncated for _, t in own] == [t.truncated for _, t in base]


def test_checkpoints_sampling_defaults_are_dropped(build, docs, small_checkpoint, tmp_path):
    folder = tmp_path / "with-defaults"
    shutil.copytree(small_checkpoint, folder)
    defaults = {"repetition_penalty": 5.0, "do_sample": True, "temperature": 3.0, "top_k": 7, "eos_token_id": 1}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    assert texts(answers(build(pretrained=str(folder)), docs)) == texts(answers(build(), docs))


def texts(pairs):
    return [answer for answer, _ in pairs]


def test_sampling_is_seeded_per_sample(build, docs):
    def sampled(**arguments):
        return texts(answers(build(FullResolution, **arguments), docs, temperature=1.0))

    first = sampled(seed=3)
    assert first == sampled(seed=3, batch_size=4)
    assert first != sampled(seed=4)
    assert first != texts(answers(build(FullResolution), docs))
    alone = build(FullResolution, seed=3)
    alone.task_dict = {TASK: {"test": docs}}
    assert alone.generate_until(requests(docs, temperature=1.0)[2:3])[0][0].startswith(first[2])


class Broken(Image.Image):
    """An image whose pixels cannot be read, like a truncated file."""

    def __init__(self):
        super().__init__()
        self._mode, self._size = "P", (64, 64)

    def load(self):
        raise OSError("image file is truncated")


def test_one_bad_sample_does_not_stop_the_others(build, docs):
    unreadable = {"images": [Broken()], "question": "?"}
    two = {"images": [picture((200, 200)), picture((300, 200))], "question": "?"}
    none = {"images": [], "question": "?"}
    thin = {"images": [Image.new("RGB", (1000, 2))], "question": "?"}
    mixed = [docs[0], unreadable, two, none, thin, docs[1]]
    good = texts(answers(build(), [docs[0], docs[1]]))
    pairs = answers(build(batch_size=6), mixed)
    assert texts(pairs) == [good[0], "", "", "", "", good[1]]
    reasons = [trace.failed for _, trace in pairs]
    assert reasons[0] is None
    assert reasons[5] is None
    for reason, words in zip(reasons[1:5], ["truncated", "exactly one image.*has 2", "no image", "ratio"], strict=True):
        assert reason
        assert re.search(words, reason)
    assert pairs[1][1].rtr is None


def test_video_is_refused(build):
    def with_video(doc):
        return [{"role": "user", "content": [{"type": "video", "url": "a.mp4"}, {"type": "text", "text": "?"}]}]

    ((answer, trace),) = answers(build(FullResolution), [{}], messages=with_video)
    assert answer == ""
    assert "video" in trace.failed


@pytest.mark.parametrize("kind", [FullResolution, LowResolution])
def test_several_images_are_summed(build, kind):
    docs = [{"images": [picture((640, 480), 1), picture((420, 336), 2)], "question": "Which is larger?"}]
    alone = [answers(build(kind), [document(size, seed)])[0][1] for seed, size in ((1, (640, 480)), (2, (420, 336)))]
    ((answer, trace),) = answers(build(kind), docs)
    assert trace.failed is None
    assert trace.images == 2
    assert trace.visual_tokens == sum(t.visual_tokens for t in alone)
    assert trace.full_tokens == sum(t.full_tokens for t in alone)
    batch = answers(build(kind, batch_size=2), [docs[0], document((300, 500), 3)])
    assert batch[0][0] == answer


def test_paths_and_transparency(build, tmp_path):
    """A path reads as the image does; transparent pixels become white, not black."""
    image = picture((200, 160))
    image.save(tmp_path / "a.png")
    clear = image.convert("RGBA")
    clear.putalpha(0)
    white = {"images": [Image.new("RGB", (200, 160), "white")], "question": "?"}
    model = build(FullResolution)
    assert texts(answers(model, [{"images": [str(tmp_path / "a.png")], "question": "?"}])) == texts(
        answers(model, [{"images": [image], "question": "?"}])
    )
    assert texts(answers(model, [{"images": [clear], "question": "?"}])) == texts(answers(model, [white]))


def test_stock_tasks_get_clean_answers(build, docs):
    model = build(policy="random")
    model.task_dict = {TASK: {"test": docs}}
    for text, counts in model.generate_until(requests(docs, envelope=False)):
        assert "awares-trace" not in text
        assert counts["input_tokens"] > 0
        assert counts["output_tokens"] == 8


@pytest.mark.parametrize("said", ["a</think>b", "x <|awares-trace|>{}<|/awares-trace|> y", "1 < 2 <think>"])
def test_model_text_cannot_break_the_envelope(build, docs, said, monkeypatch):
    model = build(FullResolution)
    monkeypatch.setattr(model.engine.chat, "decode", lambda ids: said)
    for answer, trace in answers(model, docs):
        assert answer == said
        assert trace.turns[0].text == said


class TestJournal:
    def count_generated(self, model, docs, **kwargs):
        generated = []
        original = model.answer
        model.answer = lambda samples: (generated.extend(samples), original(samples))[1]
        pairs = answers(model, docs, **kwargs)
        return len(generated), pairs

    def test_resumes(self, build, docs, tmp_path):
        journal = tmp_path / "journal.jsonl"
        first = answers(build(journal=journal), docs[:3])
        assert len(journal.read_text().splitlines()) == 3
        count, pairs = self.count_generated(build(journal=journal), docs)
        assert count == 2
        assert [trace.reused for _, trace in pairs] == [True, True, True, False, False]
        # The stored traces too, times included.
        assert [(a, trace.model_copy(update={"reused": False})) for a, trace in pairs[:3]] == first

    def test_failed_samples_are_tried_again(self, build, docs, tmp_path):
        journal = tmp_path / "journal.jsonl"
        answers(build(journal=journal), [docs[0], {"images": [Broken()], "question": "?"}])
        count, _ = self.count_generated(build(journal=journal), [docs[0], docs[1]])
        assert count == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"policy": "never"},
            {"max_pixels": 300 * 784},
            {"lowres_base": "raw"},
            {"seed": 1},
            {"prompt": "default"},
            {"min_crop_side": 50},
            {"crops": "blank"},
            {"dtype": "bfloat16"},
        ],
        ids=str,
    )
    def test_another_setting_reuses_nothing(self, build, docs, tmp_path, change):
        journal = tmp_path / "journal.jsonl"
        answers(build(journal=journal), docs[:2])
        count, _ = self.count_generated(build(journal=journal, **change), docs[:2])
        assert count == 2

    def test_another_checkpoint_document_or_limit_reuses_nothing(self, build, docs, tmp_path, small_checkpoint):
        journal = tmp_path / "journal.jsonl"
        folder = tmp_path / "retrained"
        shutil.copytree(small_checkpoint, folder)
        answers(build(journal=journal, pretrained=str(folder)), docs[:2])
        same = {"journal": journal, "pretrained": str(folder)}
        assert self.count_generated(build(**same), docs[:2])[0] == 0
        assert self.count_generated(build(**same), docs[:2], max_new_tokens=9)[0] == 2
        edited = [{**docs[0], "question": "And now?"}, {**docs[1], "images": [picture((300, 500), 99)]}]
        assert self.count_generated(build(**same), edited)[0] == 2
        retrain(folder)
        assert self.count_generated(build(**same), docs[:2])[0] == 2

    def test_another_evidence_box_reuses_nothing(self, build, tmp_path):
        journal = tmp_path / "journal.jsonl"
        asked = []
        for box in ([0, 0, 80, 60], [500, 400, 560, 440], None):
            doc = document((640, 480), 0, evidence_box=box)
            ((_, trace),) = answers(build(policy="oracle", journal=journal), [doc])
            asked.append(trace.tool_call and trace.tool_call.ids)
        assert asked == [["0"], ["3"], None]


def test_repeated_sampling_differs(build, docs):
    """lmms-eval's --repeats hands over the same request several times."""
    model = build(FullResolution)
    model.task_dict = {TASK: {"test": docs}}
    (request,) = requests(docs[:1], temperature=1.5, envelope=False)
    said = [text for text, _ in model.generate_until([request] * 3)]
    assert len(set(said)) == 3
    assert said == [text for text, _ in model.generate_until([request] * 3)]


def retrain(folder):
    """Change one weight in place, same path, same size."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[min(weights)] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_rev_pins_the_content(build, small_checkpoint):
    revision = build().engine.revision
    build(rev=f"sha-{revision[:12]}")
    with pytest.raises(ConfigError, match="rev=sha-0123 was expected, but this is rev=sha-"):
        build(rev="sha-0123")
    with pytest.raises(ConfigError, match="setup=sha-0123 was expected"):
        build(setup="sha-0123")
    with pytest.raises(ConfigError, match="rev"):
        build(rev=12345)  # what lmms-eval's parser makes of digits without the prefix


def test_adapter_is_merged(build, docs, small_checkpoint, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2_5_VLForConditionalGeneration

    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(small_checkpoint)
    torch.manual_seed(0)
    tuned = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    merged = tmp_path / "merged"
    shutil.copytree(small_checkpoint, merged)
    tuned.merge_and_unload().save_pretrained(merged)
    with_adapter = build(FullResolution, adapter=str(tmp_path / "adapter"))
    assert texts(answers(with_adapter, docs)) == texts(answers(build(FullResolution, pretrained=str(merged)), docs))
    assert texts(answers(with_adapter, docs)) != texts(answers(build(FullResolution), docs))
    assert with_adapter.engine.revision != build(FullResolution).engine.revision


def test_trace_is_complete(build, docs):
    ((_, trace),) = answers(build(policy="always_full"), docs[:1])
    stored = json.loads(trace.model_dump_json())
    required = (
        "model prompt image_size full_tokens lowres_tokens crops visual_tokens visual_tokens_processed rtr tool_call "
        "turns preprocess_s latency_s response_chars truncated"
    )
    assert set(required.split()) <= set(stored)
    assert parse_trace(stored) == trace
    assert stored["prompt"] == "own"
    assert stored["image_size"] == [640, 480]
    assert trace.latency_s >= trace.turns[-1].seconds > 0
    assert trace.preprocess_s > 0
    assert trace.response_chars == sum(len(turn.text) for turn in trace.turns)
    assert stored["conditions"]["max_pixels"] == LIMITS["max_pixels"]
    assert {crop.id for crop in trace.crops} <= set(CROPS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"polcy": "never"}, "unknown model argument polcy.*known: pretrained"),
        ({"policy": "maybe"}, "policy.*'maybe'"),
        ({"min_pixels": 9000, "max_pixels": 4000}, "min_pixels <= max_pixels"),
        ({"pretrained": "/nowhere/at/all"}, "does not exist"),
        ({"batch_size": "auto"}, "batch_size=auto"),
        ({"prompt": "no-such-prompt"}, "no-such-prompt"),
        ({"lowres_base": "quarter"}, "lowres_base"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments(build, arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        build(**arguments)
    assert "\n" not in str(caught.value)


def test_published_processor_layout(build, docs, small_checkpoint, tmp_path):
    """The published Qwen2.5-VL folders have transformers 4's files: same limits, same answers."""
    folder = tmp_path / "published"
    shutil.copytree(small_checkpoint, folder)
    (folder / "processor_config.json").unlink()
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    settings = {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    options = {"min_pixels": None, "max_pixels": None}
    old, new = (build(FullResolution, pretrained=str(path), **options) for path in (folder, small_checkpoint))
    assert old.engine.chat.pixel_limits == (3136, 12845056)
    assert texts(answers(old, docs)) == texts(answers(new, docs))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_beams": 4}, "num_beams=4"),
        ({"max_new_tokens": 0}, "max_new_tokens >= 1"),
        ({"temperature": -1}, "temperature >= 0"),
        ({"temperature": float("nan")}, "temperature >= 0"),
        ({"temperature": float("inf")}, "temperature >= 0"),
        ({"max_new_tokens": float("inf")}, "hold a value that is no number"),
        ({"top_p": 1.5}, "top_p <= 1"),
        ({"temperature": "hot"}, "no number"),
    ],
    ids=str,
)
def test_bad_generation_arguments(build, docs, kwargs, words):
    with pytest.raises(ConfigError, match=words):
        answers(build(), docs[:1], **kwargs)


def test_wrong_checkpoints(build, small_checkpoint, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    (tmp_path / "hollow").mkdir()
    shutil.copy(small_checkpoint / "config.json", tmp_path / "hollow")
    for name in ("torn", "mute"):
        shutil.copytree(small_checkpoint, tmp_path / name)
    (tmp_path / "torn" / "config.json").write_text('{"model_type"')
    (tmp_path / "mute" / "tokenizer.json").unlink()
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "adapter_config.json").write_text("{}")
    reasons = {
        "bert": "'bert' model",
        "lora": "PEFT adapter",
        "hollow": "no weights",
        "torn": "not a JSON object",
        "mute": "has no tokenizer",
    }
    with pytest.raises(ConfigError, match="adapter=.* holds no weights"):
        build(adapter=str(tmp_path / "light"))
    for folder, words in reasons.items():
        with pytest.raises(ConfigError, match=words):
            build(pretrained=str(tmp_path / folder))
    with pytest.raises(ConfigError, match="adapter=.*no adapter_config.json"):
        build(adapter=str(tmp_path / "bert"))
