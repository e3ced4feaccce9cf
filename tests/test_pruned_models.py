"""The pruned lmms-eval models: counts and RTR in the trace, controls, AwaRes with a pruner, bad input, a new method."""

from dataclasses import dataclass
from importlib import import_module
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from harness import answers, document, picture

from lmms_awares.errors import ConfigError
from lmms_awares.models import MODELS
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import ARGS
from lmms_awares.models.pruned import HoloV, Pruned, SparseVLM, VisionZip
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.protocol import ToolCall, get_crops
from lmms_awares.pruning import PRUNERS
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner
from lmms_awares.pruning.downsample import select as small_grid
from lmms_awares.pruning.stages import StagedPruner
from lmms_awares.views import render_lowres, show

# 108 to 300 visual tokens, and one image of 6.
SIZES = [(336, 252), (560, 420), (300, 500), (392, 364), (448, 308), (64, 96)]
COMPOSABLE = [name for name in PRUNERS if PRUNERS[name].second_prefill]


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture
def build(small_checkpoint):
    def make(kind=Pruned, batch_size=1, **arguments):
        fixed = {"pretrained": str(small_checkpoint), "dtype": "float32", "max_pixels": 600 * 784}
        return kind(device="cpu", batch_size=batch_size, **{**fixed, **arguments})

    return make


def traces(pairs):
    assert [trace.failed for _, trace in pairs] == [None] * len(pairs)
    return [trace for _, trace in pairs]


@pytest.mark.parametrize("ratio", [0.5, 0.7])
@pytest.mark.parametrize("name", PRUNERS)
def test_rtr_is_what_was_counted(build, docs, name, ratio):
    """RTR from the counts of each sample; on images of 100 tokens and more its mean is near the nominal ratio."""
    found = traces(answers(build(pruner=name, retain_ratio=ratio, batch_size=3), docs, max_new_tokens=2))
    for trace in found:
        pruning = trace.pruning
        assert (pruning.pruner, pruning.retain_ratio) == (name, ratio)
        assert trace.visual_tokens == trace.visual_tokens_processed == pytest.approx(pruning.mean_post)
        assert trace.rtr == trace.visual_tokens / trace.full_tokens
        assert 1 <= pruning.final_tokens <= pruning.entering_tokens <= pruning.encoded_tokens <= trace.full_tokens
        assert len(pruning.kv_lengths) == 4
        if issubclass(PRUNERS[name], StagedPruner):
            assert pruning.entering_tokens == trace.full_tokens
            assert pruning.mean_post <= pruning.mean_input <= pruning.entering_tokens
            assert pruning.kv_lengths[-1] <= pruning.kv_lengths[0]
        else:
            kept = pruning.entering_tokens
            assert pruning.final_tokens == pruning.mean_post == pruning.mean_input == trace.visual_tokens == kept
            assert len(set(pruning.kv_lengths)) == 1
            assert (pruning.encoded_tokens == kept) == (name == "downsample" or kept == trace.full_tokens)
    assert abs(fmean(trace.rtr for trace in found if trace.full_tokens >= 100) - ratio) < 0.01


@pytest.mark.parametrize("name", PRUNERS)
def test_keeping_all_answers_like_the_full_baseline(build, docs, name):
    full, kept = answers(build(FullResolution), docs), answers(build(pruner=name, retain_ratio=1), docs)
    assert [answer for answer, _ in full] == [answer for answer, _ in kept]
    assert [trace.rtr for _, trace in kept] == [1.0] * len(docs)
    assert [trace.pruning for _, trace in full] == [None] * len(docs)


def test_named_models_are_pruned_with_that_pruner(build, docs):
    for kind in (VisionZip, HoloV, SparseVLM):
        named = answers(build(kind, retain_ratio=0.4), docs[:2])
        general = answers(build(pruner=kind.model_id, retain_ratio=0.4), docs[:2])
        assert [answer for answer, _ in named] == [answer for answer, _ in general]
        assert [t.model for t in traces(named)] == [kind.model_id] * 2
        assert [t.visual_tokens for t in traces(named)] == [t.visual_tokens for t in traces(general)]


def test_every_model_is_registered_with_its_arguments():
    assert set(MODELS) == set(ARGS)
    for name, path in MODELS.items():
        module, kind = path.rsplit(".", 1)
        assert getattr(import_module(module), kind).model_id == name


