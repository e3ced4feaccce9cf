"""Training of the tiny checkpoint: its fast paths against transformers and lmms-eval, its repeatability."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from test_tasks import run_tasks
from torch.nn.functional import cross_entropy
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2VLImageProcessor

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.mini.architecture import new_model
from lmms_awares.mini.drawing import COLOURS, Item, Scene, draw
from lmms_awares.mini.questions import BENCHMARKS
from lmms_awares.mini.random_checkpoint import byte_tokenizer, save
from lmms_awares.mini.tokenizer import make_tokenizer
from lmms_awares.mini.training.batches import collate, loss, tokenize
from lmms_awares.mini.training.dialogues import (
    DEFAULT_PROMPT,
    MAKERS,
    Asker,
    crops,
    opening,
    user_text,
    whole,
)
from lmms_awares.mini.training.features import encode, patchify
from lmms_awares.mini.training.language import Scenes, Stage
from lmms_awares.mini.training.recipe import Recipe, corpus, train
from lmms_awares.mini.training.tower import _CHARACTERS, _FIRST, _IGNORED, _facts, train_tower
from lmms_awares.models.resolution import FullResolution
from lmms_awares.protocol import parse_reply
from lmms_awares.tasks.benchmarks import MINI_TASKS


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(corpus())


def some_dialogue(kind):
    generator = random.Random(kind)
    return next(filter(None, (MAKERS[kind](Asker(generator, "docvqa_val", (336, 224)), 2) for _ in range(50))))


@pytest.mark.parametrize("size", [(224, 224), (560, 224), (448, 336)])
def test_fast_tower_equals_transformers(size):
    tokenizer = byte_tokenizer()
    visual = new_model(tokenizer, 0).model.visual.eval()
    generator = random.Random(0)
    images = [draw(BENCHMARKS["pope"].draw(generator, size)) for _ in range(3)]

    processed = Qwen2VLImageProcessor(min_pixels=784, max_pixels=10**7)(images, return_tensors="pt")
    patches = patchify(images)
    torch.testing.assert_close(patches.flatten(0, 1), processed["pixel_values"], atol=1e-5, rtol=0)
    with torch.no_grad():
        expected = visual(processed["pixel_values"], processed["image_grid_thw"]).pooler_output
        found = encode(visual, patches, size)
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=2e-5, rtol=1e-4)


def test_tower_learns_and_repeats(tokenizer):
    def final_loss(steps):
        *_, report = train_tower(new_model(tokenizer, 0), tokenizer, steps=steps, batch=2, seed=1)
        return report["loss"]

    learnt = final_loss(40)
    assert learnt == final_loss(40)
    assert learnt < final_loss(1) - 3


def test_tokenizer_spells_answers_out_and_reads_anything():
    texts = [f"What is the value of bar {letter}?\nAnswer the question with a single word." for letter in "EFG"] * 50
    tokenizer = make_tokenizer(texts)
    for text in ("K7 4M", "What is the value of bar E?", "žluťoučký 汉字", *COLOURS):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("K7")) == 2
    assert len(tokenizer.encode("42")) == 2
    assert len(tokenizer.encode(texts[0])) <= 6


@pytest.mark.parametrize(
    "kind", [kind for kind in MAKERS if not kind.startswith("bare")]
)  # evaluation has no bare ones
def test_training_sees_what_evaluation_sees(kind, tokenizer, tmp_path):
    """Ids and loss equal those of the processor's tensors in transformers' own forward pass."""
    model = new_model(tokenizer, 1).eval()
    chat = ChatFormat(Qwen2_5_VLProcessor.from_pretrained(save(tmp_path, model, tokenizer)))
    dialogue = some_dialogue(kind)
    batch = collate(tokenizer, [tokenize(tokenizer, dialogue)])
    text = "".join(f"{turn.text}{turn.reply}<|im_end|>" for turn in dialogue)
    segment = chat.segment(text, [view.image for turn in dialogue for view in turn.views])
    assert segment.ids.tolist() == batch.ids[0].tolist()
    with torch.no_grad():
        logits = model(
            input_ids=segment.ids[None],
            pixel_values=segment.pixels,
            image_grid_thw=segment.grids,
            mm_token_type_ids=segment.is_image.int()[None],
        ).logits
        found, _ = loss(model, batch, tower=False)
    expected = cross_entropy(logits[0, :-1], batch.labels[0, 1:])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_padding_changes_nothing(tokenizer):
    model = new_model(tokenizer, 1).eval()
    rows = [tokenize(tokenizer, some_dialogue(kind)) for kind in ("decisions", "crops", "full_view")]
    with torch.no_grad():
        together, _ = loss(model, collate(tokenizer, rows), tower=False)
        alone = [loss(model, collate(tokenizer, [row]), tower=False)[0] for row in rows]
    learnt = [sum(number > 0 for number in row.replies) for row in rows]
    mean = sum(value * count for value, count in zip(alone, learnt, strict=True)) / sum(learnt)
    torch.testing.assert_close(together, mean, atol=1e-4, rtol=1e-4)


def test_kept_visual_tokens_change_nothing(tokenizer):
    model = new_model(tokenizer, 1).eval()
    batch = collate(tokenizer, [tokenize(tokenizer, some_dialogue("crops"))])
    with torch.no_grad():
        fresh, _ = loss(model, batch, tower=True)
        assert all(view.tokens is None for view in batch.views)
        first, _ = loss(model, batch, tower=False)
        assert all(view.tokens is not None for view in batch.views)
        again, _ = loss(model, batch, tower=False)
        batch.views[0].tokens = None
        mixed, _ = loss(model, batch, tower=False)
    assert fresh == first == again == mixed


def test_each_scene_of_the_stock_serves_the_same_number_of_dialogues():
    stock = Scenes(random.Random(0), fresh=False)
    served = Counter(stock.take("pope", (224, 224)) for _ in range(400))
    assert max(served.values()) == 8
    assert sum(served.values()) == 400 and 400 / 8 < len(served) < 400 / 8 + 24
    fresh = Scenes(random.Random(0), fresh=True)
    assert len({fresh.take("pope", (224, 224)) for _ in range(40)}) == 40


def test_a_crop_turn_shows_what_the_question_before_it_needs():
    """Every call is the oracle's, and its crop comes with the turn after it."""
    generator = random.Random(2)
    for _ in range(20):
        asker = Asker(generator, "docvqa_val", (448, 224))
        dialogue = crops(asker, 3)
        assert len(dialogue) % 2 == 0
        for call, reply in zip(dialogue[::2], dialogue[1::2], strict=True):
            (id,) = parse_reply(call.reply).ids
            assert reply.views == (asker.crop(id),)
            assert call.learn and reply.learn
    _, reply = whole(Asker(generator, "docvqa_val", (448, 224)), 3)
    assert reply.views[0].image.size == (448, 224)


