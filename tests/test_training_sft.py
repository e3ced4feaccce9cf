"""Supervised fine-tuning: the tokens are evaluation's, the loss is Eq. 4's, nothing but the assistant is trained."""

import math

import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from harness import picture
from trl import SFTConfig

from lmms_awares.curation.rows import BUILD
from lmms_awares.curation.transcripts import transcript
from lmms_awares.engine import checkpoint
from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.crop_turns import crop_turn
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.turns import Opening
from lmms_awares.errors import DataError
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import GetCrops, format_call, parse_reply
from lmms_awares.training.losses import IGNORED, weighted_nll
from lmms_awares.training.sft import WeightedSFTTrainer
from lmms_awares.training.trajectories import Collator, check_lengths, count_tokens, tokenize
from lmms_awares.views import LOWRES, plan_views, show

PARTS = ("whole", "call", "answer")
SIZE = (280, 224)
ROWS = {"direct": (), "quadrant": ("0",), "two": ("1", "6"), "whole": ("all",)}
FEATURES = Features({"id": Value("string"), "part": Value("string"), **BUILD})


@pytest.fixture(scope="module")
def engine(small_checkpoint):
    return LocalEngine.open(CommonArgs(pretrained=str(small_checkpoint), dtype="float32"), "cpu")


def row(name):
    image = picture(SIZE, seed=sum(map(ord, name)))
    messages, views = transcript(image, plan_views(*SIZE), f"What is {name}?", f"a {name}", ROWS[name])
    return {"id": name, "part": "whole", "messages": messages, "images": [view.image for view in views]}


@pytest.fixture(scope="module")
def batch(engine):
    return Collator(engine.chat)([row(name) for name in ROWS])


@pytest.mark.parametrize("name", ROWS)
def test_the_ids_are_those_of_evaluation(engine, name):
    """A trajectory as training sees it, and the same conversation as the engine holds it."""
    image, plan = picture(SIZE, seed=sum(map(ord, name))), plan_views(*SIZE)
    content = [{"type": "image"}, {"type": "text", "text": f"What is {name}?"}]
    opening = Opening([{"role": "user", "content": content}], GetCrops.own["system"], [show(image, plan, LOWRES)])
    talk = engine.start([engine.prepare(opening)])
    if ROWS[name]:
        call = format_call(ROWS[name])
        talk.say([call])
        talk.continue_rows([0], [talk.prepare(0, crop_turn(image, plan, parse_reply(call)))])
    talk.say([f"a {name}"])
    own = row(name)
    found = tokenize(engine.chat, own["messages"], own["images"])
    assert found.ids.tolist() == talk.conversation._ids[0].tolist()
    assert found.is_image.tolist() == talk.conversation._is_image[0].tolist()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("fixture", ["small_checkpoint", "checkpoint"])
def test_a_count_from_sizes_is_the_length(request, fixture, name, part):
    """With a byte tokenizer and with Qwen's; a size that is no grid's, too."""
    args = CommonArgs(pretrained=str(request.getfixturevalue(fixture)))
    chat = ChatFormat(checkpoint.load_format(args)[1])
    own = row(name)
    if part == "call" and not ROWS[name]:
        return
    for images in (own["images"], [picture((333 + 50 * n, 217), seed=n) for n in range(len(own["images"]))]):
        sizes = [image.size for image in images]
        found = count_tokens(chat, own["messages"], sizes, part=part)
        assert found == len(tokenize(chat, own["messages"], images, part=part).ids)


def test_the_longest_row_is_named_before_anything_is_trained(engine):
    """The limit is exact, and a row's call alone may fit where the whole does not."""
    rows = Dataset.from_list([row(name) for name in ROWS], FEATURES)
    lengths = [len(tokenize(engine.chat, row(name)["messages"], row(name)["images"]).ids) for name in ROWS]
    longest = lengths.index(max(lengths))
    layout = [(number, "whole") for number in range(len(ROWS))]
    check_lengths(rows, layout, engine.chat, max(lengths))
    words = f"row {list(ROWS)[longest]} has {max(lengths)} tokens, more than max_length={max(lengths) - 1}; "
    with pytest.raises(DataError, match=words):
        check_lengths(rows, layout, engine.chat, max(lengths) - 1)
    check_lengths(rows, [(longest, "call")], engine.chat, max(lengths) - 1)
    with pytest.raises(DataError, match=words):
        check_lengths(rows, [(longest, "call"), (longest, "answer")], engine.chat, max(lengths) - 1)


def test_an_image_that_cannot_be_read_is_named_before_anything_is_trained(engine):
    rows = Dataset.from_list([row("two")], FEATURES)
    plain = rows.cast_column("images", List(Image(decode=False)))
    own = plain[0]
    own["images"][1] = {"bytes": b"no image", "path": None}
    broken = Dataset.from_list([own], plain.features).cast_column("images", List(Image()))
    with pytest.raises(DataError, match="row two has an image that cannot be read"):
        check_lengths(broken, [(0, "whole")], engine.chat, 8192)


