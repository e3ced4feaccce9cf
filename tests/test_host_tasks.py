"""`awares:NAME`: lmms-eval's own tasks with their own scores, and tokens, traces and a `score` beside them."""

import json
from argparse import Namespace
from pathlib import Path

import host_data
import pytest
from host_data import HOST, documents
from transformers import AutoProcessor

from lmms_awares import host_tasks
from lmms_awares.engine.crop_turns import crop_turn
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.models.awares import Awares
from lmms_awares.models.decisions import DIRECT, Decision
from lmms_awares.plan import Plan
from lmms_awares.protocol import format_call, parse_reply
from lmms_awares.tasks.data import DATA_ROOT
from lmms_awares.tasks.host_index import root
from lmms_awares.trace import parse_trace
from lmms_awares.views import plan_views, show

NORMAL = ("infovqa_val", "ai2d", "mmmu_val")  # a registered metric, a filter, a score of aggregated documents
LONGER = tuple(name for name in HOST if name not in NORMAL)


class Half(Awares):
    """Says the right thing of every second document, and of the others something wrong, or what it generates.

    It calls for crops of every third: a policy's own choice depends on the task's name.
    """

    def decide(self, doc, plans, at):
        crops = ("0", "4")
        return Decision(by_model=False, call=format_call(crops), crops=crops) if at.doc_id % 3 == 0 else DIRECT

    def answer(self, samples):
        outcomes = super().answer(samples)
        for sample, outcome in zip(samples, outcomes, strict=True):
            name = sample.at.task.removeprefix("awares:")
            doc = self.docs[name][sample.at.doc_id]
            if sample.at.doc_id % 2 == 0:
                outcome.answer = HOST[name].right(doc)
            elif HOST[name].wrong is not None:
                outcome.answer = HOST[name].wrong(doc)
        return outcomes


def evaluate(model, names, include, out):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    return simple_evaluate(
        model=model,
        tasks=names,
        task_manager=TaskManager("ERROR", include_path=[*map(str, include)], include_defaults=False),
        cli_args=Namespace(process_with_media=False, reasoning_tags=None, output_path=str(out)),
        gen_kwargs="max_new_tokens=6",
        bootstrap_iters=0,
        log_samples=True,
    )