@pytest.mark.parametrize("name", ["random", "sparsevlm"])
def test_seeded(build, docs, name):
    """The same tokens alone, in a batch, and behind other samples."""

    def run(order, **arguments):
        pairs = answers(build(pruner=name, retain_ratio=0.3, **arguments), [docs[i] for i in order])
        return {i: answer for i, (answer, _) in zip(order, pairs, strict=True)}

    assert run([2, 1, 0], batch_size=3) == run([0, 1, 2])


def test_random_depends_on_the_pixels_and_the_seed():
    def kept(pixels, seed):
        image = EncodedImage(torch.zeros(100, 8), pixels, torch.zeros(8), (10, 10))
        return tuple(PRUNERS["random"](0.5, seed=seed).keep(image).index.tolist())

    one, other = torch.rand(400, 12), torch.rand(400, 12)
    assert kept(one, 0) == kept(one.clone(), 0)
    assert len({kept(one, 0), kept(other, 0), kept(one, 1)}) == 3
    assert len(set(kept(one, -1))) == 50


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_downsampling_keeps_shape_and_count(ratio):
    for columns, rows in [(10, 10), (30, 22), (64, 48), (7, 40), (1, 50), (1, 1)]:
        keep = ratio * columns * rows
        small = small_grid(columns, rows, keep)
        assert 1 <= small[0] <= columns
        assert 1 <= small[1] <= rows
        if keep > 50:
            assert small[0] * small[1] == pytest.approx(keep, rel=0.06)
            assert small[0] / small[1] == pytest.approx(columns / rows, rel=0.2)


@pytest.mark.parametrize("ratio", [0.5, 0.7])
def test_downsampling_distorts_no_more_than_documented(ratio):
    """Every grid of 8 to 64 tokens a side and at most 4:1; the bounds of docs/methods/controls.md."""
    sides = range(8, 65)
    grids = [(c, r) for c in sides for r in sides if max(c, r) <= 4 * min(c, r)]
    small = [small_grid(c, r, ratio * c * r) for c, r in grids]
    factors = [a * r / (b * c) for (a, b), (c, r) in zip(small, grids, strict=True)]
    misses = [a * b / (ratio * c * r) for (a, b), (c, r) in zip(small, grids, strict=True)]
    assert max(max(factor, 1 / factor) for factor in factors) < 1.21
    assert max(max(miss, 1 / miss) for miss in misses) < 1.072
    assert small_grid(8, 20, 80) == (6, 13)


