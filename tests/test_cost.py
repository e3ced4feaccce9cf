"""The cost model against operations counted in real models, and against real caches."""

import copy
import importlib.util
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from harness import answers, document, picture
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import AutoProcessor, DynamicCache, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from lmms_awares.cost import Meter, Shape, decode_flops, head_flops, kv_bytes, prefill_flops, vision_flops
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.turns import Decoding, Opening
from lmms_awares.errors import ConfigError
from lmms_awares.families import family_of
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import CommonArgs
from lmms_awares.models.pruned import Pruned
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import ToolCall, get_crops, visionthink
from lmms_awares.pruning import PRUNERS, Pruner
from lmms_awares.pruning.stages import rater_attention
from lmms_awares.views import plan_views, show

NEAR = 0.02
ROOT = Path(__file__).parent.parent
ATTENTION = ["sdpa", "eager"]


def sdpa(query, key, value, *args, out_shape=None, **kwargs):
    """Operations of the CPU's fused attention, which torch's counter does not know: without it sdpa counts as 0."""
    return sdpa_flop_count(query, key, value)


def vector(matrix, column, out_shape=None):
    """Operations of a matrix times a vector, which it does not count either."""
    return 2 * matrix[0] * matrix[1]


FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa, torch.ops.aten.mv: vector}


def counted(run: Callable[[], object]) -> int:
    """Operations of `run` as torch counts them."""
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        run()
    return counter.get_total_flops()


@pytest.fixture(scope="module", params=ATTENTION)
def attention(request):
    return request.param


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def model(request, attention, small_checkpoints):
    args = CommonArgs(pretrained=str(small_checkpoints[request.param]), attn_implementation=attention)
    return load(args, "cpu")[0]


# (t, h, w) in patches; windows are 8 patches wide
GRIDS = {
    "one window": [(1, 8, 8)],
    "smaller than a window": [(1, 4, 6)],
    "windows cut at both edges": [(1, 18, 28)],
    "a strip": [(1, 4, 60)],
    "a page": [(1, 60, 46)],
    "several images": [(1, 10, 16), (1, 24, 12), (1, 8, 30)],
    "two frames": [(2, 12, 20)],
}


@pytest.mark.parametrize("grids", GRIDS.values(), ids=GRIDS)
def test_vision_tower(model, grids):
    vision = model.config.vision_config
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.randn(sum(t * h * w for t, h, w in grids), values)
    real = counted(lambda: model.model.visual(pixels, grid_thw=torch.tensor(grids)))
    assert vision_flops(Shape.of(model.config), grids) == pytest.approx(real, rel=NEAR)


@pytest.mark.parametrize(("past", "new"), [(0, 1), (0, 300), (200, 1), (150, 220)], ids=str)
def test_language_model(model, past, new):
    """Prefill, a step of decoding, a second turn on the cache; logits of one position, as `generate` has them."""
    cache = DynamicCache(config=model.config)
    if past:
        model(input_ids=torch.ones(1, past, dtype=torch.long), past_key_values=cache, use_cache=True)
    ids = torch.ones(1, new, dtype=torch.long)
    positions = torch.arange(past, past + new).expand(3, 1, -1)
    real = counted(
        lambda: model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    )
    shape = Shape.of(model.config)
    assert prefill_flops(shape, new, past) == pytest.approx(real, rel=NEAR)
    if new == 1:
        assert decode_flops(shape, 1, past) == prefill_flops(shape, 1, past)
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert kv_bytes(shape, past + new, 4) == held


@pytest.mark.parametrize("model", ["qwen2_5_vl"], indirect=True)
def test_the_tolerance_tells_wrong_formulas_from_right_ones(model):
    """Negative control: without windows, with logits of every position, and with the mask's half left out."""
    shape, grids, new = Shape.of(model.config), GRIDS["a page"], 700
    pixels = torch.randn(60 * 46, shape.tower.patch_values)
    tower = counted(lambda: model.model.visual(pixels, grid_thw=torch.tensor(grids)))
    ids = torch.ones(1, new, dtype=torch.long)
    language = counted(lambda: model(input_ids=ids, logits_to_keep=1))
    whole = replace(shape, tower=replace(shape.tower, whole=shape.tower.depth, window=None))
    right = prefill_flops(shape, new)
    assert right == pytest.approx(language, rel=NEAR)
    for wrong, real in (
        (vision_flops(whole, grids), tower),
        (right + (new - 1) * head_flops(shape), language),
        (right - 2 * shape.layers * shape.heads * shape.head_width * new**2, language),
    ):
        assert wrong != pytest.approx(real, rel=1.5 * NEAR)


