"""Control crops: what the second turn shows in their place, its tokens, and that it depends on the sample alone."""

import numpy as np
import pytest
from harness import SPLIT, TASK, answers, document, picture, requests
from PIL import Image

from lmms_awares.envelope import unseal
from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.images import digest
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import parse_args
from lmms_awares.models.control_crops import GREY, control, other_image
from lmms_awares.protocol import ToolCall, get_crops
from lmms_awares.views import View, show

SIZES = [(640, 480), (300, 500), (850, 600), (96, 64), (420, 336)]
CONTROLS = ("blank", "shuffled", "other")


@pytest.fixture(scope="module")
def docs():
    """The last two share their image, as the questions of one picture do."""
    made = [document(size, seed) for seed, size in enumerate(SIZES)]
    return [*made, document(SIZES[0], 0, question="And here?")]


@pytest.fixture
def build(small_checkpoint):
    def make(batch_size=1, **arguments):
        limits = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
        return Awares("cpu", batch_size, pretrained=str(small_checkpoint), dtype="float32", **limits, **arguments)

    return make


@pytest.fixture
def calling(monkeypatch):
    """A policy that calls by what the model really said, and sometimes not."""

    def call(text):
        ids = ((), ("0",), ("0", "5"), ("all",))[len(set(text)) % 4]
        return ToolCall(ids, "valid", text) if ids else None

    monkeypatch.setattr(get_crops, "parse_reply", call)


def pixels(image):
    return np.asarray(image).reshape(-1, 3)


def test_blank_and_shuffled_views():
    view = View(picture((84, 56)), 6)
    blank, shuffled = (control(view, content, "seed") for content in ("blank", "shuffled"))
    assert (blank.tokens, shuffled.tokens) == (6, 6)
    assert blank.image.size == shuffled.image.size == (84, 56)
    assert (pixels(blank.image) == GREY).all()
    sorted_rows = [np.sort(pixels(image).view("u1,u1,u1").ravel()) for image in (view.image, shuffled.image)]
    assert (sorted_rows[0] == sorted_rows[1]).all()  # the same pixels, channels together …
    assert (pixels(view.image) != pixels(shuffled.image)).any(axis=1).mean() > 0.9  # … elsewhere
    assert shuffled.image.tobytes() == control(view, "shuffled", "seed").image.tobytes()
    assert shuffled.image.tobytes() != control(view, "shuffled", "another").image.tobytes()
    assert control(view, "true", "seed") is control(view, "other", "seed") is view


