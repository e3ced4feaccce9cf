"""Pruning in the engine, on a tiny model in fp32: equalities, lengths, batches, hooks."""

import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from harness import picture
from transformers import StaticCache

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation, question_of
from lmms_awares.families import FAMILIES, QWEN2_5_VL, family_of
from lmms_awares.models.config import CommonArgs
from lmms_awares.pruning import PRUNERS, PruningError, options_of, sparsevlm, tower
from lmms_awares.pruning.base import Pruner
from lmms_awares.pruning.schedule import Schedule
from lmms_awares.pruning.stages import StagedPruner, rater_attention

TOLERANCE = 1e-5
STEPS = 6
# In visual tokens. Text-only, one token, two images, and ordinary ones: every row of a batch is something else.
PROMPTS = {"wide": [(12, 9)], "tall": [(7, 15)], "two": [(8, 6), (5, 9)], "one token": [(1, 1)], "text": []}
INSIDE = [name for name in PRUNERS if not PRUNERS[name](0.5).resizes]  # what the engine drives; others act on pixels
STAGED = [name for name in INSIDE if issubclass(PRUNERS[name], StagedPruner)]  # act inside the language model
BEFORE = [name for name in INSIDE if name not in STAGED]  # act between the tower and the language model
SCHEDULES = [  # staged pruners, with each schedule where they have several
    (name, {"schedule": schedule} if schedule else {})
    for name in STAGED
    for schedule in (get_args(Schedule) if "schedule" in options_of(PRUNERS[name]) else [None])
]


@pytest.fixture(scope="module", params=[(family, kind) for family in FAMILIES for kind in ("sdpa", "eager")], ids=str)
def engine(request, small_checkpoints):
    family, attention = request.param
    return build(small_checkpoints[family], attention)


@pytest.fixture(scope="module")
def sdpa(small_checkpoint):
    return build(small_checkpoint, "sdpa")


def build(checkpoint, attention, dtype="float32"):
    args = CommonArgs(pretrained=str(checkpoint), attn_implementation=attention, dtype=dtype, min_pixels=784)
    model, processor = load(args, "cpu")
    return model, ChatFormat(processor)


def prompt(chat, name, question="What is it?"):
    images = [picture((chat.token_side * w, chat.token_side * h), 10 * w + h) for w, h in PROMPTS[name]]
    content = [{"type": "image"} for _ in images]
    if len(content) > 1:
        content.insert(1, {"type": "text", "text": "and this:"})
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
    return chat.segment(chat.render(messages, "Look."), images)


def converse(engine, prompts, pruner=None, **options):
    model, chat = engine
    tokens = {"end_ids": chat.end_ids, "pad_token_id": chat.tokenizer.pad_token_id}
    return Conversation(model, prompts, **tokens, pruner=pruner, **options)


def answer(engine, prompts, pruner=None):
    return converse(engine, prompts, pruner).generate(STEPS, return_logits=True)


def assert_same(reply, other):
    assert reply.ids == other.ids
    assert (reply.logits - other.logits).abs().max() < TOLERANCE


# Equalities -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRUNERS)
def test_keeping_all_equals_no_pruner(engine, name):
    prompts = [prompt(engine[1], each, "Why? " * row) for row, each in enumerate(PROMPTS)]
    plain = answer(engine, prompts)
    for kept, reply in zip(answer(engine, prompts, PRUNERS[name](1)), plain, strict=True):
        assert_same(kept, reply)
        assert replace(kept.visual, grids=(), left=()) == reply.visual  # without a pruner nothing is located
    for row in (0, 2):
        assert_same(answer(engine, prompts[row : row + 1], PRUNERS[name](1.0))[0], plain[row])


@pytest.mark.parametrize("ratio", [0.5, 0.7])
@pytest.mark.parametrize("name", INSIDE)
def test_pruning_changes_the_logits(sdpa, name, ratio):
    """The equalities here are not vacuous: what is dropped matters far more than the tolerance."""
    prompts = [prompt(sdpa[1], "wide")]
    plain, pruned = answer(sdpa, prompts)[0], answer(sdpa, prompts, PRUNERS[name](ratio))[0]
    assert (plain.logits[0] - pruned.logits[0]).abs().max() > 0.01


