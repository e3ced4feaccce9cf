"""Samples that processes of their own make ready: the same answers, traces, journal and failures as without."""

import json
import os
import signal
import time

import pytest
from harness import SPLIT, TASK, answers, document, requests, to_messages
from test_windows import stable

from lmms_awares.errors import ConfigError
from lmms_awares.models import prefetch
from lmms_awares.models.awares import Awares
from lmms_awares.models.prefetch import WorkerError, default_workers, prepared
from lmms_awares.models.pruned import Pruned
from lmms_awares.models.resolution import FullResolution

LIMITS = {"min_pixels": 4 * 784, "max_pixels": 600 * 784}
SIZES = [(640, 480), (96, 64), (200, 160), (420, 336), (110, 90)]
HERE = os.getpid()


@pytest.fixture
def build(small_checkpoint):
    def make(kind=FullResolution, batch_size=2, **arguments):
        arguments = {"pretrained": str(small_checkpoint), "dtype": "float32", **LIMITS, **arguments}
        return kind(device="cpu", batch_size=batch_size, **arguments)

    return make


@pytest.fixture(scope="module")
def docs():
    return [document(size, seed) for seed, size in enumerate(SIZES)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [(FullResolution, {}), (Awares, {"policy": "random"}), (Pruned, {"pruner": "downsample", "retain_ratio": 0.5})],
    ids=str,
)
def test_equal_with_and_without(build, docs, tmp_path, kind, options):
    found, keys = {}, {}
    for workers in (0, 2):
        journal = tmp_path / f"{workers}.jsonl"
        model = build(kind, workers=workers, journal=journal, **options)
        found[workers] = stable(answers(model, docs))
        keys[workers] = [json.loads(line)["key"] for line in journal.read_text().splitlines()]
    assert found[2] == found[0]
    assert keys[2] == keys[0], "one journal serves both"
    again = build(kind, workers=2, journal=tmp_path / "0.jsonl", **options)
    reused = answers(again, docs)
    assert all(trace.reused for _, trace in reused)
    assert stable(reused) == found[0]


def test_samples_are_really_prepared_elsewhere(build, docs, monkeypatch):
    model = build(workers=2)
    plan = model.plan

    def elsewhere(image):
        assert os.getpid() != HERE
        return plan(image)

    monkeypatch.setattr(model, "plan", elsewhere)
    assert all(trace.failed is None for _, trace in answers(model, docs))


def test_a_broken_image_fails_its_sample_only(build, docs, tmp_path):
    broken = {"images": ["data:image/png;base64,bm90aGluZw=="], "question": "?"}
    none = {"images": [], "question": "?"}
    mixed = [docs[0], broken, docs[1], none, docs[2]]
    found = {workers: answers(build(workers=workers, journal=tmp_path / f"{workers}"), mixed) for workers in (0, 2)}
    assert stable(found[2]) == stable(found[0])
    assert [trace.failed is None for _, trace in found[2]] == [True, False, True, False, True]
    lines = [json.loads(line) for line in (tmp_path / "2").read_text().splitlines()]
    assert [line["doc_id"] for line in lines if line["trace"]["failed"]] == [1, 3]


def test_what_ends_a_run_ends_it_with_the_same_line(build, docs, monkeypatch):
    said = []
    for workers in (0, 2):
        model = build(workers=workers)

        def refuse(*_):
            raise ConfigError("policy=oracle needs evidence_box; choose another policy")

        monkeypatch.setattr(model, "check", refuse)
        with pytest.raises(ConfigError) as error:
            answers(model, docs)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_a_bug_keeps_its_class_and_place(build, docs, monkeypatch):
    model = build(workers=2)
    monkeypatch.setattr(model, "check", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match=r"(?s)worker process.*test_prefetch.py"):
        answers(model, docs)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV], ids=str)
def test_a_worker_that_dies_is_named_in_one_line(build, docs, how):
    """At the second document, while the other worker goes on."""

    def deadly(doc):
        if doc is docs[1]:
            assert os.getpid() != HERE
            os.kill(os.getpid(), how)
        return to_messages(doc)

    model = build(workers=2)
    with pytest.raises(WorkerError, match="a process that prepares samples died.*workers=0") as error:
        answers(model, docs, messages=deadly)
    assert "\n" not in str(error.value)


def test_other_errors_of_the_device_are_not_taken_for_it(build, docs, monkeypatch):
    def broken(samples):
        raise RuntimeError("shape mismatch")

    model = build(workers=1)
    monkeypatch.setattr(model, "answer", broken)
    with pytest.raises(RuntimeError, match="^shape mismatch$"):
        answers(model, docs)


def test_a_worker_does_not_ask_the_device(build, docs, monkeypatch):
    """After a fork CUDA refuses, even for its name."""
    model = build(workers=2)
    conditions = model.engine.conditions

    def only_here():
        assert os.getpid() == HERE
        return conditions()

    monkeypatch.setattr(model.engine, "conditions", only_here)
    model.task_dict = {TASK: {SPLIT: [*docs, {"images": [], "question": "?"}]}}
    assert len(model.generate_until(requests(model.task_dict[TASK][SPLIT]))) == len(docs) + 1


def slowly(number):
    time.sleep(0.05 if number % 3 == 0 else 0)
    return number, os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_kept(workers):
    found = list(prepared(slowly, 10, workers=workers, ahead=4))
    assert [number for number, _ in found] == list(range(10))
    assert len({process for _, process in found}) == max(1, workers)
    assert (HERE in {process for _, process in found}) == (workers == 0)


def test_workers_are_gone_when_the_results_are_no_longer_wanted():
    results = prepared(slowly, 1000, workers=2, ahead=4)
    processes = {next(results)[1] for _ in range(4)}
    results.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_default(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert [default_workers("cuda:1", processes) for processes in (1, 2, 4, 8)] == [4, 4, 2, 0]
    assert default_workers("cpu", 1) == 0
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert default_workers("cuda", 1) == 0
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(prefetch, "get_all_start_methods", lambda: ["spawn"])
    assert default_workers("cuda", 1) == 0
