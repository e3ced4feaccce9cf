"""`--labels DIR`: a curated set of a benchmark's own documents labels a run's samples."""

import curated_sets
import pandas as pd
import pytest
from report_runs import awares, exit_of, sample, write

from lmms_awares import images
from lmms_awares.curation.rows import SOURCE, read_rows, write_rows
from lmms_awares.report.curated.labels import set_labels
from lmms_awares.report.read.lineup import read_source

TASK = "awares_chartqa"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A set, and its rows by id: `chartqa/0` to `chartqa/11`, of which 4 and 5 are set aside."""
    folder = tmp_path_factory.mktemp("labels") / "set"
    return folder, curated_sets.write(folder)


def samples_of(rows, count=12, size=None, **changes):
    """A run's samples on documents of the set, as traces know them."""
    made = []
    for index in range(count):
        row = rows[f"chartqa/{index}"]
        image = row["image"]
        seen = {"image_size": size or list(image.size), "image_digest": images.digest(image)} | changes
        asked = {"input": f"{row['question']}\nAnswer in one word."}
        made.append(sample(1.0, ids=["1"] if index % 2 else None, **seen) | asked)
    return made


def expected(rows):
    aside = {f"{row['id']}" for row in rows.values() if "messages" not in row}
    return {
        int(id.split("/")[1]): (row["label"] == "HR", ",".join(row["targets"]))
        for id, row in rows.items()
        if row["source"] == "chartqa" and id not in aside
    }


@pytest.mark.parametrize("task", [TASK, "chartqa"])
def test_labels_are_matched_by_id(given, tmp_path, task):
    folder, rows = given
    source = read_source(write(tmp_path / "run", {task: samples_of(rows), "awares_pope": [sample()]}))
    found = set_labels(source, folder)
    assert set(found["task"]) == {task}
    assert {row.doc_id: (row.hr, row.targets) for row in found.itertuples()} == expected(rows)
    assert len(found) == 10


def test_diagnose_takes_a_set(given, tmp_path):
    """The same figures as with a file of the same labels."""
    folder, rows = given
    run = write(tmp_path / "run", {TASK: samples_of(rows)})
    lines = [
        {"task": TASK, "doc_id": doc, "label": "HR" if hr else "LR", "targets": targets.split(",") if targets else []}
        for doc, (hr, targets) in expected(rows).items()
    ]
    pd.DataFrame(lines).to_parquet(tmp_path / "labels.parquet")
    by_set = awares("diagnose", run, "--labels", folder).stdout
    assert by_set == awares("diagnose", run, "--labels", tmp_path / "labels.parquet").stdout
    assert "recall" in by_set


def test_images_that_were_made_smaller_are_known_by_the_question(given, tmp_path):
    folder, rows = given
    run = write(tmp_path / "run", {TASK: samples_of(rows, size=[4000, 3000], image_digest="0123456789abcdef")})
    assert len(set_labels(read_source(run), folder)) == 10


def test_what_cannot_be_matched_is_one_line(given, tmp_path, monkeypatch, capsys):
    folder, rows = given
    other = [row | {"input": "Is there a cat?"} for row in samples_of(rows)]
    cases = {
        "questions": ({TASK: other}, folder, "holds other documents than those that"),
        "pixels": ({TASK: samples_of(rows, image_digest="0123456789abcdef")}, folder, "images with other pixels"),
        "tasks": ({"awares_ocrbench": samples_of(rows)}, folder, "can be matched to"),
        "no set": ({TASK: samples_of(rows)}, tmp_path, "holds no curated set"),
    }
    for name, (tasks, labels, words) in cases.items():
        run = write(tmp_path / name, tasks)
        code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", labels)
        assert (code, words in err, len(err.splitlines())) == (2, True, 1), (name, err)


def test_a_document_twice(given, tmp_path):
    curated_sets.write(tmp_path / "set")
    file = tmp_path / "set" / "sources" / "train-00001.parquet"
    rows = read_rows(file)
    again = next(row for row in rows if row["id"] == "chartqa/6")
    for stage in ("sources", "answer", "judge", "ground", "build"):
        part = tmp_path / "set" / stage
        (part / "train-00009.parquet").write_bytes((part / "train-00001.parquet").read_bytes())
    write_rows(tmp_path / "set" / "sources" / "train-00009.parquet", [again], SOURCE)
    source = read_source(write(tmp_path / "run", {TASK: samples_of(given[1])}))
    with pytest.raises(ValueError, match="labels document 6 of awares_chartqa twice"):
        set_labels(source, tmp_path / "set")