@pytest.mark.parametrize("name", INSIDE)
def test_a_batch_equals_singles(engine, name):
    """Left padding, different sizes, two images, text alone, one token."""
    prompts = [prompt(engine[1], each, "Why? " * row) for row, each in enumerate(PROMPTS)]
    batched = answer(engine, prompts, PRUNERS[name](0.5))
    for own, reply in zip(prompts, batched, strict=True):
        (single,) = answer(engine, [own], PRUNERS[name](0.5))
        assert_same(reply, single)
        assert reply.visual == single.visual


def test_official_holov_in_a_batch_equals_singles(sdpa):
    prompts = [prompt(sdpa[1], each) for each in ("wide", "two", "one token")]
    pruner = PRUNERS["holov"](0.7, official_wiring=True)
    for own, reply in zip(prompts, answer(sdpa, prompts, pruner), strict=True):
        assert_same(reply, answer(sdpa, [own], pruner)[0])


@pytest.mark.parametrize("name", INSIDE)
def test_sdpa_equals_eager(small_checkpoint, name):
    engines = [build(small_checkpoint, attention) for attention in ("sdpa", "eager")]
    prompts = [prompt(engines[0][1], each) for each in PROMPTS]
    for a, b in zip(*(answer(engine, prompts, PRUNERS[name](0.6)) for engine in engines), strict=True):
        assert_same(a, b)


@torch.no_grad()
def prune_images(engine, segment, pruner, **changed):
    """What `pruner` keeps of the segment's images; `changed`: fields of the segment to replace."""
    model, chat = engine
    own = replace(segment, **changed)
    with pruner.attached(model):
        encoded = family_of(model.config).encode(model, own.pixels, own.grids)
        asked = [question_of([segment], chat.end_ids[0])] * len(own.grids)
        return pruner.prune(model, encoded, own.pixels, own.grids, asked)


def kept_inputs(engine, segment, pruner):
    """What is left behind a pruner, put together here without the engine's packing.

    Returns:
        [T', D] embeddings, [3, T'] positions, and what DeepStack needs besides.
    """
    model, _ = engine
    pruned = prune_images(engine, segment, pruner)
    images = iter(pruned)
    positions, _ = model.model.get_rope_index(
        segment.ids[None], segment.is_image[None].int(), image_grid_thw=segment.grids
    )
    embeds = model.get_input_embeddings()(segment.ids)
    sizes = iter((segment.grids.prod(1) // 4).tolist())
    rows, columns, at = [], [], 0
    while at < len(segment.ids):
        if segment.is_image[at]:
            image = next(images)
            rows += list(image.embeds)
            columns += (at + image.index).tolist()
            at += next(sizes)
        else:
            rows.append(embeds[at])
            columns.append(at)
            at += 1
    levels = [torch.cat(level) for level in zip(*(image.levels for image in pruned), strict=True)]
    visual = segment.is_image[columns]
    deepstack = {"visual_pos_masks": visual[None], "deepstack_visual_embeds": levels} if levels else {}
    return torch.stack(rows), positions[:, 0, columns], deepstack


@pytest.mark.parametrize("prompted", ["wide", "two"])
@pytest.mark.parametrize("name", BEFORE)
@torch.no_grad()
def test_generation_equals_a_loop_without_cache(engine, name, prompted):
    model, chat = engine
    segment = prompt(chat, prompted)
    (reply,) = answer(engine, [segment], PRUNERS[name](0.5))
    embeds, positions, deepstack = kept_inputs(engine, segment, PRUNERS[name](0.5))
    for step, said in enumerate(reply.ids):
        hidden = model.model.language_model(
            inputs_embeds=embeds[None], position_ids=positions[:, None], use_cache=False, **deepstack
        ).last_hidden_state
        assert (model.lm_head(hidden[0, -1]) - reply.logits[step]).abs().max() < TOLERANCE
        embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor([said]))])
        positions = torch.cat([positions, positions.max().expand(3, 1) + 1], 1)
        if deepstack:
            mask = deepstack["visual_pos_masks"]
            deepstack["visual_pos_masks"] = torch.cat([mask, mask.new_zeros(1, 1)], 1)


# Whose attention scores the visual tokens, of the text behind them: written out again where it is known.
RATERS = {"sparsevlm": sparsevlm.raters_of, "fastv": lambda visual, text: torch.tensor([len(text) - 1])}


