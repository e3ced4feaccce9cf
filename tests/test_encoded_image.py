"""What a pruner is told about an image: its grid and the question; and which pruners the question guides."""

import pytest
import torch
from harness import picture

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation, question_of
from lmms_awares.models.config import CommonArgs
from lmms_awares.pruning import PRUNERS
from lmms_awares.pruning.base import EncodedImage, Kept, Pruner
from lmms_awares.pruning.stages import StagedPruner
from lmms_awares.tokens import TOKEN_SIDE

GRIDS = [(9, 12), (15, 7)]  # (rows, columns) in visual tokens
QUESTION = "What is it?"


class Listening(Pruner):
    """Keeps everything, and what it was told."""

    name = "listening"
    reads_question = True
    reads_attention = True

    def __init__(self) -> None:
        super().__init__(1)
        self.told: list[EncodedImage] = []

    def keep(self, image: EncodedImage) -> Kept:
        self.told.append(image)
        return super().keep(image)


@pytest.fixture(scope="module")
def engine(small_checkpoint):
    model, processor = load(CommonArgs(pretrained=str(small_checkpoint), dtype="float32", min_pixels=784), "cpu")
    return model, ChatFormat(processor)


def image(number):
    rows, columns = GRIDS[number]
    return picture((TOKEN_SIDE * columns, TOKEN_SIDE * rows), number)


def prompt(chat, content, system="Look."):
    """A user turn; numbers in `content` are images."""
    parts = [{"type": "image"} if isinstance(part, int) else {"type": "text", "text": part} for part in content]
    images = [image(part) for part in content if isinstance(part, int)]
    return chat.segment(chat.render([{"role": "user", "content": parts}], system), images)


def converse(engine, prompts, pruner, **options):
    model, chat = engine
    ids = {"end_ids": chat.end_ids, "pad_token_id": chat.tokenizer.pad_token_id}
    return Conversation(model, prompts, **ids, pruner=pruner, **options)


def embedded(engine, text):
    model, chat = engine
    return model.get_input_embeddings().weight[chat.tokenizer.encode(text, add_special_tokens=False)]


@pytest.mark.parametrize(
    ("content", "question"),
    [
        ([0, QUESTION], QUESTION),
        ([0, "and this:", 1, QUESTION], QUESTION),
        (["Look here.", 0, "Why?\nShow it."], "Why?\nShow it."),
        ([QUESTION, 0], ""),
    ],
)
def test_the_question_is_the_text_behind_the_last_image(engine, content, question):
    """No system prompt, no role, no end of turn, no vision token."""
    chat = engine[1]
    for system in ("Look.", None):
        ids = question_of([prompt(chat, content, system)], chat.end_ids[0])
        assert ids.tolist() == chat.tokenizer.encode(question, add_special_tokens=False)


def test_every_image_knows_its_grid_and_question(engine):
    """Rows of a batch with other images and other questions, and one without an image."""
    prompts = [prompt(engine[1], content) for content in ([0, "Why?"], ["No image."], [1, "and", 0, QUESTION])]
    pruner = Listening()
    converse(engine, prompts, pruner).generate(1)
    assert [told.grid for told in pruner.told] == [GRIDS[0], GRIDS[1], GRIDS[0]]
    assert [len(told.embeds) for told in pruner.told] == [108, 105, 108]
    for told, text in zip(pruner.told, ("Why?", QUESTION, QUESTION), strict=True):
        assert torch.equal(told.question, embedded(engine, text))


@pytest.mark.parametrize("reuse", [True, False])
def test_images_of_a_second_turn_are_asked_the_first_question(engine, reuse):
    """With the first turn in the cache as in a fresh prefill; so does the order of rows not matter."""
    pruner = Listening()
    prompts = [prompt(engine[1], [0, "Why?"]), prompt(engine[1], [1, QUESTION])]
    conversation = converse(engine, prompts, pruner, reuse_cache=reuse)
    conversation.generate(2, keep=1)
    pruner.told.clear()
    conversation.continue_rows([1], [engine[1].crop_turn([image(0)], ended=False)])
    conversation.generate(1)
    assert [told.grid for told in pruner.told] == ([GRIDS[0]] if reuse else [GRIDS[1], GRIDS[0]])
    for told in pruner.told:
        assert torch.equal(told.question, embedded(engine, QUESTION))


def test_only_who_asks_gets_the_question(engine, monkeypatch):
    pruner = Listening()
    monkeypatch.setattr(Listening, "reads_question", False)
    converse(engine, [prompt(engine[1], [0, QUESTION])], pruner).generate(1)
    assert [told.question for told in pruner.told] == [None]


def kept_by(name, *contents, told, **options):
    return [tuple(PRUNERS[name](0.5, **options).keep(told(content)).index.tolist()) for content in contents]


BEFORE = [name for name, kind in PRUNERS.items() if not (kind(0.5).resizes or issubclass(kind, StagedPruner))]


@pytest.mark.parametrize("name", BEFORE)
def test_whom_the_question_guides(engine, name):
    """Other questions about one image: other tokens for those that read them, the same for the text-agnostic ones."""

    def told(text):
        pruner = Listening()
        converse(engine, [prompt(engine[1], [0, text])], pruner).generate(1)
        return pruner.told[0]

    kept = kept_by(name, "Why?", "Count 12345.", "", told=told)
    assert (len(set(kept)) > 1) == PRUNERS[name].reads_question
    if name == "cdpruner":
        assert len(set(kept)) == 3
        assert kept_by(name, "Why?", told=told, negate_relevance=True)[0] not in kept


def test_cdpruner_without_a_question_chooses_by_diversity_alone(engine):
    from lmms_awares.pruning import cdpruner

    pruner = Listening()
    converse(engine, [prompt(engine[1], [QUESTION, 0])], pruner).generate(1)
    (told,) = pruner.told
    wanted = cdpruner.select(told.embeds, torch.ones(108), 54).sort().values
    assert PRUNERS["cdpruner"](0.5).keep(told).index.tolist() == wanted.tolist()
