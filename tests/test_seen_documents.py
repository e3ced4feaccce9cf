"""Pictures and labels belong to the documents that a run saw: not to what lies at their place today."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from explorer_site import DOCUMENTS, FIRST, data_file, page_data, questions, sizes, write_traced
from PIL import Image
from report_runs import exit_of, sample, write

from lmms_awares import images
from lmms_awares.mini import smoke_data
from lmms_awares.report.read.lineup import collect
from lmms_awares.report.read.resolution_labels import labelled, mini_labels

POPE = "awares_pope"
ANSWERS = {POPE: FIRST[POPE]}


def stored(root):
    return pd.read_parquet(data_file(root, POPE))


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def traced(folder, root):
    """A run on the data with the digests of its images and its targets, as the model saw them."""
    run = write_traced(folder, root, ANSWERS)
    config = run / "1_results.json"
    results = json.loads(config.read_text())
    results["configs"][POPE]["doc_to_target"] = "answer"
    config.write_text(json.dumps(results))
    file = run / f"1_samples_{POPE}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row, image, answer in zip(rows, stored(root)["image"], stored(root)["answer"], strict=True):
        row["target"] = answer
        if "score" in row:
            digest = images.digest(images.decode(image["bytes"]))
            row["awares"] |= {"schema_version": 2, "image_digest": digest}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


@pytest.fixture
def data_root(tmp_path):
    return smoke_data.write(tmp_path / "data", documents=DOCUMENTS)


def site(monkeypatch, capsys, folder, *runs):
    """The documents' records of a report, and its warnings."""
    code, err = exit_of(monkeypatch, capsys, "report", *runs, "-o", folder)
    assert code == 0
    return page_data(folder, "0"), err


def test_pictures_of_what_was_seen_are_shown(data_root, tmp_path, monkeypatch, capsys):
    """Also where the file was written anew: the pixels count."""
    run = traced(tmp_path / "run", data_root)
    frame = stored(data_root)
    frame["image"] = [png(images.decode(image["bytes"])) for image in frame["image"]]
    frame.to_parquet(data_file(data_root, POPE))
    records, err = site(monkeypatch, capsys, tmp_path / "site", run)
    assert all("file" in record["view"] for record in records)
    assert "warning" not in err


CHANGES = {
    "image": "images with other pixels",
    "question": "other questions",
    "answer": "other targets",
}


@pytest.mark.parametrize("column", CHANGES)
def test_no_picture_of_another_document(column, data_root, tmp_path, monkeypatch, capsys):
    run = traced(tmp_path / "run", data_root)
    frame = stored(data_root)
    size = sizes(data_root, POPE)[1]
    new = {"image": png(Image.new("RGB", size, "red")), "question": "What else?", "answer": "perhaps"}[column]
    frame[column] = [new if i == 1 else value for i, value in enumerate(frame[column])]
    frame.to_parquet(data_file(data_root, POPE))
    records, err = site(monkeypatch, capsys, tmp_path / "site", run)
    assert records[1]["view"] == {"missing": f"the data are not what run saw: {CHANGES[column]}"}
    assert [i for i, record in enumerate(records) if "missing" in record["view"]] == [1]
    assert f"{POPE}: the data are not what run saw: {CHANGES[column]} (1 documents without a picture)" in err


def test_a_run_that_was_asked_something_else_says_so(data_root, tmp_path, monkeypatch, capsys):
    """Beside another run, under the same number."""
    runs = [traced(tmp_path / name, data_root) for name in ("one", "two")]
    file = runs[1] / f"1_samples_{POPE}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1] |= {"input": "What else?", "target": "perhaps"}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, _ = site(monkeypatch, capsys, tmp_path / "site", *runs)
    first, second = records[1]["runs"]
    assert records[1]["question"].startswith(questions(data_root, POPE)[1])
    assert "other" not in first
    assert (second["other"], second["question"], second["target"]) == ("other questions", "What else?", "perhaps")
    assert "two saw: other" in records[1]["view"]["missing"]
    assert "other" not in records[0]["runs"][1]


# --- labels


def labelled_data(root, data_root):
    """The smoke data with the mini suite's columns."""
    folder = root / "pope"
    folder.mkdir(parents=True)
    frame = stored(data_root)
    hr = np.arange(len(frame)) % 2 == 0
    frame["evidence_box"] = [[0, 0, 9, 9] if needed else None for needed in hr]
    frame["lowres_suffices"] = ~hr
    frame["oracle_crops"] = [["0"] if needed else None for needed in hr]
    frame.to_parquet(folder / "test-00000-of-00001.parquet")
    return folder / "test-00000-of-00001.parquet"


@pytest.mark.parametrize("column", CHANGES)
def test_labels_of_other_documents_are_refused(column, data_root, tmp_path, monkeypatch, capsys):
    file = labelled_data(tmp_path / "labels", data_root)
    run = traced(tmp_path / "run", data_root)
    (source,) = collect([run]).sources
    assert len(labelled(source, mini_labels(source, tmp_path / "labels"))) == DOCUMENTS - 1  # one failed
    frame = pd.read_parquet(file)
    size = sizes(data_root, POPE)[1]
    new = {"image": png(Image.new("RGB", size, "red")), "question": "What else?", "answer": "perhaps"}[column]
    frame[column] = [new if i == 1 else value for i, value in enumerate(frame[column])]
    changed = tmp_path / "changed" / "pope"
    changed.mkdir(parents=True)
    frame.to_parquet(changed / file.name)
    code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", "mini", "--data", tmp_path / "changed")
    assert code == 2
    assert f"holds other documents than those that {run} was run on (document 1 of {POPE}: {CHANGES[column]})" in err


def test_an_empty_question_is_no_other_one(tmp_path):
    """Nothing to look for in the prompt."""
    folder = tmp_path / "pope"
    folder.mkdir()
    columns = {"question": [""], "evidence_box": [None], "lowres_suffices": [True], "oracle_crops": [None]}
    pd.DataFrame(columns).to_parquet(folder / "test-0.parquet")
    (source,) = collect([write(tmp_path / "run", {POPE: [sample()]})]).sources
    assert mini_labels(source, tmp_path)["hr"].tolist() == [False]
    shutil.rmtree(folder)
