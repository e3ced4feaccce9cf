"""How several ranks share what lmms-eval asks, without processes: ranks are threads here."""

import queue
import threading
from types import SimpleNamespace

import datasets
import pytest
from harness import document, picture, requests, to_messages
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lmms_awares import images
from lmms_awares.models.awares import Awares
from lmms_awares.models.image_sizes import Headers
from lmms_awares.models.resolution import FullResolution
from lmms_awares.models.sharing import share
from lmms_awares.models.together import answer_together
from lmms_awares.pulse import BEAT_S, JOIN_S, PATIENCE_S, Pulse

COSTS = st.lists(st.integers(0, 16384), max_size=60)


def loads(costs, ranks, already=()):
    total = list(already) or [0] * ranks
    for cost, rank in zip(costs, share(costs, ranks, already), strict=True):
        total[rank] += cost
    return total


@given(COSTS, st.integers(1, 9))
def test_shares_differ_by_less_than_the_dearest_piece(costs, ranks):
    assignment = share(costs, ranks)
    assert len(assignment) == len(costs)
    assert set(assignment) <= set(range(ranks))
    assert assignment == share(list(costs), ranks)
    total = loads(costs, ranks)
    assert max(total) - min(total) <= max(costs, default=0)


@given(st.lists(st.integers(1, 100), min_size=200, max_size=300), st.integers(2, 8))
def test_within_a_tenth_where_no_piece_is_large(costs, ranks):
    total = loads(costs, ranks)
    assert max(total) <= 1.1 * sum(costs) / ranks
    assert min(total) >= 0.9 * sum(costs) / ranks


def test_ties_are_shared_out_by_number():
    assignment = share([0] * 10 + [7] * 10, 2)
    assert [assignment[:10].count(rank) for rank in (0, 1)] == [5, 5]
    assert [assignment[10:].count(rank) for rank in (0, 1)] == [5, 5]


def test_what_a_rank_must_answer_in_any_case_counts():
    assert share([100, 100, 100], 2, already=[300, 0]) == [1, 1, 1]
    assert loads([50] * 10, 2, already=[300, 0]) == [400, 400]


class Mail:
    """`Ranks` between threads."""

    def __init__(self, rank, boxes):
        self.rank, self.size, self._boxes = rank, len(boxes), boxes

    def gather(self, mine):
        return self.exchange([mine] * self.size)

    def exchange(self, letters):
        for rank, letter in enumerate(letters):
            self._boxes[rank][self.rank].put(letter)
        return [self._boxes[self.rank][rank].get(timeout=10) for rank in range(self.size)]


class Request(SimpleNamespace):
    """As lmms-eval's: `args` follows `arguments`."""

    @property
    def args(self):
        return self.arguments


def request(task, doc_id, *, padding=False, tokens=10, name=None):
    metadata = {"task": task, "doc_id": doc_id} | ({"__padding_only__": True} if padding else {})
    arguments = ("", name or task, {"max_new_tokens": 8}, doc_id, task, "test")
    return Request(arguments=arguments, metadata=metadata, doc_id=doc_id, tokens=tokens)


def together(rows):
    """Answers of each rank, and the requests that each answered."""
    boxes = [[queue.Queue() for _ in rows] for _ in rows]
    answers, asked = [None] * len(rows), [None] * len(rows)

    def work(rank):
        def answer(given):
            asked[rank] = given
            seen = {}
            texts = []
            for one in given:
                _, messages, _, doc_id, task, _ = one.args
                seen[task, doc_id] = seen.get((task, doc_id), -1) + 1
                texts.append((f"{messages}/{task}/{doc_id}/{seen[task, doc_id]}", {"output_tokens": doc_id}))
            return texts

        answers[rank] = answer_together(rows[rank], Mail(rank, boxes), lambda one: one.tokens, answer)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return answers, asked


def names(asked):
    return [[(one.args[4], one.args[3]) for one in row] for row in asked]


def test_every_request_once_and_each_answer_where_it_is_expected():
    """Rank 0 has the large ones of both tasks, as lmms-eval's every-other-document may give it."""
    rows = [
        [request(task, doc_id, tokens=1000 if doc_id % 2 == 0 else 10) for task in ("a", "b") for doc_id in part]
        for part in (range(0, 8, 2), range(1, 8, 2))
    ]
    answers, asked = together(rows)
    for row, got in zip(rows, answers, strict=True):
        assert got == [
            (f"{task}/{task}/{i}/0", {"output_tokens": i}) for one in row for _, _, _, i, task, _ in [one.args]
        ]
    done = names(asked)
    assert sorted(done[0] + done[1]) == [(task, i) for task in ("a", "b") for i in range(8)]
    assert [sum(i % 2 == 0 for _, i in row) for row in done] == [4, 4], "four large ones each"
    assert all(row == sorted(row) for row in done), "in lmms-eval's order"


def test_padding_is_not_generated_again():
    """Rank 1 has one document less and gets a copy of its last one; another rank has none and gets document 0."""
    rows = [
        [request("a", 0), request("a", 3)],
        [request("a", 1), request("a", 1, padding=True)],
        [request("a", 0, padding=True), request("a", 0, padding=True)],
    ]
    answers, asked = together(rows)
    assert sorted(name for row in names(asked) for name in row) == [("a", 0), ("a", 1), ("a", 3)]
    assert [text for text, _ in answers[1]] == ["a/a/1/0", "a/a/1/0"]
    assert [text for text, _ in answers[2]] == ["a/a/0/0", "a/a/0/0"]
    assert not any(one.metadata.get("__padding_only__") for row in asked for one in row)


