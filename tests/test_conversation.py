"""The engine against a fresh full prefill, single and batched, sdpa and eager; exact in fp64, and in fp32 as near."""

import copy
import itertools
from functools import partial

import pytest
import torch
from harness import picture
from PIL import Image
from torch.nn.functional import rms_norm

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation
from lmms_awares.families import FAMILIES
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import format_call
from lmms_awares.views import plan_views, render_crop, render_lowres

TOLERANCE = 1e-5
STEPS = 12
SIZES = [(640, 480), (300, 500), (850, 600), (420, 336)]
REQUESTS = [("0",), ("0", "5"), ("1", "4", "8"), ("all",)]


@pytest.fixture(scope="module", params=FAMILIES)
def of_a_family(request, checkpoints):
    return checkpoints[request.param]


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def engine(request, of_a_family):
    args = CommonArgs(pretrained=str(of_a_family), attn_implementation=request.param, dtype="float32")
    model, processor = load(args, "cpu")
    return model, ChatFormat(processor)


class Case:
    """One image with its prompt and the crop turn that a request gets."""

    def __init__(self, chat, size, ids, seed, question="What does the sign say?"):
        image = picture(size, seed)
        plan = plan_views(*size, token_side=chat.token_side)
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        self.prompt = chat.segment(chat.render(messages, "Look closely."), [render_lowres(image, plan)])
        self.turn = chat.crop_turn([render_crop(image, plan, id) for id in ids], ended=True)
        self.call = chat.encode_reply(format_call(ids))
        self.lowres_tokens = plan.lowres_tokens


def converse(engine, cases, **options):
    model, chat = engine
    return Conversation(
        model,
        [case.prompt for case in cases],
        end_ids=chat.end_ids,
        pad_token_id=chat.tokenizer.pad_token_id,
        **options,
    )


def two_turns(engine, cases, *, first=8, **options):
    """Generate turn 1, then answer every row with its crops; logits of turn 2."""
    conversation = converse(engine, cases, **options)
    conversation.generate(first)
    conversation.continue_rows(range(len(cases)), [case.turn for case in cases])
    return conversation.generate(STEPS, return_logits=True)


def difference(reply, other):
    assert reply.ids == other.ids
    return (reply.logits - other.logits).abs().max().item()


@pytest.mark.parametrize("ids", REQUESTS, ids=str)
def test_cached_equals_fresh(engine, ids):
    case = Case(engine[1], (640, 480), ids, seed=1)
    cached, fresh = (two_turns(engine, [case], reuse_cache=reuse)[0] for reuse in (True, False))
    assert difference(cached, fresh) < TOLERANCE


@pytest.fixture(scope="module")
def exact(of_a_family):
    """The model in float64, its norms too, which transformers takes in float32 (as the softmax of eager attention)."""
    model, processor = load(CommonArgs(pretrained=str(of_a_family), attn_implementation="sdpa", dtype="float32"), "cpu")
    for module in model.double().modules():
        if type(module).__name__.endswith("RMSNorm"):
            shape, eps = module.weight.shape, module.variance_epsilon
            module.forward = partial(rms_norm, normalized_shape=shape, weight=module.weight, eps=eps)
    return model, ChatFormat(processor)


def unrounded(engine, case, reuse):
    """Logits of turn 2's first step in the model's own dtype; `generate` hands out float32."""
    seen = []
    hook = engine[0].lm_head.register_forward_hook(lambda module, given, logits: seen.append(logits[0, -1].clone()))
    after_call(engine, case, reuse)
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize("ids", REQUESTS, ids=str)
@pytest.mark.parametrize("size", SIZES[:2], ids=str)
def test_cached_equals_fresh_in_fp64(exact, ids, size):
    case = Case(exact[1], size, ids, seed=1)
    cached, fresh = (unrounded(exact, case, reuse) for reuse in (True, False))
    assert cached.dtype == torch.float64
    assert (cached - fresh).abs().max() < 1e-10


def test_cached_fp32_is_as_near_to_fp64_as_a_plain_forward(engine, exact):
    """Neither is exact: their sums run in another order. The cached one is not further away."""
    errors = {True: [], False: []}
    for seed, (size, ids) in enumerate(itertools.product(SIZES, REQUESTS)):
        case = Case(engine[1], size, ids, seed)
        truth = unrounded(exact, case, reuse=False)
        for reuse, found in errors.items():
            found.append((unrounded(engine, case, reuse) - truth).abs().max().item())
    cached, plain = (sum(found) / len(found) for found in errors.values())
    assert 0 < cached < TOLERANCE
    assert cached <= 1.5 * plain