def test_another_documents_image():
    own = picture((200, 100), 0)
    images = [[own], [own.copy()], [picture((90, 120), 2)], [], [picture((50, 50), 4)]]

    def read(number):
        if number == 4:
            raise OSError("truncated")
        return images[number]

    for seed in "abcdefgh":
        lent = other_image(own, len(images), read, seed)
        assert lent.doc_id == 2  # the others are the same, lack an image, or cannot be read
        assert lent.image.tobytes() == images[2][0].resize((200, 100), Image.Resampling.LANCZOS).tobytes()
    with pytest.raises(SampleError, match="none of the 2 documents has another one"):
        other_image(own, 2, read, "a")
    with pytest.raises(ZeroDivisionError):  # of no sample, so not passed over
        other_image(own, 1, lambda number: 1 // 0, "a")


def test_the_choice_is_seeded_and_even():
    many = [[picture((28, 28), seed)] for seed in range(8)]
    drawn = [other_image(many[0][0], 8, many.__getitem__, str(seed)).doc_id for seed in range(280)]
    counts = [drawn.count(number) for number in range(8)]
    assert counts[0] == 0
    assert min(counts[1:]) > 20 and max(counts[1:]) < 65  # 40 each; both bounds lie over three deviations away
    assert drawn[:9] == [other_image(many[0][0], 8, many.__getitem__, str(seed)).doc_id for seed in range(9)]


@pytest.mark.parametrize("content", ["true", *CONTROLS])
@pytest.mark.parametrize("base", ["processed", "raw"])
def test_what_the_second_turn_shows(build, docs, content, base, monkeypatch):
    """The views of every forced call, held against the true crops; tokens, boxes and RTR stay theirs."""
    shown = []
    respond = Awares.respond

    def spy(self, sample, call):
        turn = respond(self, sample, call)
        shown.append((sample, call, turn.views))
        return turn

    true = [trace for _, trace in answers(build(policy="random", lowres_base=base), docs)]
    monkeypatch.setattr(Awares, "respond", spy)
    found = [trace for _, trace in answers(build(policy="random", lowres_base=base, crops=content), docs)]
    for own, control_trace in zip(true, found, strict=True):
        for name in ("crops", "visual_tokens", "full_tokens", "rtr", "tool_call", "image_size", "image_digest"):
            assert getattr(own, name) == getattr(control_trace, name), name
        assert control_trace.crop_content == content
        assert (control_trace.lender is not None) == (content == "other" and bool(own.crops))
    assert len(shown) >= 3
    for sample, call, views in shown:
        crops = [show(sample.images[0], sample.plans[0], id) for id in sample.plans[0].requested(call.ids)]
        assert [(view.image.size, view.tokens) for view in views] == [(crop.image.size, crop.tokens) for crop in crops]
        for view, crop in zip(views, crops, strict=True):
            if content == "blank":
                assert view.image.getcolors() == [(view.image.width * view.image.height, GREY)]
            elif content == "shuffled":
                assert sorted(map(tuple, pixels(view.image))) == sorted(map(tuple, pixels(crop.image)))
            assert (digest(view.image) == digest(crop.image)) == (content == "true")
        if content == "other":
            (lender,) = docs[sample.lent.doc_id]["images"]
            assert digest(lender) != digest(sample.images[0])
            assert sample.lent.image.size == sample.images[0].size


@pytest.mark.parametrize("content", CONTROLS)
def test_batches_and_shares_equal_singles(build, docs, content, calling):
    """Also where a process has only some of the documents, in another order."""
    single, batched = answers(build(crops=content), docs), answers(build(batch_size=4, crops=content), docs)
    told = [(answer, trace.crops, trace.lender, [turn.text for turn in trace.turns]) for answer, trace in single]
    assert told == [
        (answer, trace.crops, trace.lender, [turn.text for turn in trace.turns]) for answer, trace in batched
    ]
    assert {bool(trace.crops) for _, trace in single} == {True, False}
    model = build(batch_size=2, crops=content)
    model.task_dict = {TASK: {SPLIT: docs}}
    share = [unseal(text) for text, _ in model.generate_until(requests(docs)[::-2])]
    assert [(answer, trace.crops, trace.lender) for answer, trace in share] == [one[:3] for one in told[::-2]]


def test_content_reaches_the_model(build, docs):
    """The same forced calls, another second turn: some answer of the random model changes."""
    contents = ("true", "blank", "shuffled")
    said = {tuple(a for a, _ in answers(build(policy="always_full", crops=content), docs)) for content in contents}
    assert len(said) == 3


def test_a_lender_is_part_of_what_a_journal_knows(build, docs, tmp_path):
    """With other data around it, a document may be lent another image: its recorded answer no longer holds."""
    journal = tmp_path / "journal.jsonl"
    arguments = {"policy": "always_full", "crops": "other", "journal": journal}
    first = answers(build(**arguments), docs[:3])
    assert all(trace.reused for _, trace in answers(build(**arguments), docs[:3]))
    changed = [docs[0], docs[1], document((200, 200), 99)]
    again = answers(build(**arguments), changed)
    assert [trace.reused for _, trace in again] == [first[i][1].lender == 1 - i for i in (0, 1)] + [False]


def test_alone_a_document_fails_and_says_why(build, docs):
    ((_, trace),) = answers(build(policy="always_full", crops="other"), docs[:1])
    assert "crops=other needs a second image" in trace.failed


def test_arguments():
    given = {"pretrained": "x"}
    assert parse_args("awares", given | {"crops": True}).crops == parse_args("awares", given).crops == "true"
    with pytest.raises(ConfigError, match=r"crops=blank has no effect with policy=never"):
        parse_args("awares", given | {"crops": "blank", "policy": "never"})
    with pytest.raises(ConfigError, match=r"crops of awares: .*'blank', 'shuffled' or 'other'"):
        parse_args("awares", given | {"crops": "grey"})
    with pytest.raises(ConfigError, match="unknown model argument crops for visionthink"):
        parse_args("visionthink", given | {"crops": "blank"})
