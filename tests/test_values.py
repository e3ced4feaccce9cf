"""Odd values in the data: refused by name before a run; where only scoring can find them, they fail one document."""

import base64
import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import picture
from PIL import Image
from test_tasks import Scripted, run_tasks

from lmms_awares.errors import DataError
from lmms_awares.evaluate import _check_data
from lmms_awares.mini import smoke_data
from lmms_awares.mini.suite import test_file as mini_file
from lmms_awares.plan import Plan
from lmms_awares.report.explorer.documents import read
from lmms_awares.tasks import values
from lmms_awares.tasks.awares_task import AwaresTask
from lmms_awares.tasks.benchmarks import BENCHMARKS, MINI_TASKS, TASKS
from lmms_awares.tasks.data import DATA_ROOT

DOCUMENTS = 4
ANSWERS = {"image": "", "question": "?", "answer": "yes", "question_id": "0"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=DOCUMENTS)


@pytest.fixture
def root(smoke, tmp_path, monkeypatch):
    """A copy of the smoke data that a test may change."""
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "root"))
    for file in smoke.rglob("*.parquet"):
        copy = tmp_path / "root" / file.relative_to(smoke)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path / "root"


def file_of(root, name):
    return next((root / name).glob("*.parquet"))


def put(file, column, values, kind=None):
    """Replace a column."""
    table = pq.read_table(file)
    index = table.schema.get_field_index(column)
    plain = table.replace_schema_metadata(None)  # what `datasets` noted about the column's type
    pq.write_table(plain.set_column(index, column, pa.array(values, kind)), file)


def values_of(file, column):
    return pq.read_table(file)[column].to_pylist()


def check(name):
    _check_data(Plan(tasks=f"awares_{name}"), oracle=False)


ODD = {
    "chartqa": [("answer", None), ("answer", ""), ("question", None), ("type", None), ("type", "human")],
    "docvqa_val": [
        ("answers", []),
        ("answers", [" "]),
        ("answers", None),
        ("answers", ["a", None]),
        ("question", None),
    ],
    "ocrbench": [
        ("answer", []),
        ("answer", [None]),
        ("answer", [""]),
        ("dataset", None),
        ("question_type", "Regular text recognition"),
        ("question_type", None),
        ("question", None),
    ],
    "pope": [("answer", "1"), ("answer", None), ("answer", "yes, it is"), ("question", None)],
    "realworldqa": [("answer", None), ("answer", " "), ("question", None)],
    "vstar_bench": [("label", "0"), ("label", "E"), ("label", None), ("category", None), ("text", None)],
}
CASES = [(name, column, value) for name, found in ODD.items() for column, value in found]


def test_what_is_there_passes(root):
    for name in BENCHMARKS:
        check(name)


def test_the_mini_suite_passes():
    for name in MINI_TASKS.values():
        values.check_files(name, [str(mini_file(name))])


@pytest.mark.parametrize(("name", "column", "value"), CASES)
def test_an_odd_value_is_refused_by_name(root, name, column, value):
    file = file_of(root, name)
    put(file, column, [*values_of(file, column)[:2], value, *values_of(file, column)[3:]])
    with pytest.raises(DataError) as caught:
        check(name)
    message = str(caught.value)
    assert message.startswith(f"{file}: row 2, column {column} holds {value!r}, where ")
    assert "is expected" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "column"), [("pope", "answer"), ("chartqa", "answer"), ("vstar_bench", "label"), ("realworldqa", "answer")]
)
def test_numbers_for_text(root, name, column):
    put(file_of(root, name), column, [1] * DOCUMENTS)
    with pytest.raises(DataError, match=f"row 0, column {column} holds 1, where .* expected"):
        check(name)


def test_docvqas_answers_are_lists(root):
    """lmms-eval would take each letter of a text for an answer."""
    put(file_of(root, "docvqa_val"), "answers", ["red"] * DOCUMENTS)
    with pytest.raises(DataError, match="row 0, column answers holds 'red', where a list of texts"):
        check("docvqa_val")


ODD_EVIDENCE = {
    "nan": ("evidence_box", [float("nan")] * 4),
    "inverted": ("evidence_box", [10.0, 10.0, 5.0, 5.0]),
    "three": ("evidence_box", [1.0, 2.0, 3.0]),
    "text": ("lowres_suffices", "false"),
}


@pytest.mark.parametrize(("column", "value"), ODD_EVIDENCE.values(), ids=ODD_EVIDENCE)
def test_what_the_oracle_asks_by_is_checked_for_it(root, column, value):
    good = [[0.0, 0.0, 4.0, 4.0]] * DOCUMENTS
    put(file_of(root, "pope"), "evidence_box", good)
    put(file_of(root, "pope"), column, [None, None, value, *[None] * (DOCUMENTS - 3)])
    check("pope")
    with pytest.raises(DataError, match=f"row 2, column {column} holds"):
        _check_data(Plan(tasks="awares_pope"), oracle=True)


