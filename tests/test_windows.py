"""Batches of like length: answers, counts, order, journal and failures are those of one sample at a time."""

import itertools
import json
import random
from statistics import median
from types import SimpleNamespace

import pytest
from harness import SPLIT, TASK, answers, document, requests
from hypothesis import given
from hypothesis import strategies as st

from lmms_awares.envelope import unseal
from lmms_awares.models import windows as module
from lmms_awares.models.awares import Awares
from lmms_awares.models.pruned import SparseVLM, VisionZip
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.models.windows import BATCHES, Waiting, by_length, windows
from lmms_awares.protocol import ToolCall, get_crops
from lmms_awares.protocol import visionthink as visionthink_protocol

LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
SIZES = [
    (640, 480),
    (96, 64),
    (850, 600),
    (200, 160),
    (300, 500),
    (420, 336),
    (110, 90),
    (500, 300),
    (84, 84),
    (600, 610),
]
TIMES = {"preprocess_s", "latency_s", "batch_size", "reused"}
TURN_TIMES = {"seconds", "preprocess_s", "vision_s", "prefill_s", "decode_s"}


@pytest.fixture
def build(small_checkpoint):
    def make(kind=FullResolution, batch_size=1, **arguments):
        arguments = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **arguments}
        return kind(device="cpu", batch_size=batch_size, **arguments)

    return make


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture
def often_call(monkeypatch):
    """About half of the rows call, for one to three crops, by what the model really said."""
    choices = [None, ("0",), None, ("1", "4", "8"), ("0", "5")]

    def parse(text):
        ids = choices[sum(text.encode()) % len(choices)]
        return ToolCall(ids, "valid", text) if ids else None

    monkeypatch.setattr(get_crops, "parse_reply", parse)


def stable(pairs):
    """Answers and traces, without times and batches."""
    found = []
    for answer, trace in pairs:
        kept = trace.model_dump(exclude=TIMES)
        kept["turns"] = [
            {name: value for name, value in turn.items() if name not in TURN_TIMES} for turn in kept["turns"]
        ]
        found.append((answer, kept))
    return found


# ---------------------------------------------------------------- cutting


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=200), st.integers(1, 16))
def test_batches_are_bounded_and_whole(lengths, size):
    batches = by_length(lengths, size)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch == sorted(batch)
        assert len(batch) <= size
        padded = len(batch) * max(lengths[number] for number in batch)
        assert len(batch) == 1 or padded <= 2 * size * median(lengths)
    for longer, shorter in itertools.pairwise(batches):
        assert min(lengths[number] for number in longer) >= max(lengths[number] for number in shorter)


@given(st.integers(1, 5000), st.integers(1, 100), st.integers(1, 16))
def test_equal_samples_make_full_batches_in_order(length, count, size):
    assert by_length([length] * count, size) == [list(range(count))[i : i + size] for i in range(0, count, size)]


def waiting(lengths, decoding="greedy"):
    for number, length in enumerate(lengths):
        sample = SimpleNamespace(prompt=SimpleNamespace(length=length), decoding=decoding)
        yield Waiting(number, "", sample, journaled=True)


