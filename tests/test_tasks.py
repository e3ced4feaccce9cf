"""The tasks inside lmms-eval's own evaluator: scores, token metrics, failed samples, data errors, the control model."""

import io
import os
from argparse import Namespace
from pathlib import Path

import datasets
import pandas as pd
import pytest
import yaml
from harness import TASK, answers, document, picture, requests
from PIL import Image

from lmms_awares.envelope import seal
from lmms_awares.errors import DataError
from lmms_awares.mini import smoke_data
from lmms_awares.models.awares import Awares
from lmms_awares.models.resolution import FullResolution, Qwen3FullResolution
from lmms_awares.plugin import tasks_dir
from lmms_awares.tasks.benchmarks import BENCHMARKS, OWN_TASKS, SUITES
from lmms_awares.tasks.data import DATA_ROOT, content_hash
from lmms_awares.tokens import grid_size
from lmms_awares.trace import Trace, parse_trace

DOCUMENTS = 4


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=DOCUMENTS)


@pytest.fixture
def local_data(data_root, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(data_root))
    return data_root


def run_tasks(model, names, out, **options):
    """lmms-eval's evaluator on our tasks, without its 2,000 YAMLs."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    return simple_evaluate(
        model=model,
        tasks=names,
        task_manager=TaskManager("ERROR", include_path=tasks_dir(), include_defaults=False),
        cli_args=Namespace(
            process_with_media=False,
            reasoning_tags='[["<think>", "</think>"], ["<analysis>", "</analysis>"]]',
            output_path=str(out),
        ),
        bootstrap_iters=10,
        log_samples=True,
        **options,
    )


@pytest.fixture(scope="module")
def suite(data_root, small_checkpoint, tmp_path_factory):
    """One run of the whole suite under policy=random, so that some samples call and some do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_ROOT, str(data_root))
        model = Awares(pretrained=str(small_checkpoint), device="cpu", policy="random", batch_size=2)
        return run_tasks(model, ["awares_suite"], tmp_path_factory.mktemp("out"))


def test_suite_reports_tokens_beside_lmms_evals_metrics(suite):
    for name in SUITES["awares_suite"].values():
        facts = BENCHMARKS[name]
        row = suite["results"][f"awares_{name}"]
        for metric in (facts.headline, "rtr", "call_rate", "failed"):
            assert f"{metric},none" in row
        rows = suite["samples"][f"awares_{name}"]
        assert len(rows) == DOCUMENTS
        traces = [parse_trace(sample["awares"]) for sample in rows]
        assert row["rtr,none"] == pytest.approx(sum(t.visual_tokens / t.full_tokens for t in traces) / DOCUMENTS)
        assert row["call_rate,none"] == sum(t.called for t in traces) / DOCUMENTS
        assert row["rtr_stderr,none"] != "N/A"
    mean = sum(suite["results"][task]["rtr,none"] for task in SUITES["awares_suite"]) / 6
    assert suite["groups"]["awares_suite"]["rtr,none"] == pytest.approx(mean)


def test_one_model_object_serves_two_runs(local_data, small_checkpoint, tmp_path):
    """A trainer's callback evaluates again and again; lmms-eval's clean-up must not take the model away."""
    model = Awares(pretrained=str(small_checkpoint), device="cpu", policy="never")
    first, second = (run_tasks(model, ["awares_pope"], tmp_path)["samples"]["awares_pope"] for _ in range(2))
    assert [row["filtered_resps"][0][:3] for row in first] == [row["filtered_resps"][0][:3] for row in second]


class Scripted(FullResolution):
    """Answers from a list instead of generating; traces are real."""

    says = ()

    def answer(self, samples):
        outcomes = super().answer(samples)
        for sample, outcome in zip(samples, outcomes, strict=True):
            outcome.answer = self.says[sample.at.doc_id]
        return outcomes


