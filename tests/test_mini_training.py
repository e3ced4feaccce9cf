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
from lmms_awares.mini.suite import GRADED
from lmms_awares.mini.tokenizer import make_tokenizer
from lmms_awares.mini.training import dialogues
from lmms_awares.mini.training.batches import collate, loss, tokenize
from lmms_awares.mini.training.dialogues import (
    DEFAULT_PROMPT,
    MAKERS,
    Asker,
    opening,
    second_look,
    second_whole,
    user_text,
)
from lmms_awares.mini.training.features import encode, patchify
from lmms_awares.mini.training.language import Scenes, Stage
from lmms_awares.mini.training.recipe import RECIPE, THINKING, Recipe, corpus, train, train_adapter
from lmms_awares.mini.training.tower import _CHARACTERS, _FIRST, _IGNORED, _facts, train_tower
from lmms_awares.models.resolution import FullResolution
from lmms_awares.protocol import parse_reply
from lmms_awares.protocol.get_crops import TOOL_NAME
from lmms_awares.tasks.benchmarks import DRAWN, DRAWN_SUITE, MINI_TASKS, OWN_TASKS


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
    rows = [tokenize(tokenizer, some_dialogue(kind)) for kind in ("places", "second_look", "full_view")]
    with torch.no_grad():
        together, _ = loss(model, collate(tokenizer, rows), tower=False)
        alone = [loss(model, collate(tokenizer, [row]), tower=False)[0] for row in rows]
    learnt = [sum(number > 0 for number in row.replies) for row in rows]
    mean = sum(value * count for value, count in zip(alone, learnt, strict=True)) / sum(learnt)
    torch.testing.assert_close(together, mean, atol=1e-4, rtol=1e-4)


def test_kept_visual_tokens_change_nothing(tokenizer):
    model = new_model(tokenizer, 1).eval()
    batch = collate(tokenizer, [tokenize(tokenizer, some_dialogue("second_look"))])
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


class Heard(Asker):
    """An asker that keeps what it was last asked for."""

    def ask(self, *given):
        self.asked = super().ask(*given)
        return self.asked


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_second_look_shows_what_the_question_before_it_needs(benchmark, monkeypatch):
    """The smallest crop that shows it, alone; the guess before it is not learnt, and answers no question from there on.

    Replies name their questions here, as answers of different questions may be equal.
    """
    monkeypatch.setattr(dialogues, "answer", lambda question: question.text)
    generator = random.Random(2)
    lengths = Counter()
    for _ in range(20):
        asker = Heard(generator, benchmark, (448, 224))
        dialogue = second_look(asker, 3)
        questions = {question.text: question for question in asker.asked}
        guesses, looks = dialogue[::2], dialogue[1::2]
        assert len(looks) == max(len(questions) - 1, 0)
        for number, (guess, look) in enumerate(zip(guesses, looks, strict=True)):
            question = questions[look.reply]
            assert question.text in guess.text and question.text not in look.text
            assert guess.views == (() if number else (asker.low,))
            assert look.views == (asker.crop(asker.target(question)),)
            assert look.learn and not guess.learn
            assert guess.reply in questions
            assert guess.reply not in [later.reply for later in looks[number:]]
        lengths[len(looks)] += 1
    assert max(lengths) == 3


def test_a_second_look_may_show_the_whole_picture():
    asker = Asker(random.Random(2), "docvqa_val", (448, 224))
    guess, look = second_whole(asker, 3)
    assert (guess.views, look.views) == ((asker.low,), (asker.full,))
    assert look.views[0].image.size == (448, 224)
    assert look.learn and not guess.learn


def test_the_base_is_never_taught_to_call():
    """AwaRes' call is learnt by the training that any checkpoint gets, not by the tiny base."""
    generator = random.Random(3)
    stages = [*RECIPE.stages.values(), THINKING]
    replies = [
        turn.reply
        for kind in sorted({kind for stage in stages for kind in stage.mix})
        for benchmark in BENCHMARKS
        for _ in range(5)
        for turn in MAKERS[kind](Asker(generator, benchmark, (448, 224)), 3)
    ]
    assert len(replies) > 300
    assert not [reply for reply in replies if TOOL_NAME in reply or parse_reply(reply) is not None]


@pytest.mark.parametrize(
    ("fine", "legibility", "low"),
    [(True, 0.0, _IGNORED), (True, 0.9, _CHARACTERS.index("K")), (False, 0.0, _CHARACTERS.index("K"))],
)
def test_the_tower_is_asked_for_characters_where_they_can_be_read(fine, legibility, low):
    """Faint print too: how surely the tower reads it there is what it learns."""
    item = Item(1, 2, "circle", "red", "K7", fine=fine, symbol_cell=(1, 1), text_cell=(0, 1), legibility=legibility)
    scene = Scene(224, 224, "scene", (item,))
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


@pytest.mark.parametrize("task", [*MINI_TASKS, "awares_graded_docvqa"])
def test_prompts_are_the_tasks_own(task, small_checkpoint, tmp_path, monkeypatch):
    model = FullResolution(pretrained=str(small_checkpoint), device="cpu", batch_size=3)
    heard = overhearing(model, monkeypatch)
    run_tasks(model, [task], tmp_path, limit=3, gen_kwargs="max_new_tokens=1")
    benchmark, part = OWN_TASKS[task], DRAWN[DRAWN_SUITE[task]]
    expected = []
    for index in range(3):
        generator = random.Random(f"{part}/{benchmark}/{index}")
        _, question = BENCHMARKS[benchmark].sample(generator, graded=part in GRADED)
        content = [{"type": "image"}, {"type": "text", "text": user_text(benchmark, question)}]
        expected.append(opening(DEFAULT_PROMPT, content))
    assert sorted(heard) == sorted(expected)


def test_an_interrupted_training_goes_on_behind_its_last_stage(tmp_path):
    stage = Stage(2, 1e-3, 2, {"full_view": 1}, tokens=500)
    recipe = Recipe(tower=2, pictures=1, stages={"one": stage, "two": stage})
    entire = list(train(tmp_path / "whole", seed=3, recipe=recipe))
    assert [report["stage"] for report in entire] == ["tower", "one", "two"]
    for _ in itertools.islice(train(tmp_path / "parts", seed=3, recipe=recipe), 2):
        pass  # stopped while stage "one" ends
    rest = list(train(tmp_path / "parts", seed=3, recipe=recipe))
    assert [report["stage"] for report in rest] == ["tower", "one", "two"]
    assert [report["stage"] for report in rest if "kept" in report] == ["tower"]
    for folder in ("whole", "parts"):
        short = replace(stage, mix={"think": 1})
        assert [report["stage"] for report in train_adapter(tmp_path / folder, seed=3, stage=short)] == ["visionthink"]
    for file in ("model.safetensors", "visionthink/adapter_model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "whole", dtype="auto")
    assert model.dtype == torch.float32
