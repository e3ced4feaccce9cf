"""A plain `model.generate` inside `with pruner(model)`: it equals `Conversation`, or is refused."""

import pytest
import torch
from harness import picture
from peft import LoraConfig, get_peft_model
from transformers import StaticCache

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation
from lmms_awares.families import FAMILIES
from lmms_awares.models.config import CommonArgs
from lmms_awares.pruning import PRUNERS, PruningError
from lmms_awares.pruning.base import Pruner
from lmms_awares.pruning.stages import StagedPruner

TOLERANCE = 1e-5
STEPS = 6
SIZES = [[(12, 9)], [(8, 6), (5, 9)]]  # of each prompt's images, in visual tokens
QUESTIONS = ["What is it?", "And what do these two pictures have in common? " * 2]
ACTING = [name for name in PRUNERS if not PRUNERS[name](0.5).resizes]
STAGED = [name for name in ACTING if issubclass(PRUNERS[name], StagedPruner)]


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def engine(request, small_checkpoint):
    return build(small_checkpoint, request.param)


@pytest.fixture(scope="module")
def sdpa(small_checkpoint):
    return build(small_checkpoint, "sdpa")


def build(checkpoint, attention, dtype="float32"):
    args = CommonArgs(pretrained=str(checkpoint), attn_implementation=attention, dtype=dtype, min_pixels=784)
    return load(args, "cpu")


def pictures(model, sizes):
    side = FAMILIES[model.config.model_type].token_side
    return [picture((side * w, side * h), 10 * w + h) for w, h in sizes]


def messages(sizes, question):
    content = [{"type": "image"} for _ in sizes]
    if len(content) > 1:
        content.insert(1, {"type": "text", "text": "and this:"})
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def plain_inputs(engine, rows=(0, 1)):
    """What a user of transformers gives `generate`: the processor's own output, padded on the left."""
    model, processor = engine
    texts = [
        processor.apply_chat_template(messages(SIZES[row], QUESTIONS[row]), tokenize=False, add_generation_prompt=True)
        for row in rows
    ]
    images = [image for row in rows for image in pictures(model, SIZES[row])]
    return processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")


def generate(engine, inputs, pruner=None, **options):
    model, processor = engine
    settings = {"max_new_tokens": STEPS, "do_sample": False, "pad_token_id": processor.tokenizer.pad_token_id}
    settings |= {"return_dict_in_generate": True, "output_logits": True, **options}
    if pruner is None:
        return model.generate(**inputs, **settings)
    with pruner(model):
        return model.generate(**inputs, **settings)


def converse(engine, pruner=None, rows=(0, 1)):
    """The same prompts through our own engine."""
    model, processor = engine
    chat = ChatFormat(processor)
    prompts = [
        chat.segment(chat.render(messages(SIZES[row], QUESTIONS[row]), None), pictures(model, SIZES[row]))
        for row in rows
    ]
    ids = {"end_ids": chat.end_ids, "pad_token_id": chat.tokenizer.pad_token_id}
    return Conversation(model, prompts, **ids, pruner=pruner).generate(STEPS, return_logits=True)


def assert_same(out, replies, prompt_length):
    logits = torch.stack(out.logits, 1)
    for row, reply in enumerate(replies):
        said = out.sequences[row, prompt_length : prompt_length + len(reply.ids)]
        assert said.tolist() == reply.ids
        assert (logits[row, : len(reply.ids)] - reply.logits).abs().max() < TOLERANCE


def cached(out):
    return [out.past_key_values.get_seq_length(layer) for layer in range(len(out.past_key_values.layers))]


@pytest.mark.parametrize("name", ACTING)
def test_it_equals_the_conversation(engine, name):
    """Two prompts of other lengths, three images, six steps: tokens, logits, and the length of every layer's cache."""
    inputs = plain_inputs(engine)
    length = inputs["input_ids"].shape[1]
    assert not inputs["attention_mask"].all()
    replies = converse(engine, PRUNERS[name](0.5))
    out = generate(engine, inputs, PRUNERS[name](0.5))
    assert len(out.logits) == STEPS
    assert_same(out, replies, length)
    longest = [max(counts) for counts in zip(*(reply.visual.cached for reply in replies), strict=True)]
    assert cached(out) == [count + STEPS - 1 for count in longest]
    assert min(cached(out)) < length
    assert cached(generate(engine, inputs)) == [length + STEPS - 1] * 4