def test_crops_matter(engine):
    """The comparison is not vacuous: other crop pixels move the logits by far more than the tolerance."""
    case = Case(engine[1], (640, 480), ("0",), seed=1)
    other = copy.copy(case)
    other.turn = Case(engine[1], (640, 480), ("0",), seed=2).turn
    a, b = (two_turns(engine, [c])[0].logits[0] for c in (case, other))
    assert (a - b).abs().max() > 0.05


def test_cached_turn_prefills_only_what_is_new(engine, monkeypatch):
    """Real reuse: the language model sees turn 1's visual tokens once, and the tower encodes only the crops."""
    model, _ = engine
    lengths, encoded = [], []
    language_model, tower = model.model.language_model, model.model.visual
    forward, encode = language_model.forward, tower.forward
    monkeypatch.setattr(
        language_model, "forward", lambda *a, **k: (lengths.append(k["inputs_embeds"].shape[1]), forward(*a, **k))[1]
    )
    monkeypatch.setattr(tower, "forward", lambda x, *a, **k: (encoded.append(len(x) // 4), encode(x, *a, **k))[1])
    case = Case(engine[1], (640, 480), ("0",), seed=1)
    two_turns(engine, [case])
    crop_tokens = int(case.turn.is_image.sum())
    assert encoded == [case.lowres_tokens, crop_tokens]
    prefills = [length for length in lengths if length > 1]
    assert prefills == [len(case.prompt.ids), len(case.turn.ids) + 1]  # + the last token of turn 1, not yet cached


def mixed_batch(engine, **options):
    """Four rows of different sizes; row 1 answers at once, the others ask for 1, 3 and all crops.

    Turn 1 is spoken for the rows with different lengths, as generated turns have them.
    """
    cases = [
        Case(engine[1], size, ids, seed=10 + row, question="Why? " * (row + 1))
        for row, (size, ids) in enumerate(zip(SIZES, REQUESTS, strict=True))
    ]
    conversation = converse(engine, cases, **options)
    return cases, conversation


@pytest.mark.parametrize("reuse", [True, False])
def test_mixed_batch_equals_singles(engine, monkeypatch, reuse):
    cases, batch = mixed_batch(engine, reuse_cache=reuse)
    first = generate_ragged(batch, engine, monkeypatch, lengths=[6, 9, 3, 8])
    calling = [0, 2, 3]
    batch.continue_rows(calling, [cases[row].turn for row in calling])
    batched = batch.generate(STEPS, return_logits=True)
    for row, reply in zip(calling, batched, strict=True):
        single = converse(engine, [cases[row]], reuse_cache=False)
        single.say([first[row]])
        single.continue_rows([0], [cases[row].turn])
        assert difference(reply, single.generate(STEPS, return_logits=True)[0]) < TOLERANCE


def generate_ragged(conversation, engine, monkeypatch, lengths):
    """Generate turn 1 so that row k ends by itself after `lengths[k]` tokens: padding then fills the row."""
    model, chat = engine
    eos = chat.tokenizer.eos_token_id
    original = model.forward
    step = {"n": 0}

    def forward(*args, **kwargs):
        out = original(*args, **kwargs)
        step["n"] += 1
        for row, length in enumerate(lengths):
            if step["n"] == length:
                out.logits[row, -1, eos] = 1e4
        return out

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", forward)
        replies = conversation.generate(20)
    assert [len(reply.ids) for reply in replies] == lengths
    assert all(reply.ended for reply in replies)
    return [reply.ids for reply in replies]


def test_without_the_hole_mask_the_batch_is_wrong(engine, monkeypatch):
    """Negative control: letting turn 2 see what `generate` padded behind an end of turn changes the logits."""
    cases, batch = mixed_batch(engine)
    first = generate_ragged(batch, engine, monkeypatch, lengths=[3, 9, 19, 8])
    batch._mask = batch._mask.clone()
    batch._mask[:, -len(first[2]) :] = 1
    batch.continue_rows([0], [cases[0].turn])
    wrong = batch.generate(1, return_logits=True)[0].logits[0]
    single = converse(engine, [cases[0]], reuse_cache=False)
    single.say([first[0]])
    single.continue_rows([0], [cases[0].turn])
    right = single.generate(1, return_logits=True)[0].logits[0]
    assert (wrong - right).abs().max() > 0.1


def test_stale_rope_state_is_harmless_here_and_harmful_without_positions(engine, monkeypatch):
    """Another sample in between leaves its rope state in the model; explicit positions do not care."""
    model, _ = engine
    case, other = (Case(engine[1], size, ("0",), seed=3) for size in ((640, 480), (200, 1200)))
    clean = two_turns(engine, [case])[0]

    def with_interruption(positions):
        conversation = converse(engine, [case])
        conversation.generate(8)
        # What transformers' own generate leaves behind after another sample.
        _, model.model.rope_deltas = model.model.get_rope_index(
            other.prompt.ids[None], other.prompt.is_image[None].int(), image_grid_thw=other.prompt.grids
        )
        conversation.continue_rows([0], [case.turn])
        if not positions:
            monkeypatch.setattr(conversation, "_positions", lambda: None)
        return conversation.generate(STEPS, return_logits=True)[0]

    assert difference(with_interruption(True), clean) < TOLERANCE
    assert (with_interruption(False).logits[0] - clean.logits[0]).abs().max() > 0.1


def test_keep_cuts_a_turn(engine):
    """Tokens beyond `keep` are holes: turn 2 equals one after a turn 1 that was that short."""
    case = Case(engine[1], (420, 336), ("0",), seed=5)
    cut = converse(engine, [case])
    reply = cut.generate(12, keep=5)[0]
    cut.continue_rows([0], [case.turn])
    short = converse(engine, [case], reuse_cache=False)
    short.say([reply.ids[:5]])
    short.continue_rows([0], [case.turn])
    a, b = (c.generate(STEPS, return_logits=True)[0] for c in (cut, short))
    assert difference(a, b) < TOLERANCE


def test_say_equals_the_real_template(engine):
    """Ids of a spoken call and its crop turn are those of the whole conversation tokenised at once."""
    _, chat = engine
    case = Case(chat, (640, 480), ("0", "5"), seed=6)
    conversation = converse(engine, [case])
    conversation.say([case.call])
    conversation.continue_rows([0], [case.turn])
    image = {"type": "image"}
    messages = [
        {"role": "user", "content": [image, {"type": "text", "text": "What does the sign say?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": format_call(("0", "5"))}]},
        {"role": "user", "content": [image, image]},
    ]
    whole = chat.tokenizer.encode(chat.render(messages, "Look closely."), add_special_tokens=False)
    pad = chat.vision_token_ids[0]
    ids = conversation._ids[0].tolist()
    collapsed = [id for k, id in enumerate(ids) if id != pad or ids[k - 1] != pad]
    assert collapsed == whole


def test_unended_turn_is_closed(engine):
    _, chat = engine
    crop = [Image.new("RGB", (112, 112))]
    ended, unended = chat.crop_turn(crop, ended=True).ids, chat.crop_turn(crop, ended=False).ids
    assert unended.tolist() == [chat.tokenizer.eos_token_id, *ended.tolist()]


def test_bf16_cached_is_as_close_to_fp32_as_fresh(of_a_family):
    """In bf16 neither path is exact; the cached one must not be further from fp32 than 1.5x the fresh one."""
    errors = {True: [], False: []}
    for attention in ("sdpa", "eager"):
        models = {
            dtype: load(CommonArgs(pretrained=str(of_a_family), attn_implementation=attention, dtype=dtype), "cpu")
            for dtype in ("float32", "bfloat16")
        }
        for seed, ids in enumerate(REQUESTS):
            outs = {}
            for dtype, (model, processor) in models.items():
                chat = ChatFormat(processor)
                case = Case(chat, (640, 480), ids, seed)
                for reuse in (True, False):
                    outs[dtype, reuse] = after_call((model, chat), case, reuse)
            for reuse in (True, False):
                errors[reuse].append((outs["bfloat16", reuse] - outs["float32", False]).abs().mean().item())
    cached, fresh = (sum(errors[reuse]) / len(errors[reuse]) for reuse in (True, False))
    assert cached <= 1.5 * fresh


def after_call(engine, case, reuse):
    """Logits of turn 2's first step behind a fixed call whose turn 1 was really prefilled when `reuse`."""
    conversation = converse(engine, [case], reuse_cache=reuse)
    conversation.generate(1, keep=0)
    conversation.say([case.call])
    conversation.continue_rows([0], [case.turn])
    return conversation.generate(1, return_logits=True)[0].logits[0]