def test_padding_that_nobody_else_asks_for_stays_padding():
    """With --offset, lmms-eval pads a rank without documents with document 0, which is not part of the run."""
    answers, asked = together([[request("a", 5)], [request("a", 0, padding=True)]])
    (padding,) = [one for row in asked for one in row if one.doc_id == 0]
    assert padding.metadata["__padding_only__"]
    assert answers[1] == [("a/a/0/0", {"output_tokens": 0})]


def test_repeats_stay_together_and_in_order():
    rows = [[request("a", 0)] * 3 + [request("a", 2)] * 3, [request("a", 1)] * 3 + [request("a", 1, padding=True)] * 3]
    answers, asked = together(rows)
    assert sum(map(len, asked)) == 9
    assert [text for text, _ in answers[0]] == [f"a/a/{i}/{k}" for i in (0, 2) for k in range(3)]
    assert [text for text, _ in answers[1]] == [*(f"a/a/1/{k}" for k in range(3)), *["a/a/1/0"] * 3]


def test_a_task_that_one_rank_does_not_know_stays_where_it_is():
    rows = [[request("a", i) for i in range(4)] + [request("b", i) for i in range(0, 8)], [request("b", 9)]]
    answers, asked = together(rows)
    done = names(asked)
    assert {rank for rank, row in enumerate(done) for task, _ in row if task == "a"} == {0}
    assert sorted(len(row) for row in done) == [6, 7]
    assert all(text for row in answers for text, _ in row)


def test_requests_of_others_get_their_own_prompts_and_settings():
    """Rank 0 has the small documents; the ones that it takes over are said as rank 1 would have said them."""
    rows = [[request("a", 0, tokens=1, name="prompt-a")], [request("a", i, tokens=9, name="prompt-a") for i in (1, 2)]]
    for one in rows[1]:
        one.arguments = (*one.arguments[:2], {"max_new_tokens": 3}, *one.arguments[3:])
    answers, asked = together(rows)
    (moved,) = [one for one in asked[0] if one.doc_id != 0]
    assert moved.args == ("", "prompt-a", {"max_new_tokens": 3}, moved.doc_id, "a", "test")
    assert moved.metadata == {"task": "a", "doc_id": moved.doc_id, "__padding_only__": False}
    assert rows[0][0].metadata == {"task": "a", "doc_id": 0}
    assert len(answers[1]) == 2


def table(*rows):
    features = datasets.Features(
        {"image": datasets.Image(), "more": datasets.List(datasets.Image()), "question": datasets.Value("string")}
    )
    return datasets.Dataset.from_list(list(rows), features=features)


def test_sizes_come_from_headers(monkeypatch):
    documents = table(
        {"image": picture((1700, 2200)), "more": [picture((30, 60)), picture((64, 48))], "question": ""},
        {"image": None, "more": [], "question": ""},
    )
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    headers = Headers()
    assert [image.size for image in headers.images(documents, 0)] == [(1700, 2200), (30, 60), (64, 48)]
    assert headers.images(documents, 1) == []
    assert headers.images([{"image": "no table"}], 0) == []
    assert headers.images(documents.remove_columns(["image", "more"]), 0) == []


def test_planned_tokens_are_those_of_the_first_view(small_checkpoint, monkeypatch):
    docs = [document((640, 480)), document((1280, 720))]
    for method, view in ((FullResolution, "full_tokens"), (Awares, "lowres_tokens")):
        model = method(pretrained=str(small_checkpoint), device="cpu")
        rows = requests(docs)
        model.task_dict = {"toy": {"test": docs}}  # no table: sizes come from the messages
        planned = [model.planned_tokens(row) for row in rows]
        assert planned == [getattr(model.plan(doc["images"][0]), view) for doc in docs]
        stored = table(*({"image": doc["images"][0], "more": [], "question": ""} for doc in docs))
        model.task_dict = {"toy": {"test": stored}}
        with monkeypatch.context() as context:
            context.setattr(images, "decode", lambda source: pytest.fail("decoded"))
            assert [model.planned_tokens(row) for row in rows] == planned
        broken = [{"images": [], "question": "no image"}, {"question": None}]
        model.task_dict = {"toy": {"test": broken}}
        assert [model.planned_tokens(row) for row in requests(broken, messages=to_messages)] == [0, 0]


def test_a_rank_is_dead_after_some_time_without_a_word():
    pulse = Pulse([1, 2])
    looks = round(PATIENCE_S / BEAT_S) + 1
    for look in range(looks):
        assert pulse.silent() == []
        pulse.look({1: f"{look} here"} | ({2: "0 there"}))
    assert pulse.silent() == [2]
    verdict = pulse.verdict("again")
    assert verdict["ranks"] == [2]
    assert verdict["line"].startswith("rank 2 on there stopped without a word")
    assert pulse.is_first(0, "here", [2])
    assert not pulse.is_first(3, "here", [2])
    assert pulse.is_first(3, "there", [2])
    pulse.look({1: "again here", 2: "1 there"})
    assert pulse.silent() == [], "it was only slow"


def test_a_rank_that_never_appears_has_longer():
    pulse = Pulse([1])
    for _ in range(round(JOIN_S / BEAT_S)):
        assert pulse.silent() == []
        pulse.look({})
    assert "rank 1 did not appear" in pulse.verdict("again")["line"]