def test_the_assistant_alone_is_trained_and_a_call_counts_fivefold(engine, batch):
    for number, (name, crops) in enumerate(ROWS.items()):
        labels, weights = batch["labels"][number], batch["loss_weights"][number]
        answer = engine.chat.encode_reply(f"a {name}")
        call = engine.chat.encode_reply(format_call(crops)) if crops else []
        trained = labels != IGNORED
        assert labels[trained].tolist() == [*call, *answer]
        assert weights[trained].tolist() == [5.0] * len(call) + [1.0] * len(answer)
        assert not weights[~trained].any()
        assert not (batch["mm_token_type_ids"][number].bool() & trained).any()


def by_hand(model, batch):
    """Eq. 4 token by token, from the probabilities."""
    shown = {name: value for name, value in batch.items() if name not in ("labels", "loss_weights")}
    with torch.no_grad():
        logits = model(**shown).logits.double()
    total, count = 0.0, 0
    for number, labels in enumerate(batch["labels"].tolist()):
        for place, label in enumerate(labels):
            if label != IGNORED:
                chance = torch.softmax(logits[number, place - 1], 0)[label].item()
                total -= batch["loss_weights"][number, place].item() * math.log(chance)
                count += 1
    return total / count


@pytest.fixture
def trainer(small_checkpoint, tmp_path):
    model, processor = checkpoint.load(CommonArgs(pretrained=str(small_checkpoint), dtype="float32"), "cpu")
    chat = LocalEngine(model, processor).chat
    settings = SFTConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        report_to=[],
    )
    rows = Dataset.from_list([row(name) for name in ROWS], FEATURES)
    return WeightedSFTTrainer(
        model=model, args=settings, data_collator=Collator(chat), train_dataset=rows, processing_class=processor
    )


def test_the_loss_is_the_one_worked_out_by_hand(trainer, batch):
    model = trainer.model.eval()
    expected = by_hand(model, batch)
    shown = {name: value for name, value in batch.items() if name not in ("labels", "loss_weights")}
    own = weighted_nll(model(**shown).logits, batch["labels"], batch["loss_weights"])
    assert own.item() == pytest.approx(expected, rel=1e-6)
    assert trainer.compute_loss(model, dict(batch)).item() == pytest.approx(expected, rel=1e-6)
    # A part of a step is weighed by the whole step's tokens.
    tokens = 2 * int((batch["labels"] != IGNORED).sum())
    part = trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(tokens))
    assert part.item() == pytest.approx(expected / 2, rel=1e-6)


def test_observations_have_no_gradient(trainer, batch):
    """Of the logits that foretell tokens of the system, the user or the padding: exactly 0."""
    model = trainer.model.eval()
    shown = {name: value for name, value in batch.items() if name not in ("labels", "loss_weights")}
    logits = model(**shown).logits.detach().requires_grad_()
    weighted_nll(logits, batch["labels"], batch["loss_weights"]).backward()
    trained = torch.nn.functional.pad(batch["labels"][:, 1:] != IGNORED, (0, 1))
    assert logits.grad[~trained].abs().max() == 0
    assert (logits.grad[trained].abs().amax(1) > 0).all()


def test_a_call_pulls_five_times_as_hard(batch, trainer):
    model = trainer.model.eval()
    shown = {name: value for name, value in batch.items() if name not in ("labels", "loss_weights")}
    logits = model(**shown).logits.detach()
    grads = []
    for weights in (batch["loss_weights"], batch["loss_weights"].clamp(max=1)):
        own = logits.clone().requires_grad_()
        weighted_nll(own, batch["labels"], weights).backward()
        grads.append(own.grad)
    called = torch.nn.functional.pad(batch["loss_weights"][:, 1:] == 5, (0, 1))
    assert called.any()
    torch.testing.assert_close(grads[0][called], 5 * grads[1][called])
    torch.testing.assert_close(grads[0][~called], grads[1][~called])


def test_bad_rows_are_named(engine):
    good = row("two")
    cases = {
        "show 3 images, the row has 2": good | {"images": good["images"][:2]},
        "got \\['user', 'assistant'\\]": good | {"messages": good["messages"][1:3]},
    }
    for words, bad in cases.items():
        with pytest.raises(DataError, match=f"row two: .*{words}"):
            Collator(engine.chat)([bad])
    with pytest.raises(DataError, match="row two has .* tokens, more than max_length=20"):
        Collator(engine.chat, max_length=20)([good])


def test_a_part_is_trained_where_the_layout_says_so(engine):
    """Plain SFT: the call alone, then the answer behind it; together they train what the whole does."""
    own = row("two")
    whole, call, answer = (tokenize(engine.chat, own["messages"], own["images"], part=part) for part in PARTS)
    end = int(whole.weights.eq(5).nonzero().max()) + 1
    assert call.ids.tolist() == whole.ids[:end].tolist()
    assert call.weights.tolist() == whole.weights[:end].tolist()
    assert len(call.grids) == 1 and len(answer.grids) == len(whole.grids) == 3
    assert answer.ids.tolist() == whole.ids.tolist()
    assert answer.weights.tolist() == whole.weights.where(whole.weights == 1, 0).tolist()