def staged_step(model, embeds, positions, is_image, pruner):
    """Logits of the last row: a staged pruner written out over all layers, on eager attention maps, without a cache.

    `is_image`: [prompt] flags; rows behind are generated and take no part in scoring.
    """
    hidden, length, spoken = embeds, len(is_image), len(embeds) - len(is_image)
    visual = is_image.nonzero().flatten()
    raters = RATERS.get(pruner.name, pruner.raters)(embeds[visual], embeds[int(visual[-1]) + 1 : length])
    stages = {stage.layer: stage for stage in pruner.stages(len(model.model.language_model.layers))}
    total, counts, generator = len(visual), [], torch.Generator().manual_seed(pruner.seed)
    for index, layer in enumerate(model.model.language_model.layers):
        counts.append(len(hidden) - spoken)
        rope = model.model.language_model.rotary_emb(hidden[None], positions[:, None])
        mask = torch.full((len(hidden), len(hidden)), torch.finfo(torch.float32).min).triu(1)[None, None]
        mixed, weights = layer.self_attn(layer.input_layernorm(hidden)[None], mask, position_embeddings=rope)
        hidden = hidden + mixed[0]
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        if index in stages:
            last = int(visual[-1])
            scores = weights[0][:, last + 1 + raters][:, :, visual].mean((0, 1))
            reduced = pruner.reduce(scores, hidden[visual], stages[index].target(total), generator)
            text = [row for row in range(last) if row not in visual.tolist()]
            before = sorted([*text, *visual[reduced.kept].tolist()])
            after = list(range(last + 1, len(hidden)))
            source = [*before, *visual[reduced.sources].tolist(), *after]
            hidden = torch.cat([hidden[before], reduced.merged, hidden[after]])
            positions = positions[:, source]
            remaining = [row for row, of in enumerate(before) if of in visual.tolist()]
            visual = torch.tensor([*remaining, *range(len(before), len(before) + len(reduced.merged))])
    return model.lm_head(model.model.language_model.norm(hidden[-1])), counts


@pytest.mark.parametrize("prompted", ["wide", "two"])
@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=str)
@torch.no_grad()
def test_staged_pruning_equals_a_loop_without_cache(small_checkpoint, name, prompted, options):
    """Scores from whole attention maps, no hooks, no cache: the same logits, and the same length at every layer."""
    model, chat = eager = build(small_checkpoint, "eager")
    segment = prompt(chat, prompted)
    pruner = PRUNERS[name](0.5, **options)
    (reply,) = answer(eager, [segment], pruner)
    embeds, positions, _ = kept_inputs(eager, segment, Pruner(1))
    for step, said in enumerate(reply.ids):
        logits, counts = staged_step(model, embeds, positions, segment.is_image, pruner)
        assert (logits - reply.logits[step]).abs().max() < TOLERANCE
        assert tuple(counts) == reply.visual.cached
        embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor([said]))])
        positions = torch.cat([positions, positions.max().expand(3, 1) + 1], 1)


@torch.no_grad()
def test_rater_rows_equal_eager_attention(small_checkpoint):
    model, chat = eager = build(small_checkpoint, "eager")
    embeds, positions, _ = kept_inputs(eager, prompt(chat, "wide"), Pruner(1))
    layer = model.model.language_model.layers[0]
    rope = model.model.language_model.rotary_emb(embeds[None], positions[:, None])
    mask = torch.full((len(embeds), len(embeds)), -torch.inf).triu(1)[None, None]
    _, weights = layer.self_attn(layer.input_layernorm(embeds)[None], mask, position_embeddings=rope)
    raters = torch.tensor([len(embeds) - 9, len(embeds) - 2])
    seen = torch.ones(len(embeds), dtype=torch.bool)
    found = rater_attention(layer, embeds, [table[0] for table in rope], seen, raters, family=QWEN2_5_VL)
    assert (found - weights[0][:, raters].mean((0, 1))).abs().max() < 1e-6


def bits_of(left):
    """Where a place of the pruner stands, and how many tokens it left."""
    return left.layer, sum(map(int.bit_count, b64decode(left.bits)))