def test_the_second_file_counts_its_own_rows(root):
    first = file_of(root, "pope")
    second = first.with_name("test-00001-of-00002.parquet")
    second.write_bytes(first.read_bytes())
    put(second, "answer", ["yes", "no", "yes", "maybe"])
    with pytest.raises(DataError, match="test-00001-of-00002.parquet: row 3, column answer holds 'maybe'"):
        check("pope")


# Only scoring can find them -------------------------------------------------------------------------------------------


def scripted(checkpoint, name, file):
    model = Scripted(pretrained=str(checkpoint), device="cpu", batch_size=4)
    gold = {"docvqa_val": "answers", "vstar_bench": "label"}.get(name, "answer")
    answers = values_of(file, gold)
    model.says = [str(answer[0]) if isinstance(answer, list) and answer else str(answer) for answer in answers]
    return model


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[1] not in ("question", "text") and case[2] != "human"], ids=str
)
def test_one_document_fails_and_the_others_score(root, small_checkpoint, tmp_path, case):
    """As documents of the hub, which nobody checks before: lmms-eval's own evaluator, to its end."""
    name, column, value = case
    file = file_of(root, name)
    before = values_of(file, column)
    put(file, column, [*before[:2], value, *before[3:]])
    result = run_tasks(scripted(small_checkpoint, name, file), [f"awares_{name}"], tmp_path)
    rows = sorted(result["samples"][f"awares_{name}"], key=lambda row: row["doc_id"])
    assert [row.get("score") for row in rows] == [1.0, 1.0, None, 1.0]
    assert rows[2]["awares"]["failed"].startswith(f"column {column} holds {value!r}, where ")
    assert rows[2]["awares"]["rtr"] == 1.0, "what was generated stays on record"
    assert result["results"][f"awares_{name}"]["failed,none"] == 1
    assert result["results"][f"awares_{name}"]["rtr,none"] == 1.0


def test_whatever_the_scorer_raises_fails_one_document(root, small_checkpoint, tmp_path, monkeypatch):
    from lmms_eval.tasks.pope import utils

    def scorer(doc, results):
        if doc["question_id"] == "1":
            raise KeyError("line one\n" + "x" * 500)
        return {"pope_accuracy": {"score": 1.0, "prediction": "yes", "ground_truth": "yes"}}

    task = AwaresTask(config={"task": "awares_pope", "class": AwaresTask, "benchmark": "pope"})
    task.config.process_results = scorer
    docs = task.eval_docs_no_media
    assert task.process_results(docs[0], ["yes"])["score"] == 1.0
    row = task.process_results(docs[1], ["yes"])
    assert set(row) == {"failed", "answer", "unscored"}
    assert row["unscored"].startswith("scoring failed: KeyError: ")
    assert len(row["unscored"]) < 230
    assert "\n" not in row["unscored"]
    assert utils.pope_process_results is not scorer


def test_a_bug_of_our_own_still_surfaces(root, monkeypatch):
    task = AwaresTask(config={"task": "awares_pope", "class": AwaresTask, "benchmark": "pope"})
    task.config.process_results = lambda doc, results: {"pope_accuracy": {"points": 1}}
    with pytest.raises(KeyError, match="score"):
        task.process_results(task.eval_docs_no_media[0], ["yes"])


def test_models_without_traces_too(root, tmp_path):
    """lmms-eval's own model on a document that cannot be scored: the run is read, and says that one failed."""
    from report_runs import write

    from lmms_awares.report.read.folders import newest_run
    from lmms_awares.report.read.summary import summarize

    rows = [
        {"doc_id": 0, "score": 1.0, "token_counts": [{"input_tokens": 9}]},
        {"doc_id": 1, "failed": 1, "unscored": "column answer holds 1", "token_counts": [{"input_tokens": 9}]},
    ]
    write(tmp_path / "run", {"awares_pope": rows})
    table = summarize(newest_run(tmp_path / "run"))
    assert table[["n", "failed", "score"]].values.tolist() == [[2, 1, 100.0]]


# The image column -----------------------------------------------------------------------------------------------------