WRONG = {"pope": "maybe", "realworldqa": "C", "vstar_bench": "D"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_scores_are_lmms_evals_own(name, local_data, small_checkpoint, tmp_path):
    """Right answers in the first half, wrong ones in the second: the headline is one half on every scale."""
    file = next(Path(local_data, name).glob("*.parquet"))
    docs = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path))
    model = Scripted(pretrained=str(small_checkpoint), device="cpu", batch_size=4)
    wrong = WRONG.get(name, "zzzzzzzzzz")
    model.says = [BENCHMARKS[name].reply(doc) if i < DOCUMENTS // 2 else wrong for i, doc in enumerate(docs)]
    result = run_tasks(model, [f"awares_{name}"], tmp_path)
    rows = sorted(result["samples"][f"awares_{name}"], key=lambda row: row["doc_id"])
    assert [row["score"] for row in rows] == [1.0] * 2 + [0.0] * 2
    value = result["results"][f"awares_{name}"][f"{BENCHMARKS[name].headline},none"]
    scale = {"vstar_bench": 50.0, "ocrbench": 2 / 1000}.get(name, 0.5)  # lmms-eval's own scales
    assert value == pytest.approx(scale)


def test_a_broken_image_counts_as_failed_and_in_no_mean(local_data, small_checkpoint, tmp_path, monkeypatch):
    """The first document, of all: lmms-eval decodes it when it builds a task."""
    root = tmp_path / "data"
    write_pope(root, break_first=True)
    monkeypatch.setenv(DATA_ROOT, str(root))
    model = Scripted(pretrained=str(small_checkpoint), device="cpu", batch_size=2)
    model.says = ["yes"] * 3
    result = run_tasks(model, ["awares_pope"], tmp_path)
    row = result["results"]["awares_pope"]
    assert row["failed,none"] == 1
    assert row["pope_accuracy,none"] == 0.5  # one yes, one no; the broken one is not among them
    assert row["rtr,none"] == 1.0
    broken = next(sample for sample in result["samples"]["awares_pope"] if sample["doc_id"] == 0)
    assert "no raster format" in broken["awares"]["failed"]
    assert "score" not in broken


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_images_are_whole_and_upright(local_data):
    """lmms-eval lets Pillow fill in truncated files, and `datasets` turns photographs upright: neither is lost here."""
    task = build_task()

    def decode(data):
        return task.doc_to_visual({"image": {"bytes": data, "path": None}})[0]

    upright = Image.Exif()
    upright[0x0112] = 6  # lying on its side
    assert decode(encoded(picture((300, 200)), "JPEG", exif=upright)).size == (200, 300)
    for kind in ("JPEG", "PNG"):
        with pytest.raises(OSError, match="cannot be read"):
            decode(encoded(picture((300, 200)), kind)[:-2000])
    for nothing in (None, {"bytes": None, "path": None}):
        with pytest.raises(OSError, match="has no image"):
            task.doc_to_visual({"image": nothing})


def test_predict_only(local_data, small_checkpoint, tmp_path):
    model = Scripted(pretrained=str(small_checkpoint), device="cpu")
    model.says = ["yes"] * DOCUMENTS
    rows = run_tasks(model, ["awares_pope"], tmp_path, predict_only=True)["samples"]["awares_pope"]
    assert [row["answer"] for row in rows] == ["yes"] * DOCUMENTS


def write_pope(root, *, break_first=False, drop=None):
    rows = [
        {"image": picture_bytes(i), "question": "Is it red?", "answer": ("yes", "no")[i % 2], "question_id": str(i)}
        for i in range(3)
    ]
    rows = [{**row, "answer": answer} for row, answer in zip(rows, ("yes", "yes", "no"), strict=True)]
    if break_first:
        rows[0]["image"] = b"not an image"
    if drop:
        for row in rows:
            del row[drop]
    (root / "pope").mkdir(parents=True, exist_ok=True)
    # Plain bytes, as pandas or pyarrow would write them: no datasets feature in the file.
    datasets.Dataset.from_list(rows).to_pandas().to_parquet(root / "pope" / "test-00000-of-00001.parquet")


def picture_bytes(seed):
    return encoded(picture((200, 160), seed))


def build_task(name="awares_pope"):
    from lmms_awares.tasks.awares_task import AwaresTask

    return AwaresTask(config={"task": name, "class": AwaresTask, "benchmark": name.removeprefix("awares_")})


def test_replaced_data_are_not_served_from_a_cache(tmp_path, monkeypatch):
    """`datasets` knows a file by its path, size and time; here all three stay and the content does not."""
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    write_pope(tmp_path)
    file = tmp_path / "pope" / "test-00000-of-00001.parquet"
    before = file.stat()
    assert [doc["question"] for doc in build_task().eval_docs_no_media] == ["Is it red?"] * 3
    changed = pd.read_parquet(file).assign(question="Is it hot?")
    changed.to_parquet(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)
    task = build_task()
    assert [doc["question"] for doc in task.eval_docs_no_media] == ["Is it hot?"] * 3
    assert task.config.dataset_name == f"sha-{content_hash([str(file)])[:16]}", "the results say which data it was"


def test_missing_data_and_columns(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    with pytest.raises(DataError, match=r"has no pope/test-\*\.parquet"):
        build_task()
    write_pope(tmp_path, drop="answer")
    with pytest.raises(DataError, match="lacks column answer; it has: image, question"):
        build_task()
    (tmp_path / "pope" / "test-00000-of-00001.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="not a readable parquet"):
        build_task()


def test_models_without_traces_get_the_ordinary_metrics(local_data):
    task = build_task()
    doc = task.eval_docs_no_media[0]
    scores = task.process_results(doc, [doc["answer"]])
    assert scores["score"] == 1.0
    assert "rtr" not in scores
    assert "awares" not in scores


@pytest.mark.parametrize("said", ["Yes", "</think> yes", "<|awares-trace|>", "a < b"])
def test_reasoning_tags_do_not_reach_the_trace(local_data, said):
    """lmms-eval strips reasoning from the raw response, envelope and all, before our task sees it."""
    from lmms_eval.api.reasoning import strip_reasoning_tags

    conditions = dict.fromkeys(
        (
            "revision",
            "dtype",
            "attention",
            "lowres_base",
            "device",
            "lmms_awares",
            "lmms_eval",
            "transformers",
            "torch",
        ),
        "</think>",
    ) | {"min_pixels": 1, "max_pixels": 2}
    trace = Trace(
        model="m",
        method="m",
        view="full",
        prompt="<think>",
        rtr=0.5,
        full_tokens=4,
        visual_tokens=2,
        conditions=conditions,
    )
    response = strip_reasoning_tags(seal(said, trace), [["<think>", "</think>"]])
    task = build_task()
    scores = task.process_results(task.eval_docs_no_media[0], [response])
    assert parse_trace(scores["awares"]) == trace
    assert scores["rtr"] == 0.5
    assert scores["answer"].strip() == said.rpartition("</think>")[2].strip()


@pytest.mark.parametrize("limits", [(4 * 784, 16384 * 784), (256 * 784, 400 * 784)], ids=["wide", "capped"])
def test_full_resolution_answers_as_lmms_evals_own_model(small_checkpoint, limits):
    """The control: same checkpoint, limits and documents, 25 for each limit setting; bf16, as lmms-eval loads.

    lmms-eval's loader rounds an image to the grid before the processor applies the limits, so where a limit binds,
    some sizes get another grid than the processor gives the image itself. Those are left out here.
    """
    from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL

    sizes = [(640, 480), (333, 517), (850, 600), (1000, 300), (200, 160), (1700, 1100), (500, 375)]
    sizes = [s for s in sizes if grid_size(*grid_size(*s, 4 * 784, 16384 * 784), *limits) == grid_size(*s, *limits)]
    assert len(sizes) >= 4
    docs = [document(sizes[i % len(sizes)], i, question=f"What is number {i}?") for i in range(25)]
    options = {"pretrained": str(small_checkpoint), "device": "cpu", "min_pixels": limits[0], "max_pixels": limits[1]}
    host = Qwen2_5_VL(**options, device_map="cpu", attn_implementation="sdpa")
    host.task_dict = {TASK: {"test": docs}}
    theirs = [result.text.strip() for result in host.generate_until(requests(docs, max_new_tokens=16))]
    model = FullResolution(**options, dtype="bfloat16", attn_implementation="sdpa")
    ours = [answer for answer, _ in answers(model, docs, max_new_tokens=16)]
    assert ours == theirs
    assert len(set(ours)) > 5, "the random model must not say the same of every picture"


def test_full_resolution_answers_as_lmms_evals_own_qwen3_vl(small_checkpoints, tmp_path):
    """The same control for Qwen3-VL, whose adapter adds a system prompt that the chat template does not have."""
    from lmms_eval.models.chat.qwen3_vl import Qwen3_VL

    sizes = [(640, 480), (333, 517), (850, 600), (1000, 300), (200, 160), (1700, 1100), (500, 375)]
    docs = [document(sizes[i % len(sizes)], i, question=f"What is number {i}?") for i in range(25)]
    (tmp_path / "system.txt").write_text("You are a helpful assistant.")
    options = {"pretrained": str(small_checkpoints["qwen3_vl"]), "device": "cpu", "attn_implementation": "sdpa"}
    host = Qwen3_VL(**options, device_map="cpu")
    host.task_dict = {TASK: {"test": docs}}
    theirs = [result.text.strip() for result in host.generate_until(requests(docs, max_new_tokens=16))]
    model = Qwen3FullResolution(**options, dtype="bfloat16", prompt=str(tmp_path / "system.txt"))
    ours = [answer for answer, _ in answers(model, docs, max_new_tokens=16)]
    assert ours == theirs
    assert len(set(ours)) > 5, "the random model must not say the same of every picture"


@pytest.mark.parametrize("suite", SUITES)
def test_a_group_holds_the_tasks_of_its_records(suite):
    """The paper's six: another benchmark beside them would change what their average means."""
    listed = yaml.safe_load((Path(tasks_dir()) / f"{suite}.yaml").read_text())["task"]
    assert listed == list(SUITES[suite])
    assert len(listed) == 6


@pytest.mark.parametrize("task", OWN_TASKS)
def test_every_task_has_its_file(task):
    text = (Path(tasks_dir()) / f"{task}.yaml").read_text()
    assert f"task: {task}\n" in text and f"benchmark: {OWN_TASKS[task]}\n" in text


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_sample_has_the_columns_that_its_record_names(name):
    facts = BENCHMARKS[name]
    for index in range(4):
        sample = facts.sample("WORD", index)
        assert {*sample} == {*facts.columns}
        assert [column for column, rule in facts.rules.items() if not rule.accepts(sample[column])] == []


def test_smoke_data_is_repeatable(tmp_path):
    first, second = (smoke_data.write(tmp_path / str(i), documents=2, seed=3) for i in range(2))
    for name in BENCHMARKS:
        one, two = (next((root / name).glob("*.parquet")) for root in (first, second))
        assert one.read_bytes() == two.read_bytes()
        doc = datasets.Dataset.from_parquet(str(one), cache_dir=str(tmp_path))[0]
        assert isinstance(doc["image"], Image.Image)