@pytest.mark.parametrize("name", [*PRUNERS, "official holov"])
def test_bfloat16_counts_like_float32(small_checkpoint, name):
    """The dtype that real checkpoints run in; which tokens stay may differ, how many may not."""
    options = {"official_wiring": True} if name.startswith("official") else {}
    found = {}
    for dtype in ("float32", "bfloat16"):
        engine = build(small_checkpoint, "sdpa", dtype)
        assert str(engine[0].dtype) == f"torch.{dtype}"
        pruner = PRUNERS[name.removeprefix("official ")](0.5, **options)
        found[dtype] = answer(engine, [prompt(engine[1], each) for each in ("wide", "two")], pruner)
    for whole, half in zip(found["float32"], found["bfloat16"], strict=True):
        assert [bits_of(left) for left in half.visual.left] == [bits_of(left) for left in whole.visual.left]
        assert replace(half.visual, left=()) == replace(whole.visual, left=())
        assert half.logits.isfinite().all()


# Scores ---------------------------------------------------------------------------------------------------------------


def test_chunks_of_the_score_add_up(monkeypatch):
    queries, keys = torch.randn(2, 50, 3, 8).unbind()
    attention = (queries.transpose(0, 1) @ keys.permute(1, 2, 0) / 8**0.5).softmax(-1)
    for elements in (1, 1000, tower.CHUNK_ELEMENTS):
        monkeypatch.setattr(tower, "CHUNK_ELEMENTS", elements)
        found = tower.received_attention(queries, keys)
        assert (found - attention.sum(1).mean(0)).abs().max() < TOLERANCE
        assert found.sum() == pytest.approx(50)


MEMORY = """
import resource, torch
from lmms_awares.pruning.tower import received_attention
queries, keys = torch.randn(2, 16384, 2, 8).unbind()
received_attention(queries[:64], keys[:64])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
received_attention(queries, keys)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_the_attention_map_is_never_whole():
    """16,384 patches (4,096 visual tokens): two heads' map alone would take 2 GiB."""
    added = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    assert int(added) < 500  # MiB


# Lengths --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.5, 0.7])
@pytest.mark.parametrize("name", BEFORE)
def test_prefill_and_cache_are_shorter(sdpa, name, ratio, monkeypatch):
    """The language model really gets L - N + K columns, and every layer caches as many."""
    model, chat = sdpa
    lengths = []
    forward = model.model.language_model.forward
    monkeypatch.setattr(
        model.model.language_model,
        "forward",
        lambda *a, **k: (lengths.append(k["inputs_embeds"].shape[1]), forward(*a, **k))[1],
    )
    segment = prompt(chat, "wide")
    tokens, depth = int(segment.is_image.sum()), len(model.model.language_model.layers)
    conversation = converse(sdpa, [segment], PRUNERS[name](ratio))
    (reply,) = conversation.generate(STEPS)
    kept = reply.visual.counted
    assert abs(kept - ratio * tokens) <= 2
    assert lengths == [len(segment.ids) - tokens + kept] + [1] * (len(reply.ids) - 1)
    assert reply.visual.entering == reply.visual.leaving == (kept,) * depth
    assert reply.visual.cached == (lengths[0],) * depth
    cached = [conversation._cache.get_seq_length(layer) for layer in range(depth)]
    assert cached == [lengths[0] + len(reply.ids) - 1] * depth


@pytest.mark.parametrize("name", STAGED)
def test_cache_shrinks_from_layer_to_layer(sdpa, name):
    segment = prompt(sdpa[1], "wide")
    conversation = converse(sdpa, [segment], PRUNERS[name](0.5))
    (reply,) = conversation.generate(STEPS)
    visual, text = reply.visual, len(segment.ids) - int(segment.is_image.sum())
    assert visual.entering[0] == visual.encoded == 108
    assert visual.leaving[:-1] == visual.entering[1:]
    assert list(visual.leaving) == sorted(visual.leaving, reverse=True)
    assert visual.cached == tuple(text + count for count in visual.entering)
    cached = [conversation._cache.get_seq_length(layer) for layer in range(len(visual.cached))]
    assert cached == [length + len(reply.ids) - 1 for length in visual.cached]
    assert abs(visual.counted / 108 - 0.5) < 0.01