@pytest.mark.parametrize(("fine", "low"), [(True, _IGNORED), (False, _CHARACTERS.index("K"))])
def test_the_tower_is_asked_for_characters_where_they_can_be_read(fine, low):
    items = (Item(1, 2, "circle", "red", "K7", fine=fine, symbol_cell=(1, 1), text_cell=(0, 1)),)
    scene = Scene(224, 224, "scene", items)
    full = torch.zeros(8, 8, dtype=torch.long)
    full[2, 5] = _CHARACTERS.index("K")
    assert torch.equal(_facts(scene, 2)[..., _FIRST], full)
    coarse = torch.zeros(4, 4, dtype=torch.long)
    coarse[1, 2] = low
    assert torch.equal(_facts(scene, 1)[..., _FIRST], coarse)


def overhearing(model, monkeypatch):
    """A list that gets the prompts which the model is asked."""
    heard, prepare = [], model.engine.prepare

    def listen(opening):
        heard.append(model.engine.wording(opening))
        return prepare(opening)

    monkeypatch.setattr(model.engine, "prepare", listen)
    return heard


@pytest.mark.parametrize("task", MINI_TASKS)
def test_prompts_are_the_tasks_own(task, small_checkpoint, tmp_path, monkeypatch):
    model = FullResolution(pretrained=str(small_checkpoint), device="cpu", batch_size=3)
    heard = overhearing(model, monkeypatch)
    run_tasks(model, [task], tmp_path, limit=3, gen_kwargs="max_new_tokens=1")
    benchmark = MINI_TASKS[task]
    expected = []
    for index in range(3):
        _, question = BENCHMARKS[benchmark].sample(random.Random(f"test/{benchmark}/{index}"))
        content = [{"type": "image"}, {"type": "text", "text": user_text(benchmark, question)}]
        expected.append(opening(DEFAULT_PROMPT, content))
    assert sorted(heard) == sorted(expected)


def test_an_interrupted_training_goes_on_behind_its_last_stage(tmp_path):
    stage = Stage(2, 1e-3, 2, {"full_view": 1}, tokens=500)
    recipe = Recipe(tower=2, pictures=1, stages={"one": stage, "two": stage}, adapter=replace(stage, mix={"think": 1}))
    entire = list(train(tmp_path / "whole", seed=3, recipe=recipe))
    assert [report["stage"] for report in entire] == ["tower", "one", "two", "visionthink"]
    for _ in itertools.islice(train(tmp_path / "parts", seed=3, recipe=recipe), 2):
        pass  # stopped while stage "one" ends
    rest = list(train(tmp_path / "parts", seed=3, recipe=recipe))
    assert [report["stage"] for report in rest] == ["tower", "one", "two", "visionthink"]
    assert [report["stage"] for report in rest if "kept" in report] == ["tower"]
    for file in ("model.safetensors", "visionthink/adapter_model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "whole", dtype="auto")
    assert model.dtype == torch.float32