@pytest.mark.parametrize("name", ACTING)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "qwen2_5_vl"])
def test_other_families(small_checkpoints, family, name):
    engine = build(small_checkpoints[family], "sdpa")
    depth = engine[0].config.text_config.num_hidden_layers
    ratio = 0.9 if name in STAGED else 0.5  # DeepStack leaves few layers to a stage of so small a model
    inputs = plain_inputs(engine)
    replies = converse(engine, PRUNERS[name](ratio))
    out = generate(engine, inputs, PRUNERS[name](ratio))
    assert_same(out, replies, inputs["input_ids"].shape[1])
    assert sum(cached(out)) < depth * (inputs["input_ids"].shape[1] + STEPS - 1)


@pytest.mark.parametrize("name", PRUNERS)
def test_keeping_all_is_the_model_itself(sdpa, name):
    inputs = plain_inputs(sdpa)
    plain, kept = generate(sdpa, inputs), generate(sdpa, inputs, PRUNERS[name](1))
    assert torch.equal(plain.sequences, kept.sequences)
    assert (torch.stack(plain.logits) - torch.stack(kept.logits)).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ACTING)
def test_it_is_not_vacuous(sdpa, name):
    inputs = plain_inputs(sdpa)
    plain, pruned = generate(sdpa, inputs), generate(sdpa, inputs, PRUNERS[name](0.5))
    assert (plain.logits[0] - pruned.logits[0]).abs().amax(1).min() > 0.01


def test_official_holov_decides_on_the_token_in_front_too(sdpa):
    pruner = PRUNERS["holov"](0.7, official_wiring=True)
    inputs = plain_inputs(sdpa)
    assert_same(generate(sdpa, inputs, pruner), converse(sdpa, pruner), inputs["input_ids"].shape[1])


@pytest.mark.parametrize("name", [name for name in ACTING if name not in STAGED])
def test_without_a_cache_every_step_is_pruned_alike(sdpa, name):
    inputs = plain_inputs(sdpa)
    fresh = generate(sdpa, inputs, PRUNERS[name](0.5), use_cache=False)
    assert_same(fresh, converse(sdpa, PRUNERS[name](0.5)), inputs["input_ids"].shape[1])


@pytest.mark.parametrize("name", ACTING)
def test_beams_share_their_images(sdpa, name):
    """Two beams of a batch of two prompts are those of each prompt alone."""
    options = {"num_beams": 2, "output_logits": False, "output_scores": True}
    together = generate(sdpa, plain_inputs(sdpa), PRUNERS[name](0.5), **options)
    for row in (0, 1):
        alone = generate(sdpa, plain_inputs(sdpa, [row]), PRUNERS[name](0.5), **options)
        assert together.sequences[row, -STEPS:].tolist() == alone.sequences[0, -STEPS:].tolist()
        assert together.sequences_scores[row] == pytest.approx(alone.sequences_scores[0].item(), abs=TOLERANCE)


@pytest.mark.parametrize("name", ACTING)
@torch.no_grad()
def test_a_loop_of_ones_own_over_forward(sdpa, name):
    """No `generate`: the prefill's last logits and a loop on its cache, without positions or masks given."""
    model, _ = sdpa
    inputs = plain_inputs(sdpa)
    replies = converse(sdpa, PRUNERS[name](0.5))
    with PRUNERS[name](0.5)(model):
        out = model(**inputs)
        for step in range(min(len(reply.ids) for reply in replies)):
            found = torch.stack([reply.logits[step] for reply in replies])
            assert (out.logits[:, -1] - found).abs().max() < TOLERANCE
            said = torch.tensor([[reply.ids[step]] for reply in replies])
            out = model(input_ids=said, past_key_values=out.past_key_values)