@pytest.mark.parametrize(("size", "equal"), [((560, 448), True), ((1120, 896), True), ((336, 252), False)])
def test_downsampling_to_a_quarter_is_the_low_resolution(build, size, equal):
    """Pixel by pixel, where the full view has an even number of tokens a side; else the two round differently."""
    model, image, views = build(pruner="downsample", retain_ratio=0.25, max_pixels=16384 * 784), picture(size), []
    plan = model.plan(image)

    def make(small, *, at_grid):
        assert at_grid
        views.extend(small)
        return SimpleNamespace(visual_tokens=[view.height * view.width // 784 for view in small])

    model.engine.segment(make, [show(image, plan, "full")])
    low = render_lowres(image, plan)
    assert (views[0].size == low.size) == equal
    assert (views[0].tobytes() == low.tobytes()) == equal


def test_downsampling_to_a_quarter_answers_like_the_low_resolution(build):
    docs = [document((560, 448), 1), document((448, 560), 2)]
    small = answers(build(pruner="downsample", retain_ratio=0.25), docs)
    low = answers(build(LowResolution), docs)
    assert [answer for answer, _ in small] == [answer for answer, _ in low]
    assert [t.visual_tokens for t in traces(small)] == [t.visual_tokens for t in traces(low)] == [80, 80]


def test_downsampling_goes_below_min_pixels(build):
    """The pixel limits shape the full view; the ratio is of that, and is met."""
    model = build(pruner="downsample", retain_ratio=0.25, min_pixels=400 * 784)
    (trace,) = traces(answers(model, [document((300, 300))]))
    assert trace.full_tokens == 400
    assert trace.visual_tokens == 100


@pytest.mark.parametrize("name", PRUNERS)
def test_several_images_and_one_token(build, name):
    docs = [
        {"images": [picture((336, 252), 1), picture((560, 420), 2)], "question": "Which is larger?"},
        {"images": [picture((28, 28), 3)], "question": "?"},
    ]
    model = build(pruner=name, retain_ratio=0.5, min_pixels=784)
    two, one = traces(answers(model, docs))
    assert two.images == 2
    assert abs(two.rtr - 0.5) < 0.02
    assert (one.full_tokens, one.visual_tokens) == (1, 1)


# AwaRes ---------------------------------------------------------------------------------------------------------------


def call_always(text):
    return ToolCall(("0", "5"), "valid", text)


@pytest.mark.parametrize("policy", ["model", "always_full"])
@pytest.mark.parametrize("name", COMPOSABLE)
def test_awares_prunes_every_view_of_both_turns(build, docs, name, policy, monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", call_always)
    arguments = {"policy": policy, "batch_size": 3}
    plain = traces(answers(build(Awares, **arguments), docs[:3]))
    pruned = traces(answers(build(Awares, pruner=name, retain_ratio=0.7, **arguments), docs[:3]))
    full = {"full_tokens", "lowres_tokens", "crops", "image_size"}
    for before, after in zip(plain, pruned, strict=True):
        assert before.model_dump(include=full) == after.model_dump(include=full)
        assert len(after.turns) == 2
        views = [after.lowres_tokens, *(crop.tokens for crop in after.crops)]
        assert before.visual_tokens == sum(views)
        assert abs(after.visual_tokens - 0.7 * sum(views)) <= 2 * len(views)
        assert after.rtr == after.visual_tokens / after.full_tokens < before.rtr
        assert after.pruning.entering_tokens == after.visual_tokens
        assert after.pruning.encoded_tokens == (after.visual_tokens if name == "downsample" else sum(views))


@pytest.mark.parametrize("name", COMPOSABLE)
def test_awares_with_a_pruner_equals_prefilling_again(build, docs, name, monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", call_always)
    arguments = {"pruner": name, "retain_ratio": 0.6, "batch_size": 3}
    cached = answers(build(Awares, **arguments), docs[:3])
    again = answers(build(Awares, reuse_cache=False, **arguments), docs[:3])
    for (one, cheap), (other, dear) in zip(cached, again, strict=True):
        assert one == other
        assert cheap.visual_tokens == dear.visual_tokens == cheap.visual_tokens_processed
        assert dear.visual_tokens < dear.visual_tokens_processed < 2 * dear.visual_tokens


def test_without_a_second_turn_every_pruner_goes(build, docs):
    """`never` shows one view, so nothing is appended to a cache that was pruned inside the model."""
    (trace,) = traces(answers(build(Awares, pruner="fastv", retain_ratio=0.5, policy="never"), docs[:1]))
    assert trace.pruning.pruner == "fastv"
    assert 0 < trace.visual_tokens < trace.lowres_tokens


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (Pruned, {"pruner": "visionzip", "retain_ratio": 0}, "retain_ratio of pruned: .*greater than 0"),
        (VisionZip, {"retain_ratio": 1.5}, "retain_ratio of visionzip: .*less than or equal to 1"),
        (VisionZip, {"retain_ratio": "half"}, "retain_ratio of visionzip"),
        (HoloV, {}, "retain_ratio of holov is missing"),
        (Pruned, {"retain_ratio": 0.5}, "pruner of pruned is missing"),
        (
            Pruned,
            {"pruner": "tome", "retain_ratio": 0.5},
            f"unknown pruner 'tome'; known: {', '.join(PRUNERS)}; your own: MODULE:CLASS",
        ),
        (VisionZip, {"pruner": "holov", "retain_ratio": 0.5}, "pruner of visionzip"),
        (
            VisionZip,
            {"official_wiring": True, "retain_ratio": 0.5},
            "official_wiring is no option of pruner=visionzip but of holov",
        ),
        (HoloV, {"official_wiring": "maybe", "retain_ratio": 0.5}, "official_wiring of holov: .*boolean.* 'maybe'"),
        (HoloV, {"offical_wiring": True, "retain_ratio": 0.5}, "unknown .*; known: .*retain_ratio, official_wiring$"),
        (SparseVLM, {"schedule": "linear", "retain_ratio": 0.5}, "schedule of sparsevlm"),
        (
            Awares,
            {"pruner": "sparsevlm", "retain_ratio": 0.5},
            f"sparsevlm prunes inside .* use policy=never or one of {', '.join(COMPOSABLE)}$",
        ),
        (
            Awares,
            {"pruner": "fastv", "retain_ratio": 0.5},
            f"fastv prunes inside .* use policy=never or one of {', '.join(COMPOSABLE)}$",
        ),
        (Pruned, {"pruner": "fastv", "retain_ratio": 0.2}, "retain_ratio=0.2 cannot be met by fastv: 1 of 4 layers"),
        (
            Pruned,
            {"pruner": "fastv", "retain_ratio": 0.5, "whole_layers": 4},
            "whole_layers=4 must be below .* 4 layers",
        ),
        (Pruned, {"pruner": "fastv", "retain_ratio": 0.5, "whole_layers": 0}, "whole_layers must be at least 1, got 0"),
        (Pruned, {"pruner": "fastv", "retain_ratio": 0.5, "whole_layers": "two"}, "whole_layers of pruned: .*'two'"),
        (
            Pruned,
            {"pruner": "divprune", "retain_ratio": 0.5, "schedule": "single"},
            "schedule is no option of .*divprune",
        ),
        (Awares, {"pruner": "visionzip"}, "pruner=visionzip needs retain_ratio"),
        (Awares, {"retain_ratio": 0.5}, "retain_ratio needs pruner=NAME"),
        (Awares, {"schedule": "single"}, "schedule needs pruner=sparsevlm or fastv"),
        (FullResolution, {"retain_ratio": 0.5}, "unknown model argument retain_ratio"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments(build, kind, arguments, words):
    with pytest.raises(ConfigError, match=words) as caught:
        build(kind, **arguments)
    assert "\n" not in str(caught.value)


def test_what_only_the_loaded_model_shows_fails_before_generation(build, monkeypatch):
    from lmms_awares.engine import checkpoint

    model, processor = checkpoint.load(build(FullResolution).args, "cpu")
    model.config._attn_implementation = "flash_attention_2"
    monkeypatch.setattr(checkpoint, "load", lambda *_: (model, processor))
    with pytest.raises(ConfigError, match="sparsevlm runs with attn_implementation sdpa or eager"):
        build(SparseVLM, retain_ratio=0.5)


def test_another_ratio_reuses_nothing_of_a_journal(build, docs, tmp_path):
    journal = tmp_path / "journal.jsonl"
    for ratio, lines in ((0.5, 1), (0.5, 1), (0.6, 2)):
        answers(build(VisionZip, retain_ratio=ratio, journal=journal), docs[:1])
        assert len(journal.read_text().splitlines()) == lines


# A new method ---------------------------------------------------------------------------------------------------------


@dataclass
class Checkerboard(Pruner):
    """Every other token."""

    name = "checkerboard"

    start: int = 0

    def keep(self, image: EncodedImage) -> Kept:
        index = torch.arange(self.start, len(image.embeds), 2, device=image.embeds.device)
        return Kept.of(image, index)


def test_a_new_pruner_takes_one_class_and_one_registry_line(build, docs, monkeypatch):
    monkeypatch.setitem(PRUNERS, "checkerboard", Checkerboard)
    for trace in traces(answers(build(pruner="checkerboard", retain_ratio=0.5, batch_size=2), docs)):
        assert trace.visual_tokens == -(-trace.full_tokens // 2)
        assert trace.pruning.pruner == "checkerboard"
    (trace,) = traces(answers(build(Awares, pruner="checkerboard", retain_ratio=0.5, policy="always_full"), docs[:1]))
    assert trace.visual_tokens == -(-trace.lowres_tokens // 2) - (-trace.full_tokens // 2)
    with pytest.raises(ConfigError, match="known: visionzip, .*checkerboard"):
        build(pruner="chequerboard", retain_ratio=0.5)


@pytest.mark.parametrize(("given", "start"), [({}, 0), ({"start": 1}, 1)])
def test_a_new_pruners_option_arrives(build, monkeypatch, given, start):
    """From the dataclass's field alone, of the type that it states."""
    monkeypatch.setitem(PRUNERS, "checkerboard", Checkerboard)
    model = build(pruner="checkerboard", retain_ratio=0.5, **given)
    (trace,) = traces(answers(model, [document((252, 252))]))
    assert (trace.full_tokens, trace.visual_tokens) == (81, 41 - start)
    with pytest.raises(ConfigError, match="start of pruned: .*integer.* 'one'"):
        build(pruner="checkerboard", retain_ratio=0.5, start="one")
    with pytest.raises(ConfigError, match="start is no option of pruner=random but of checkerboard"):
        build(pruner="random", retain_ratio=0.5, start=1)
    with pytest.raises(ConfigError, match="start needs pruner=checkerboard"):
        build(Awares, start=1)


@dataclass
class Rerooted(Checkerboard):
    """An option that would take the place of a model argument."""

    name = "rerooted"
    prompt: str = "own"


def test_an_option_must_not_hide_a_model_argument(build, monkeypatch):
    monkeypatch.setitem(PRUNERS, "rerooted", Rerooted)
    with pytest.raises(ConfigError, match="option prompt of pruner Rerooted is a model argument already; rename it"):
        build(pruner="rerooted", retain_ratio=0.5)