def png(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def images(count=DOCUMENTS):
    return [picture((200, 160), seed) for seed in range(count)]


IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
REFUSED = {
    "list": ([[{"bytes": b"", "path": None}]] * DOCUMENTS, pa.list_(IMAGE), r"column image holds list<.*>, where"),
    "pixels": ([[[1, 2], [3, 4]]] * DOCUMENTS, pa.list_(pa.list_(pa.uint8())), "column image holds list<.*one image"),
    "numbers": ([1] * DOCUMENTS, None, "column image holds int64, where"),
    "nothing": ([None] * DOCUMENTS, None, "column image holds null, where"),
    "base64": ([base64.b64encode(png(image)).decode() for image in images()], None, "row 0, column image holds base64"),
    "data address": (["data:image/png;base64,iVBORw0KGgo="] * DOCUMENTS, None, "row 0, column image holds base64"),
    "missing": (
        ["nowhere.png"] * DOCUMENTS,
        None,
        "row 0, column image names 'nowhere.png', and there is no such file",
    ),
    "in a struct": ([{"bytes": b"x", "path": None}, {"bytes": None, "path": "a.png"}] * 2, IMAGE, "row 1, .*'a.png'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_images_stored_otherwise_are_refused(root, name):
    found, kind, words = REFUSED[name]
    put(file_of(root, "pope"), "image", found, kind)
    with pytest.raises(DataError, match=words) as caught:
        check("pope")
    assert str(file_of(root, "pope")) in str(caught.value)
    assert len(str(caught.value)) < 500


def as_paths(root, absolute):
    folder = file_of(root, "pope").parent
    (folder / "images").mkdir()
    paths = []
    for index, image in enumerate(images()):
        (folder / "images" / f"{index}.png").write_bytes(png(image))
        paths.append(str(folder / "images" / f"{index}.png") if absolute else f"images/{index}.png")
    return paths


STORED = {
    "bytes": lambda root: ([png(image) for image in images()], pa.binary()),
    "large bytes": lambda root: ([png(image) for image in images()], pa.large_binary()),
    "struct": lambda root: ([{"bytes": png(image), "path": "gone.png"} for image in images()], IMAGE),
    "relative paths": lambda root: (as_paths(root, False), pa.string()),
    "absolute paths": lambda root: (as_paths(root, True), pa.large_string()),
    "paths in a struct": lambda root: ([{"bytes": None, "path": path} for path in as_paths(root, False)], IMAGE),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("away", [False, True])
def test_every_accepted_form_is_read(root, name, away, tmp_path, monkeypatch):
    """From whatever folder the command runs, also where `AWARES_DATA_ROOT` is relative; the report reads the same."""
    put(file_of(root, "pope"), "image", *STORED[name](root))
    monkeypatch.setenv(DATA_ROOT, os.path.relpath(root, root.parent if away else Path.cwd()))
    if away:
        monkeypatch.chdir(root.parent)
    check("pope")
    task = AwaresTask(config={"task": "awares_pope", "class": AwaresTask, "benchmark": "pope"})
    found = [task.doc_to_visual(doc)[0].tobytes() for doc in task.eval_docs]
    assert found == [image.tobytes() for image in images()]
    shown = [document.picture().tobytes() for document in read(task.dump_config())]
    assert shown == found


def test_the_images_themselves_stay_unread(root, monkeypatch):
    """A benchmark's images are gigabytes: where they have bytes of their own, not one is looked at."""

    def refuse(*args, **kwargs):
        raise AssertionError("image bytes were read")

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", refuse)
    for name in TASKS.values():
        check(name)


def test_image_modes_through_a_task(root, small_checkpoint, tmp_path, monkeypatch):
    """16-bit grey is scaled, transparency is white, EPS fails that sample and starts no other program."""
    grey = Image.fromarray((np.arange(200 * 160, dtype=np.uint16) * 2).reshape(160, 200))
    clear = picture((200, 160), 1).convert("RGBA")
    clear.putalpha(0)
    stored = [png(grey), png(clear), png(picture((200, 160)), "EPS"), png(picture((200, 160)))]
    put(file_of(root, "pope"), "image", stored, pa.binary())
    check("pope")

    started, begin = [], subprocess.Popen

    def watched(command, *args, **kwargs):
        started.append(command[0])
        return begin(command, *args, **kwargs)

    shown = []

    class Watching(Scripted):
        def answer(self, samples):
            shown.extend(image for sample in samples for image in sample.images)
            return super().answer(samples)

    model = Watching(pretrained=str(small_checkpoint), device="cpu")
    model.says = values_of(file_of(root, "pope"), "answer")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", watched)
        result = run_tasks(model, ["awares_pope"], tmp_path)
    rows = sorted(result["samples"]["awares_pope"], key=lambda row: row["doc_id"])
    assert [row.get("score") for row in rows] == [1.0, 1.0, None, 1.0]
    assert set(started) <= {"git"}  # lmms-eval's own, for its results file
    assert "no raster format" in rows[2]["awares"]["failed"]
    assert (np.asarray(shown[0])[..., 0] == (np.asarray(grey).astype(int) + 128) // 257).all()
    assert shown[1].getextrema() == ((255, 255),) * 3