@pytest.mark.parametrize("name", ACTING)
def test_bfloat16(small_checkpoint, name):
    """The dtype that real checkpoints run in; which tokens stay may differ, how many may not."""
    found = []
    for dtype in ("float32", "bfloat16"):
        engine = build(small_checkpoint, "sdpa", dtype)
        found.append(generate(engine, plain_inputs(engine), PRUNERS[name](0.5)))
    assert cached(found[0]) == cached(found[1])
    assert all(step.isfinite().all() for step in found[1].logits)


@pytest.mark.parametrize("name", ACTING)
def test_one_after_the_other(sdpa, name):
    """Several prompts inside one `with`, a text among them."""
    model, processor = sdpa
    text = processor(text=["Hello there"], return_tensors="pt")
    settings = {"max_new_tokens": 3, "do_sample": False}
    alone = [generate(sdpa, plain_inputs(sdpa, [row]), PRUNERS[name](0.5), **settings).sequences for row in (0, 1)]
    plain = model.generate(**text, **settings)
    with PRUNERS[name](0.5)(model):
        assert torch.equal(model.generate(**plain_inputs(sdpa, [0]), **settings), alone[0])
        assert torch.equal(model.generate(**text, **settings), plain)
        assert torch.equal(model.generate(**plain_inputs(sdpa, [1]), **settings), alone[1])


# Refused, not ignored -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PRUNERS if name not in ACTING])
def test_a_pruner_that_resizes_is_refused(sdpa, name):
    with pytest.raises(PruningError, match=f"{name} makes images smaller before the processor sees them"):
        generate(sdpa, plain_inputs(sdpa), PRUNERS[name](0.5))


def test_a_model_that_cannot_be_served_is_refused(small_checkpoint):
    model, processor = build(small_checkpoint, "sdpa")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(PruningError, match="sparsevlm runs with attn_implementation sdpa or eager"):
        generate((model, processor), {}, PRUNERS["sparsevlm"](0.5))


def test_what_is_no_model_of_ours_is_refused(small_checkpoint):
    model, _ = build(small_checkpoint, "sdpa")
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2))
    for other in (torch.nn.Linear(2, 2), model.model, wrapped):
        words = (
            f"random: the model must be a Qwen2_5_VL.* or Qwen3VL.*, not a {type(other).__name__}; .*merge_and_unload"
        )
        with pytest.raises(PruningError, match=words), PRUNERS["random"](0.5)(other):
            pass
    with PRUNERS["random"](0.5)(wrapped.merge_and_unload()):
        pass


def video(inputs, model):
    return {**inputs, "pixel_values_videos": inputs["pixel_values"], "video_grid_thw": inputs["image_grid_thw"]}


def embedded(inputs, model):
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    return {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}


def without_pixels(inputs, model):
    return {key: inputs[key] for key in ("input_ids", "attention_mask")}


def encoded_before(inputs, model):
    pixels, grids = inputs["pixel_values"], inputs["image_grid_thw"]
    features = model.model.get_image_features(pixels, grids, return_dict=True)
    return {**without_pixels(inputs, model), "mm_encoder_outputs": {"image": features}}


def in_a_static_cache(inputs, model):
    return {**inputs, "past_key_values": StaticCache(model.config, max_cache_len=300)}


def in_chunks(inputs, model):
    return {**inputs, "prefill_chunk_size": 32}


REFUSED = {
    video: "prunes images only, and the prompt holds a video",
    embedded: "needs input_ids",
    without_pixels: "needs the pixel_values of the images in the prompt",
    encoded_before: "these images were encoded without it",
    in_chunks: "prefill_chunk_size",
    in_a_static_cache: "needs a DynamicCache, not StaticCache",
}


@pytest.mark.parametrize("name", ["random", "fastv"])
@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@torch.no_grad()
def test_inputs_that_it_cannot_prune(sdpa, change, name):
    model, _ = sdpa
    with pytest.raises(PruningError, match=REFUSED[change]):
        generate(sdpa, change(plain_inputs(sdpa), model), PRUNERS[name](0.5))


def test_one_pruner_at_a_time(sdpa):
    """A second one, or the engine, would prune what the first has pruned."""
    model, _ = sdpa
    before = hooks_of(model)
    with PRUNERS["random"](0.5)(model):
        inside = hooks_of(model)
        for nested in (lambda: generate(sdpa, plain_inputs(sdpa), PRUNERS["fastv"](0.5)), lambda: converse(sdpa)):
            with pytest.raises(PruningError, match="one pruner acts at a time; leave it first"):
                nested()
        assert hooks_of(model) == inside
        generate(sdpa, plain_inputs(sdpa))
    assert hooks_of(model) == before
    converse(sdpa)