def test_a_window_is_bounded_in_samples_and_tokens():
    assert [len(window) for window in windows(waiting([10] * 70), 2)] == [2 * BATCHES, 2 * BATCHES, 6]
    assert [len(window) for window in windows(waiting([module.TOKENS // 4] * 10), 8)] == [4, 4, 2]
    assert [len(window) for window in windows(waiting([10] * 3), 1)] == [1, 1, 1]
    assert [len(window) for window in windows(waiting([2 * module.TOKENS] * 2), 8)] == [1, 1]


def test_a_window_is_not_read_beyond_its_end():
    """Or more samples than a window's would wait in memory."""
    read = []

    def counted():
        for one in waiting([10] * 100):
            read.append(one)
            yield one

    next(windows(counted(), 2))
    assert len(read) == 2 * BATCHES


def test_only_what_decodes_alike_is_in_one_window():
    mixed = [*waiting([1, 2], "a"), *waiting([3], "b"), *waiting([4], "a")]
    found = [[one.sample.prompt.length for one in window] for window in windows(mixed, 8)]
    assert found == [[1, 2], [3], [4]]


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FullResolution, {}),
        (VisionZip, {"retain_ratio": 0.5}),
        (SparseVLM, {"retain_ratio": 0.5}),
        (Awares, {}),
        (Awares, {"policy": "random"}),
        (Awares, {"pruner": "visionzip", "retain_ratio": 0.7}),
    ],
    ids=str,
)
def test_batches_equal_singles(build, docs, often_call, kind, options):
    single = answers(build(kind, **options), docs)
    batched = answers(build(kind, 4, **options), docs)
    assert stable(batched) == stable(single)
    assert max(trace.batch_size for _, trace in batched) == 4
    assert all(trace.batch_size == 1 for _, trace in single)
    if kind is Awares:
        assert 0 < sum(trace.called for _, trace in single) < len(docs)


def test_visionthink_too(build, docs, monkeypatch):
    """A tiny checkpoint says nothing to its prompt, so that all of them call or none."""
    call = visionthink_protocol.ToolCall("<tool_call></tool_call>", None)
    monkeypatch.setattr(visionthink_protocol, "ROUND_TOKENS", 12)
    monkeypatch.setattr(visionthink_protocol, "parse_reply", lambda _: call)
    single, batched = (answers(build(VisionThink, size), docs) for size in (1, 4))
    assert stable(batched) == stable(single)
    assert all(trace.called for _, trace in single)


def generated_together(model):
    """Lengths of the prompts of each call of `answer`."""
    seen, answer = [], model.answer
    model.answer = lambda samples: (seen.append([sample.prompt.length for sample in samples]), answer(samples))[1]
    return seen


def test_a_batch_is_of_like_length_and_says_its_size(build, docs):
    model = build(batch_size=3)
    seen = generated_together(model)
    pairs = answers(model, docs)
    rows = {trace.turns[0].prompt_tokens: trace.batch_size for _, trace in pairs}
    for longer, shorter in itertools.pairwise(seen):
        assert min(longer) >= max(shorter)
    for batch in seen:
        assert all(rows[length] == len(batch) for length in batch)
    assert [trace.image_size for _, trace in pairs] == SIZES, "answers come back in the order of the requests"


def test_runs_of_other_limits_stay_apart(build, docs):
    model = build(batch_size=8)
    model.task_dict = {TASK: {SPLIT: docs}}
    seen = generated_together(model)
    short, long = requests(docs[:4], max_new_tokens=2), requests(docs[:4], max_new_tokens=6)
    model.generate_until([*short, *long, *short])
    assert sum(map(len, seen)) == 12
    assert all(len(batch) <= 4 for batch in seen)


@pytest.mark.parametrize("kept", [0, 1, 4, 9])
def test_a_resumed_run_equals_an_unbroken_one(build, docs, tmp_path, often_call, kept):
    """Whatever lines the kill left; those that are kept are not generated again."""
    journal = tmp_path / "journal.jsonl"
    whole = answers(build(Awares, 3, journal=journal), docs)
    lines = journal.read_text().splitlines()
    assert len(lines) == len(docs)
    journal.write_text("".join(f"{line}\n" for line in random.Random(kept).sample(lines, kept)))
    model = build(Awares, 3, journal=journal)
    seen = generated_together(model)
    resumed = answers(model, docs)
    assert stable(resumed) == stable(whole)
    assert sum(map(len, seen)) == len(docs) - kept
    assert sum(trace.reused for _, trace in resumed) == kept
    assert len({json.loads(line)["key"] for line in journal.read_text().splitlines()}) == len(docs)


def test_each_batch_is_in_the_journal_when_the_next_begins(build, docs, tmp_path):
    journal = tmp_path / "journal.jsonl"
    model = build(batch_size=2, journal=journal)
    counts, answer = [], model.answer

    def counting(samples):
        counts.append((len(journal.read_text().splitlines()), len(samples)))
        return answer(samples)

    model.answer = counting
    answers(model, docs)
    done = 0
    for written, size in counts:
        assert written == done
        done += size


def test_failures_and_padding_requests(build, docs, tmp_path):
    """A broken image in the middle; a request that only fills up a process's share is answered and not kept."""
    journal = tmp_path / "journal.jsonl"
    model = build(batch_size=4, journal=journal)
    model.task_dict = {TASK: {SPLIT: [*docs[:3], {"images": [], "question": "?"}, *docs[3:]]}}
    asked = requests(model.task_dict[TASK][SPLIT])
    asked[-1].metadata["__padding_only__"] = True
    pairs = [unseal(text) for text, _ in model.generate_until(asked)]
    assert [trace.failed is None for _, trace in pairs] == [index != 3 for index in range(len(asked))]
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    assert sorted(entry["doc_id"] for entry in entries) == list(range(len(docs)))
    single = answers(build(), docs)
    assert stable(pairs[:3] + pairs[4:]) == stable(single)


def test_sampling_stays_one_at_a_time_and_seeded(build, docs):
    single, batched = (answers(build(batch_size=size), docs[:5], temperature=1.0) for size in (1, 4))
    assert stable(batched) == stable(single)
    assert [trace.batch_size for _, trace in batched] == [1] * 5


# ---------------------------------------------------------------- the vision tower


def tower_calls(model, monkeypatch):
    """Images of each call of the vision tower."""
    tower, seen = model.engine.model.model.visual, []
    forward = tower.forward

    def counted(hidden_states, grid_thw, **kwargs):
        seen.append(len(grid_thw))
        return forward(hidden_states, grid_thw, **kwargs)

    monkeypatch.setattr(tower, "forward", counted)
    return seen


def test_all_images_of_a_batch_and_turn_are_one_call_of_the_tower(build, docs, monkeypatch):
    crops = iter([("0",), ("1", "4", "8"), ("0", "5"), None])
    monkeypatch.setattr(get_crops, "parse_reply", lambda text: (ids := next(crops)) and ToolCall(ids, "valid", text))
    model = build(Awares, 4)
    seen = tower_calls(model, monkeypatch)
    same = [document((640, 480), seed) for seed in range(4)]
    traces = [trace for _, trace in answers(model, same)]
    assert [len(trace.crops) for trace in traces] == [1, 3, 2, 0]
    assert seen == [4, 6]


def test_several_images_of_a_sample_too(build, monkeypatch):
    two = document((300, 500), 1)
    two["images"] += document((200, 160), 2)["images"]
    model = build(batch_size=2)
    seen = tower_calls(model, monkeypatch)
    answers(model, [two, document((420, 336), 3)])
    assert seen == [3]