# Whole samples through the engine -------------------------------------------------------------------------------------

SHIPPED = ("visionzip", "holov", "sparsevlm", "fastv", "divprune", "cdpruner", "random", "downsample")


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def wide(request, small_checkpoints):
    """A model and its processor, in about the proportions of the published ones: few KV heads, wide MLPs."""
    folder = small_checkpoints[request.param]
    model, _ = load(CommonArgs(pretrained=str(folder)), "cpu")
    config = copy.deepcopy(model.config)
    text, tower = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 192, 1024, 12
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 12, 2, 16
    text.layer_types = ["full_attention"] * 12
    tower.out_hidden_size, tower.depth, tower.intermediate_size = 192, 8, 192
    if request.param == "qwen2_5_vl":
        tower.fullatt_block_indexes = [3, 7]
    torch.manual_seed(0)
    made = family_of(config).model_class()(config).eval()
    made.generation_config = model.generation_config
    return made, AutoProcessor.from_pretrained(folder)


def opening_of(engine, size, view="full"):
    image = picture(size)
    plan = plan_views(*size, token_side=engine.family.token_side)
    content = [{"type": "image"}, {"type": "text", "text": "What does the sign say?"}]
    return engine.prepare(Opening([{"role": "user", "content": content}], None, [show(image, plan, view)]))


def held_by(talk):
    """Bytes of the tensors in a conversation's cache."""
    return sum(t.nbytes for layer in talk.conversation._cache.layers for t in (layer.keys, layer.values))


@pytest.mark.parametrize("size", [(640, 480), (300, 720)], ids=str)
@pytest.mark.parametrize("name", [None, *SHIPPED])
def test_one_turn_with_every_pruner(wide, name, size):
    """Choosing included; what the pruners inside the language model leave out is within the tolerance."""
    engine = LocalEngine(*wide, pruner=name and PRUNERS[name](0.6))
    talk = engine.start([opening_of(engine, size)])
    replies = []
    real = counted(lambda: replies.extend(talk.generate(Decoding(5))))
    assert replies[0].cost.flops == pytest.approx(real, rel=NEAR)
    assert replies[0].cost.kv_bytes == held_by(talk)


def call_sometimes(text):
    """A policy that depends on nothing but what the model really said."""
    ids = ((), ("0",), ("0", "5"), ("all",))[zlib.crc32(text.encode()) % 4]
    return ToolCall(ids, "valid", text) if ids else None


def enlarge_sometimes(text):
    """The same for VisionThink's protocol."""
    return visionthink.ToolCall(text, None) if zlib.crc32(f"{text}.".encode()) % 3 else None


LIMITS = {"min_pixels": 4 * 784, "max_pixels": 120 * 784}
SIZES = [(280, 224), (140, 300), (96, 64), (336, 252), (250, 400), (224, 196), (336, 112), (260, 140)]
DOCS = [document(size, seed, "Why? " * seed, evidence_box=[5, 5, 60, 50]) for seed, size in enumerate(SIZES)]


@dataclass(frozen=True)
class Case:
    kind: type
    arguments: dict


METHODS = {
    "full": Case(FullResolution, {}),
    "low-res": Case(LowResolution, {}),
    "awares": Case(Awares, {}),
    "awares, prefilled again": Case(Awares, {"reuse_cache": False}),
    "awares, pruned": Case(Awares, {"pruner": "divprune", "retain_ratio": 0.7}),
    "call put into the mouth": Case(Awares, {"policy": "always_full"}),
    "oracle": Case(Awares, {"policy": "oracle"}),
    "visionthink": Case(VisionThink, {"max_pixels": 60 * 784}),
    **{name: Case(Pruned, {"pruner": name, "retain_ratio": 0.6}) for name in SHIPPED},
}


@pytest.fixture
def run(small_checkpoint, monkeypatch):
    """Traces of documents by a method; its talks are kept in `run.talks`."""
    monkeypatch.setattr(get_crops, "parse_reply", call_sometimes)
    monkeypatch.setattr(visionthink, "parse_reply", enlarge_sometimes)
    monkeypatch.setattr(visionthink, "ROUND_TOKENS", 7)
    monkeypatch.setattr(get_crops.GetCrops, "keep", 4)  # fewer than are generated: what is behind them is a hole
    talks = []

    def made(engine, openings, **options):
        talks.append(start(engine, openings, **options))
        return talks[-1]

    def traces(case, docs, **arguments):
        given = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **case.arguments, **arguments}
        found = [trace for _, trace in answers(case.kind(device="cpu", **given), docs, max_new_tokens=7)]
        assert [trace.failed for trace in found] == [None] * len(docs)
        return found

    start = LocalEngine.start
    monkeypatch.setattr(LocalEngine, "start", made)
    traces.talks = talks
    return traces