@pytest.mark.parametrize("whole", [1, 2, 3])
def test_fastv_counts_are_those_of_its_schedule(sdpa, whole):
    """108 tokens, four layers: `single` leaves the official number, whose mean over layers is above the ratio."""
    for schedule in ("single", "layer_mean"):
        pruner = PRUNERS["fastv"](0.75, whole_layers=whole, schedule=schedule)
        (reply,) = answer(sdpa, [prompt(sdpa[1], "wide")], pruner)
        left = 81 if schedule == "single" else round(108 * (3 - whole + 1) / (5 - whole))
        assert reply.visual.entering == (108,) * whole + (left,) * (4 - whole)
        assert reply.visual.leaving == (108,) * (whole - 1) + (left,) * (5 - whole)
        assert (reply.visual.counted == 81) == (schedule == "layer_mean" or whole == 1)


@pytest.mark.parametrize("name", BEFORE)
def test_each_image_is_pruned_for_itself(sdpa, name):
    """Two images in one prompt lose what each loses alone."""
    segment = prompt(sdpa[1], "two")
    pixels = segment.pixels.split((segment.grids.prod(1)).tolist())
    together = prune_images(sdpa, segment, PRUNERS[name](0.5))
    alone = [
        prune_images(sdpa, segment, PRUNERS[name](0.5), pixels=own, grids=grid[None])[0]
        for own, grid in zip(pixels, segment.grids, strict=True)
    ]
    assert [len(image.index) for image in together] == [len(image.index) for image in alone]
    for a, b in zip(together, alone, strict=True):
        assert a.index.tolist() == b.index.tolist()
        assert (a.embeds - b.embeds).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", [name for name, options in SCHEDULES if options.get("schedule") == "single"])
def test_staged_pruning_takes_all_images_together(sdpa, name):
    """Its rule: one budget over all visual tokens of the prompt; text between the images stays."""
    segment = prompt(sdpa[1], "two")
    (reply,) = answer(sdpa, [segment], PRUNERS[name](0.5, schedule="single"))
    assert reply.visual.encoded == 93
    assert reply.visual.leaving[-1] == round(0.5 * 93)


@pytest.mark.parametrize("name", [n for n in INSIDE if PRUNERS[n].second_prefill])
def test_a_second_turn_is_pruned_on_the_same_cache(engine, name):
    """As in AwaRes: both turns' images lose tokens; equal to prefilling the whole conversation again."""
    crop = picture((engine[1].token_side * 6, engine[1].token_side * 5), 3)
    outs = {}
    for reuse in (True, False):
        conversation = converse(
            engine, [prompt(engine[1], each) for each in PROMPTS], PRUNERS[name](0.5), reuse_cache=reuse
        )
        first = conversation.generate(4, keep=2)
        rows = [0, 2, 3]
        conversation.continue_rows(rows, [engine[1].crop_turn([crop] * n, ended=False) for n in (1, 2, 1)])
        outs[reuse] = conversation.generate(STEPS, return_logits=True)
        for row, n, reply in zip(rows, (1, 2, 1), outs[reuse], strict=True):
            more = PRUNERS[name](0.5)
            alone = answer(engine, [engine[1].crop_turn([crop], ended=False)], more)[0].visual
            assert reply.visual.counted == first[row].visual.counted + n * alone.counted
            assert reply.visual.encoded == first[row].visual.encoded + n * 30
    for cached, fresh in zip(outs[True], outs[False], strict=True):
        assert_same(cached, fresh)


# Bad input, and a model left as found ---------------------------------------------------------------------------------