@torch.no_grad()
def test_a_mask_of_ones_own_is_refused(sdpa):
    model, _ = sdpa
    inputs = plain_inputs(sdpa)
    length = inputs["input_ids"].shape[1]
    inputs["attention_mask"] = torch.zeros(2, 1, length, length)
    with (
        PRUNERS["random"](0.5)(model),
        pytest.raises(PruningError, match=r"needs a mask of \[batch, length\], not one"),
    ):
        model(**inputs)


@pytest.mark.parametrize("name", ["random", "sparsevlm"])
def test_a_second_turn_on_the_cache_is_refused(sdpa, name):
    model, _ = sdpa
    inputs = plain_inputs(sdpa, [0])
    with PRUNERS[name](0.5)(model):
        out = model.generate(**inputs, max_new_tokens=2, return_dict_in_generate=True)
        ids = torch.cat([out.sequences, inputs["input_ids"][:, -5:]], 1)
        more = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with pytest.raises(PruningError, match=f"{name} prunes one prefill only"):
            model.generate(**more, past_key_values=out.past_key_values, max_new_tokens=2)


@pytest.mark.parametrize("name", STAGED)
def test_without_a_cache_a_staged_pruner_is_refused(sdpa, name):
    """It would score by the last token that was generated, and so choose anew in each step."""
    with pytest.raises(PruningError, match=f"{name} prunes inside the model.*needs use_cache=True"):
        generate(sdpa, plain_inputs(sdpa), PRUNERS[name](0.5), use_cache=False)


def test_a_question_without_an_end_is_refused(sdpa):
    model, processor = sdpa
    text = f"<|vision_start|>{processor.image_token}<|vision_end|>What is it?"
    inputs = processor(text=[text], images=pictures(model, SIZES[0]), return_tensors="pt")
    with pytest.raises(PruningError, match=r"cdpruner reads the question, and no end of turn \(.*\) stands behind"):
        generate(sdpa, inputs, PRUNERS["cdpruner"](0.5))
    assert cached(generate(sdpa, inputs, PRUNERS["divprune"](0.5)))[0] < inputs["input_ids"].shape[1]


def test_the_question_ends_where_the_turn_does(sdpa, monkeypatch):
    """With any of the ends that the generation config names; the engine's rule, token for token."""
    asked = []

    class Listening(Pruner):
        reads_question = True

        def keep(self, image):
            asked.append(image.question)
            return super().keep(image)

    model, processor = sdpa
    ends = [processor.tokenizer.convert_tokens_to_ids("<|endoftext|>"), model.generation_config.eos_token_id]
    monkeypatch.setattr(model.generation_config, "eos_token_id", ends)
    generate(sdpa, plain_inputs(sdpa), Listening(1))
    converse(sdpa, Listening(1))
    plain, engine = asked[:3], asked[3:]
    assert [len(question) for question in plain] == [len(question) for question in engine]
    assert all(torch.equal(a, b) for a, b in zip(plain, engine, strict=True))
    table = model.get_input_embeddings().weight
    assert torch.equal(plain[0], table[processor.tokenizer.encode(QUESTIONS[0], add_special_tokens=False)])


def hooks_of(model):
    return [len(hooks) for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks)]


@pytest.mark.parametrize("name", ACTING)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_found(sdpa, name, fails, monkeypatch):
    model, _ = sdpa
    before, inputs = hooks_of(model), plain_inputs(sdpa)
    plain = generate(sdpa, inputs)
    if fails:
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(model.lm_head, "forward", lambda *_: 1 / 0)
            generate(sdpa, inputs, PRUNERS[name](0.5))
    else:
        generate(sdpa, inputs, PRUNERS[name](0.5))
    assert hooks_of(model) == before
    again = generate(sdpa, inputs)
    assert torch.equal(plain.sequences, again.sequences)
    assert all(torch.equal(a, b) for a, b in zip(plain.logits, again.logits, strict=True))