def both(names, checkpoint, folder):
    """The stock tasks, unchanged, on data sets in the working folder; and the wrapped ones on `AWARES_DATA_ROOT`."""
    model = Half(pretrained=str(checkpoint), device="cpu", policy="never", batch_size=4)
    model.docs = {name: documents(name) for name in names}
    for name in names:
        host_data.as_data_set(folder, name, host_data.write(folder / "data", name, model.docs[name]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stock = evaluate(model, [*names], [root() / "tasks" / HOST[name].folder for name in names], folder)
        patch.setenv(DATA_ROOT, str(folder / "data"))
        patch.delenv("OPENAI_API_KEY", raising=False)
        host_tasks.write(names, folder / "yaml")
        wrapped = evaluate(model, [f"awares:{name}" for name in names], [folder / "yaml"], folder)
    return stock, wrapped


@pytest.fixture(scope="module")
def three(small_checkpoint, tmp_path_factory):
    return both(NORMAL, small_checkpoint, tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def nine(small_checkpoint, tmp_path_factory):
    return both(LONGER, small_checkpoint, tmp_path_factory.mktemp("nine"))


def scores_equal(runs, name):
    stock, wrapped = (run["results"][task] for run, task in zip(runs, (name, f"awares:{name}"), strict=True))
    metrics = [
        key for key, value in stock.items() if "," in key and "stderr" not in key and not isinstance(value, list)
    ]
    assert metrics
    assert {key: wrapped[key] for key in metrics} == {key: stock[key] for key in metrics}
    rows, ours = (
        sorted(run["samples"][task], key=lambda row: row["doc_id"])
        for run, task in zip(runs, (name, f"awares:{name}"), strict=True)
    )
    assert len(ours) == host_data.COUNT
    assert [row["answer"] for row in ours] == [row["filtered_resps"][0] for row in rows]
    assert [row["target"] for row in ours] == [row["target"] for row in rows]
    assert [row["arguments"][0][0] for row in ours] == [row["arguments"][0][0] for row in rows], "the prompts"
    assert [row["score"] for row in ours] == [1.0, 0.0] * (host_data.COUNT // 2)


def tokens_equal(run, name, checkpoint):
    """Views and crops of every document through the checkpoint's own processor."""
    processor = AutoProcessor.from_pretrained(checkpoint).image_processor
    limits = {"min_pixels": processor.size["shortest_edge"], "max_pixels": processor.size["longest_edge"]}

    def count(image):
        return int(processor(images=[image], return_tensors="pt")["image_grid_thw"].prod()) // 4

    rows = run["samples"][f"awares:{name}"]
    called = 0
    for row in rows:
        trace = parse_trace(row["awares"])
        image = host_data.image(row["doc_id"])
        plan = plan_views(*image.size, **limits)
        seen = count(show(image, plan, "lowres").image)
        if trace.called:
            called += 1
            views = crop_turn(image, plan, parse_reply(trace.tool_call.text)).views
            seen += sum(count(view.image) for view in views)
        assert (trace.full_tokens, trace.visual_tokens) == (count(image), seen)
        assert row["rtr"] == seen / count(image)
    assert 0 < called < len(rows)
    mean = run["results"][f"awares:{name}"]
    key = next(key for key in mean if key.startswith("rtr,"))
    assert mean[key] == pytest.approx(sum(row["rtr"] for row in rows) / len(rows))


@pytest.mark.parametrize("name", NORMAL)
def test_scores_and_tokens(name, three, small_checkpoint):
    scores_equal(three, name)
    tokens_equal(three[1], name, small_checkpoint)


@pytest.mark.long
@pytest.mark.parametrize("name", LONGER)
def test_scores_and_tokens_of_nine_more(name, nine, small_checkpoint):
    scores_equal(nine, name)
    tokens_equal(nine[1], name, small_checkpoint)


def test_the_main_metric_comes_first(three):
    """Tables and gate name the first metric of the list."""
    assert three[1]["configs"]["awares:mmmu_val"]["metric_list"][0]["metric"] == "mmmu_acc"
    assert three[1]["configs"]["awares:mmmu_val"]["metadata"]["awares_images"] == [f"image_{i}" for i in range(1, 8)]


# What the preflight finds --------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    return tmp_path


def check(*names, model="awares", oracle=False, offset=0):
    plan = Plan(tasks=",".join(f"awares:{name}" for name in names))
    host_tasks.check(host_tasks.expand(plan), model, oracle=oracle, offset=offset)
    return plan


def test_documents_of_several_images(data):
    """One such document fails alone; a task that has nothing else is refused."""
    host_data.write(data, "mmmu_val", [host_data.mmmu(0, images=2), host_data.mmmu(1)])
    check("mmmu_val")
    host_data.write(data, "mmmu_val", [host_data.mmmu(index, images=2) for index in range(2)])
    with pytest.raises(
        ConfigError, match=r"none of its first 2 documents shows exactly one image \(document 0 shows 2\)"
    ):
        check("mmmu_val")


def test_a_document_of_two_images_fails_alone(data, small_checkpoint, tmp_path):
    host_data.write(data, "mmmu_val", docs := [host_data.mmmu(0), host_data.mmmu(1, images=2), host_data.mmmu(2)])
    model = Half(pretrained=str(small_checkpoint), device="cpu", policy="never")
    model.docs = {"mmmu_val": docs}
    host_tasks.write(["mmmu_val"], tmp_path / "yaml")
    run = evaluate(model, ["awares:mmmu_val"], [tmp_path / "yaml"], tmp_path)
    row = next(row for row in run["samples"]["awares:mmmu_val"] if row["doc_id"] == 1)
    assert row["awares"]["failed"] == "SampleError: awares needs exactly one image per sample, this one has 2"
    assert run["results"]["awares:mmmu_val"]["failed,none"] == 1
    assert run["results"]["awares:mmmu_val"]["mmmu_acc,none"] == 1.0


def test_data_and_columns(data):
    with pytest.raises(DataError, match=r"has no infovqa_val/validation-\*\.parquet"):
        check("infovqa_val")
    host_data.write(data, "infovqa_val", documents("infovqa_val")[:2])
    check("infovqa_val", offset=1)
    with pytest.raises(ConfigError, match="--offset 2 leaves no document of awares:infovqa_val, which has 2"):
        check("infovqa_val", offset=2)
    with pytest.raises(DataError, match="policy=oracle needs a column 'evidence_box'"):
        check("infovqa_val", oracle=True)
    host_data.write(data, "infovqa_val", [{"image": host_data.image(0), "answers": ["a"]}])
    with pytest.raises(ConfigError, match="awares:infovqa_val does not load: KeyError: 'question'"):
        check("infovqa_val")


def test_no_hub(monkeypatch):
    monkeypatch.delenv(DATA_ROOT, raising=False)
    with pytest.raises(
        DataError, match=r"the documents of awares:infovqa_val \(lmms-lab-encoder/DocVQA\) cannot be had"
    ):
        check("infovqa_val")


def host_task(**settings):
    from lmms_awares.tasks.host_task import HostTask

    return HostTask({"task": "awares:infovqa_val", "class": HostTask, "host_task": "infovqa_val", **settings})


def test_headline_and_scale_of_a_file_of_ones_own(data):
    host_data.write(data, "infovqa_val", documents("infovqa_val")[:2])
    with pytest.raises(ConfigError, match="infovqa_val has no metric accuracy; it has: anls"):
        host_task(headline="accuracy")
    task = host_task(scale=4)
    assert task.headline({"anls": 1.0}) == 0.25
    with pytest.raises(ConfigError, match="anls of awares:infovqa_val gave 5 for one document, beyond 0 to 4"):
        task.headline({"anls": 5})
    assert task.headline({}) is None


def test_a_judge_that_is_not_there(data, monkeypatch):
    """What rules read is scored; for the rest no one is asked, and the document says why it has no score."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    host_data.write(data, "hrbench4k", documents("hrbench4k")[:2])
    from lmms_awares.tasks.host_task import HostTask

    task = HostTask({"task": "awares:hrbench4k", "class": HostTask, "host_task": "hrbench4k"})
    doc = task.eval_docs_no_media[0]
    assert task.process_results(doc, ["A"])["score"] == 1.0
    row = task.process_results(doc, ["something else"])
    assert row["unscored"] == "no rule of hrbench4k reads this answer, and its judge needs OPENAI_API_KEY"


def test_a_broken_image_fails_alone(data):
    file = host_data.write(data, "infovqa_val", documents("infovqa_val")[:2])
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    stored = table["image"].to_pylist()
    broken = pa.array([{"bytes": b"no image", "path": None}, stored[1]], table.schema.field("image").type)
    pq.write_table(table.set_column(table.schema.get_field_index("image"), table.schema.field("image"), broken), file)
    task = host_task()
    with pytest.raises(OSError, match="cannot identify image file"):
        task.doc_to_messages(task.eval_docs[0])
    assert task.doc_to_visual(task.eval_docs[1])[0].size == host_data.image(1).size


# Through the command --------------------------------------------------------------------------------------------------


def test_eval_compare_report_and_gate(data, small_checkpoint, tmp_path, capsys):
    from lmms_awares.evaluate import run
    from lmms_awares.report.explorer import documents as shown
    from lmms_awares.report.gate.baseline import load
    from lmms_awares.report.read.folders import newest_run
    from lmms_awares.report.read.summary import summarize

    host_data.write(data, "infovqa_val", documents("infovqa_val"))
    out = tmp_path / "out"
    given = ["--model", "awares", "--model_args", f"pretrained={small_checkpoint},policy=never", "--device", "cpu"]
    given += ["--gen_kwargs", "max_new_tokens=4", "--output_path", str(out)]
    assert run([*given, "--tasks", "awares:infovqa_val"]) == 0
    assert "awares:infovqa_val" in capsys.readouterr().out
    found = newest_run(out)
    row = summarize(found).iloc[0]
    assert (row["task"], row["metric"], row["n"], row["failed"]) == ("awares:infovqa_val", "anls", 8, 0)
    printed = found.results["results"]["awares:infovqa_val"]
    assert row["score"] == pytest.approx(100 * printed["anls,none"])
    assert row["rtr"] == pytest.approx(printed["rtr,none"])
    assert load(out).tasks["awares:infovqa_val"].metric == "anls"
    pictures = [document.picture().size for document in shown.read(found.config("awares:infovqa_val"))]
    assert pictures == [host_data.image(index).size for index in range(8)]
    assert json.loads((out / "journal.jsonl").read_text().splitlines()[0])["task"] == "awares:infovqa_val"


def test_tasks_wrap(tmp_path, monkeypatch, capsys):
    from typer.testing import CliRunner

    from lmms_awares.cli.tasks import app

    result = CliRunner().invoke(app, ["wrap", "infovqa_val", "-o", str(tmp_path / "yaml")])
    assert result.exit_code == 0
    text = Path(tmp_path / "yaml" / "infovqa_val.yaml").read_text()
    assert text.splitlines()[0] == "task: awares:infovqa_val"
    assert "class: !function lmms_awares.tasks.host_task.HostTask" in text