def hooks_of(model):
    return [len(hooks) for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks)]


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_found(sdpa, name, fails, monkeypatch):
    model, chat = sdpa
    before, forward = hooks_of(model), model.model.language_model.forward
    pruner = PRUNERS[name](0.5)
    if fails:
        with monkeypatch.context() as patch:
            patch.setattr(model.lm_head, "forward", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                answer(sdpa, [prompt(chat, "wide")], pruner)
    else:
        answer(sdpa, [prompt(chat, "wide")], pruner)
    assert hooks_of(model) == before
    assert model.model.language_model.forward == forward
    plain = answer(sdpa, [prompt(chat, "tall")])[0]
    assert plain.visual.counted == plain.visual.encoded


def test_hooks_are_in_only_inside(sdpa):
    model, _ = sdpa
    before = hooks_of(model)
    with PRUNERS["sparsevlm"](0.5)(model):
        assert hooks_of(model) != before
    assert hooks_of(model) == before


@pytest.mark.parametrize("ratio", [0, -0.5, 1.01, float("nan")])
@pytest.mark.parametrize("name", PRUNERS)
def test_impossible_ratios(name, ratio):
    with pytest.raises(PruningError, match="retain_ratio must be above 0 and at most 1"):
        PRUNERS[name](ratio)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("cdpruner", {"negate_relevance": "false"}, "negate_relevance='false' is a str; .*boolean"),
        ("fastv", {"whole_layers": True}, "whole_layers=True is a bool; .*integer"),
        ("fastv", {"whole_layers": 2.5}, "whole_layers=2.5 is a float; .*integer"),
        ("visionzip", {"retain_ratio": "0.5"}, "retain_ratio='0.5' is a str; .*number"),
        ("visionzip", {"retain_ratio": None}, "retain_ratio=None is a NoneType; .*number"),
        ("visionzip", {"retain_ratio": True}, "retain_ratio=True is a bool; .*number"),
        ("visionzip", {"seed": 0.5}, "seed=0.5 is a float; .*integer"),
    ],
)
def test_an_option_of_another_type_is_refused(name, arguments, words):
    with pytest.raises(PruningError, match=f"^{name}: {words}"):
        PRUNERS[name](**({"retain_ratio": 0.5} | arguments))
    assert PRUNERS[name](1) == PRUNERS[name](np.float64(1))


@pytest.mark.parametrize("name", STAGED)
def test_second_prefill_is_refused_by_staged_pruners(sdpa, name):
    conversation = converse(sdpa, [prompt(sdpa[1], "wide")], PRUNERS[name](0.5))
    conversation.generate(2)
    conversation.continue_rows([0], [sdpa[1].crop_turn([picture((84, 84))], ended=False)])
    with pytest.raises(PruningError, match=f"{name} prunes one prefill only"):
        conversation.generate(2)


def test_another_cache_is_refused_by_sparsevlm(sdpa):
    model, chat = sdpa
    segment = prompt(chat, "wide")
    inputs = {
        "input_ids": segment.ids[None],
        "mm_token_type_ids": segment.is_image[None].int(),
        "pixel_values": segment.pixels,
        "image_grid_thw": segment.grids,
        "max_new_tokens": 2,
        "do_sample": False,
    }
    before = hooks_of(model)
    with PRUNERS["sparsevlm"](0.5)(model):
        cache = StaticCache(model.config, max_cache_len=len(segment.ids) + 2)
        with pytest.raises(PruningError, match="sparsevlm needs a DynamicCache, not StaticCache"):
            model.generate(**inputs, past_key_values=cache)
        assert model.generate(**inputs).shape == (1, len(segment.ids) + 2)  # generate's own cache is served
    assert hooks_of(model) == before


def test_a_staged_pruner_needs_its_rules():
    with pytest.raises(TypeError, match="abstract"):
        StagedPruner(0.5)


def test_models_that_a_pruner_cannot_serve(small_checkpoint):
    model, _ = build(small_checkpoint, "sdpa")
    for name in PRUNERS:
        PRUNERS[name](0.5).check(model)
    model.generation_config.cache_implementation = "static"
    for name in PRUNERS:
        with pytest.raises(PruningError, match=f"{name} needs a dynamic KV cache, not .*static"):
            PRUNERS[name](0.5).check(model)
    model.generation_config.cache_implementation = None
    model.config.vision_config.fullatt_block_indexes = [1]
    with pytest.raises(PruningError, match="visionzip reads the attention of the vision tower's last block"):
        PRUNERS["visionzip"](0.5).check(model)
    model.config.text_config.layer_types = ["sliding_attention"] * 4
    with pytest.raises(PruningError, match="sliding-window"):
        PRUNERS["sparsevlm"](0.5).check(model)
    model.config._attn_implementation = "flash_attention_2"
    PRUNERS["random"](0.5).check(model)
    with pytest.raises(PruningError, match="sparsevlm runs with attn_implementation sdpa or eager, not flash"):
        PRUNERS["sparsevlm"](0.5).check(model)