@pytest.mark.parametrize("name", METHODS)
def test_batches_cost_what_singles_do(run, name):
    """Padding, other rows and their order change nothing; all are known."""
    case, cost = METHODS[name], lambda trace: (trace.flops, trace.kv_bytes)
    alone, together = ([cost(trace) for trace in run(case, DOCS, batch_size=size)] for size in (1, 8))
    assert alone == together
    assert None not in {value for pair in alone for value in pair}


TWO_TURNS = ("awares", "awares, prefilled again", "awares, pruned", "call put into the mouth", "oracle", "visionthink")


@pytest.mark.parametrize("name", TWO_TURNS)
def test_a_method_costs_what_is_counted(run, name):
    """Both turns of each sample, with all that was generated; bytes of the cache that was really there."""
    turns = set()
    for doc in DOCS[:3]:
        found = []
        real = counted(lambda doc=doc, found=found: found.extend(run(METHODS[name], [doc])))
        (trace,) = found
        assert trace.flops == pytest.approx(real, rel=NEAR)
        turns.add(len(trace.turns))
        talk = run.talks[-1]
        if talk.conversation._reuse:
            assert trace.kv_bytes == held_by(talk)
    assert 2 in turns


def test_prefilling_again_costs_more_and_holds_as_much(run):
    reused, again = (run(METHODS[name], DOCS) for name in TWO_TURNS[:2])
    called = [(one, other) for one, other in zip(reused, again, strict=True) if one.called]
    assert called
    for one, other in zip(reused, again, strict=True):
        assert (other.flops > 1.1 * one.flops) == one.called
        assert other.kv_bytes <= one.kv_bytes  # without the columns of what was cut


def test_a_call_put_into_the_mouth_is_one_prefill(run):
    """Nothing was generated for it: the call's tokens are prefilled with the rest, and one turn is decoded."""
    for trace in run(METHODS["call put into the mouth"], [DOCS[0]]):
        assert trace.turns[0].new_tokens == 0
        assert trace.turns[1].cached_tokens == 0
    prompt, spoken = trace.turns[1].prompt_tokens, trace.turns[1].new_tokens
    assert trace.kv_bytes == (prompt + spoken - 1) * 4 * 2 * 2 * 16 * 4  # layers, K and V, heads, width, bytes


def test_bytes_are_of_the_models_dtype(run):
    whole, half = (run(METHODS["full"], DOCS[:1], dtype=dtype)[0] for dtype in ("float32", "bfloat16"))
    columns = [trace.turns[0].prompt_tokens + trace.turns[0].new_tokens - 1 for trace in (whole, half)]
    assert whole.kv_bytes * columns[1] == 2 * half.kv_bytes * columns[0]


class Stranger(Pruner):
    """Keeps everything, by means that it does not tell."""

    name = "stranger"


class Told(Stranger):
    """The same, for nothing."""

    def selection_flops(self, shape, tokens):
        return 0


def test_a_stranger_among_pruners_makes_the_cost_unknown_unless_it_tells(run):
    unknown, known, full = (
        run(case, DOCS[:1])[0]
        for case in (
            *(Case(Pruned, {"pruner": f"test_cost:{kind}", "retain_ratio": 0.5}) for kind in ("Stranger", "Told")),
            METHODS["full"],
        )
    )
    assert (unknown.flops, unknown.kv_bytes) == (None, None)
    assert unknown.visual_tokens > 0
    assert (known.flops, known.kv_bytes) == (full.flops, full.kv_bytes)


def test_sliding_windows_are_not_known(small_checkpoint):
    """Layers that do not attend to everything are no case of the formulas."""
    model, processor = load(CommonArgs(pretrained=str(small_checkpoint)), "cpu")
    assert LocalEngine(model, processor).meter(reuse_cache=True) is not None
    model.config.text_config.layer_types = ["full_attention", "sliding_attention"] * 2
    assert LocalEngine(model, processor).meter(reuse_cache=True) is None


# The published 7B, whose shapes alone are computed --------------------------------------------------------------------


@pytest.fixture(scope="module")
def cost_table():
    """The benchmark script as a module."""
    spec = importlib.util.spec_from_file_location("cost_table", ROOT / "benchmarks" / "cost_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def meta(cost_table):
    """A whole Qwen2.5-VL-7B without weights: torch follows its shapes, and the counter counts."""
    config = Qwen2_5_VLConfig.from_dict(copy.deepcopy(cost_table.QWEN2_5_VL_7B))
    with torch.device("meta"):
        made = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="eager")
    return made.eval()


def test_the_7b_by_its_public_configuration(cost_table, meta):
    assert Shape.of(meta.config) == cost_table.SHAPE
    assert sum(weights.numel() for weights in meta.parameters()) == 8_292_166_656


@pytest.mark.parametrize(("past", "new"), [(0, 700), (700, 171), (871, 1)], ids=str)
def test_the_7bs_language_model(meta, past, new):
    shape, hidden = Shape.of(meta.config), torch.empty(1, new, 3584, device="meta")
    positions = torch.empty(3, 1, new, device="meta", dtype=torch.long)
    cache = DynamicCache(config=meta.config)
    for layer in range(shape.layers):
        held = torch.empty(1, shape.kv_heads, past, shape.head_width, device="meta")
        cache.update(held, held, layer)

    def forward():
        out = meta.model.language_model(
            inputs_embeds=hidden, position_ids=positions, past_key_values=cache, use_cache=True
        )
        meta.lm_head(out.last_hidden_state[:, -1])

    assert prefill_flops(shape, new, past) == pytest.approx(counted(forward), rel=NEAR / 10)


def test_what_is_left_out_is_below_one_percent(meta):
    """The raters of sparsevlm and fastv at the 7B's shape: every token of a long question rates, in three layers."""
    layer, shape = meta.model.language_model.layers[2], Shape.of(meta.config)
    visual, text = 644, 60
    hidden = torch.empty(visual + text, 3584, device="meta")
    rope = [torch.empty(visual + text, 128, device="meta") for _ in range(2)]
    valid, raters = torch.empty(visual + text, device="meta", dtype=torch.bool), torch.empty(text, device="meta").long()
    once = counted(lambda: rater_attention(layer, hidden, rope, valid, raters, family=family_of(meta.config)))
    choosing = 2 * visual * text * 3584  # visual tokens against the text, once
    assert 3 * once + choosing < 0.01 * (vision_flops(shape, [(1, 42, 60)]) + prefill_flops(shape, visual + text))


# Bad input, and the committed table -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llava"}, "model_type 'llava' has no cost model; known: qwen2_5_vl, qwen3_vl"),
        ({"vision_config": {}}, "the configuration has no depth; pass a checkpoint's whole config.json"),
    ],
)
def test_configurations_that_do_not_tell(cost_table, change, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        Shape.of(cost_table.QWEN2_5_VL_7B | change)


def test_the_committed_table_is_the_commands(cost_table, tmp_path):
    made, committed = tmp_path / "cost.csv", ROOT / "benchmarks" / "results" / "cost_7b.csv"
    cost_table.table().to_csv(made, index=False)
    assert made.read_text() == committed.read_text()


def test_the_docs_show_the_committed_table():
    page = (ROOT / "docs" / "measurements.md").read_text()
    for row in pd.read_csv(ROOT / "benchmarks" / "results" / "cost_7b.csv").itertuples():
        figures = [f"{value:.2f}" for value in (row.vision, row.prefill, row.decode, row.total)]
        cells = [row.image.replace("x", "×"), row.method, f"{row.visual_tokens:,.0f}", *figures]
        assert f"| {' | '.join(cells)} | {100 * row.share:.1f} % | {row.kv_mb:.1f} |" in page


def test_the_committed_table_by_another_way(cost_table):
    """Its two-turn rows as the engine would add them up, turn by turn."""
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "cost_7b.csv").set_index(["image", "method"])
    for method, reuse in (("KV reuse", True), ("prefilled again", False)):
        meter = Meter(cost_table.SHAPE, 2, reuse_cache=reuse)
        meter.show([(1, 20, 30)])  # 425x300 px, as the crop below
        meter.turn([150 + 60] * 28, spoken=16, kept=16)
        meter.show([(1, 20, 30)])
        cost = meter.turn([150 + 60 + 16 + 11 + 150] * 28, spoken=16, kept=16)
        row = table.loc["850x600", f"low-res + quadrant, {method}"]
        assert (row["total"], row["kv_mb"]) == (round(cost.flops / 1e12, 3), round(cost.kv_bytes / 1e6, 3))
