"""CDP diagnostics, labels, and what a policy asks for."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from report_runs import awares, exit_of, failed, sample, write
from sklearn.metrics import precision_recall_fscore_support

from lmms_awares.crops import region_iou
from lmms_awares.report.read.lineup import read_source
from lmms_awares.report.read.resolution_labels import labelled, mini_labels, read_labels
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.cdp import crop_shares, diagnose, overlap

POPE = "awares_pope"
# call (ids joined by commas; None: no call), label HR, targets
WORKED = [
    ("0", True, "0"),  # exact
    ("7", True, "0"),  # the left half of a top-left target: IoU 1/2, relaxed
    ("3", True, "0"),  # the opposite quadrant: IoU 0
    ("0,2", True, "7"),  # two quadrants are the left half: the same region, exact
    ("0", True, "0,5"),  # one of two targets, exact
    (None, True, "1"),  # missed
    ("all", False, ""),  # needless
    (None, False, ""),
    (None, False, ""),
    (None, False, ""),
]


def frame(rows):
    return pd.DataFrame(
        [{"called": ids is not None, "ids": ids, "hr": hr, "targets": targets} for ids, hr, targets in rows]
    )


def test_worked_example():
    """Supp. 9.1 by hand: 6 calls, 5 of them right, 6 HR and 4 LR samples; regions of the 5 calls on HR samples."""
    found = diagnose(frame(WORKED))
    assert found == pytest.approx(
        {
            "precision": 5 / 6,
            "recall": 5 / 6,
            "F1": 5 / 6,
            "FPR": 1 / 4,
            "IoU=1": 3 / 5,
            "IoU>=0.25": 4 / 5,
            "area": (0.25 + 0.5 + 0.25 + 0.5 + 0.25 + 1) / 6,
            "call rate": 6 / 10,
        }
    )


def test_boxes_are_measured_by_their_part_of_the_image(tmp_path):
    """Of a 640x480 image: the top-left quarter, half of it, and a quarter elsewhere; beside them a crop and no call."""
    boxes = [(0, 0, 320, 240), (0, 0, 160, 240), (320, 240, 900, 900)]
    shown = [[{"id": "box", "tokens": 9, "box": box}] for box in boxes]
    rows = [sample(ids=["box"], crops=crops, image_size=[640, 480]) for crops in shown]
    rows += [sample(ids=["3"], crops=[{"id": "3", "tokens": 9}]), sample()]
    folder = write(tmp_path / "run", {POPE: rows})
    labels = [{"task": POPE, "doc_id": k, "label": "HR", "targets": ["0"]} for k in range(5)]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    source = read_source(folder)
    found = diagnose(labelled(source, read_labels(tmp_path / "labels.jsonl")))
    assert found["area"] == pytest.approx((0.25 + 0.125 + 0.25 + 0.25) / 4)
    assert (found["IoU=1"], found["IoU>=0.25"]) == (1 / 4, 2 / 4)
    assert found["call rate"] == 4 / 5


def test_call_decision_against_scikit_learn():
    generator = np.random.default_rng(1)
    called, hr = generator.random(500) < 0.4, generator.random(500) < 0.3
    rows = [("0" if call else None, bool(label), "0" if label else "") for call, label in zip(called, hr, strict=True)]
    found = diagnose(frame(rows))
    precision, recall, f1, _ = precision_recall_fscore_support(hr, called, average="binary")
    assert (found["precision"], found["recall"], found["F1"]) == pytest.approx((precision, recall, f1))
    assert found["FPR"] == pytest.approx(called[~hr].mean())


def test_nothing_to_divide_by():
    found = diagnose(frame([(None, False, "")]))
    assert found["FPR"] == found["call rate"] == 0
    assert all(math.isnan(found[name]) for name in ("precision", "recall", "F1", "IoU=1", "area"))


def test_overlap_takes_the_best_target():
    assert overlap(["7"], ["0"]) == region_iou(["7"], ["0"]) == 0.5
    assert overlap(["0"], ["0", "5"]) == 1
    assert overlap(["0", "3"], ["0", "3"]) == 1  # all targets together
    assert overlap(["all"], ["4"]) == 0.25  # still relaxed, as the paper says of All


def test_shares_of_crops():
    traced = pd.DataFrame({"called": [True, True, False, False], "ids": ["0,3", "0", None, None]})
    shares = crop_shares(traced)
    assert (shares["no crop"], shares["top-left"], shares["bottom-right"], shares["all"]) == (0.5, 0.5, 0.25, 0)
    assert len(shares) == 11


@pytest.fixture
def run(tmp_path):
    """The worked example as a run, with a failed sample behind it."""
    rows = [sample(ids=None if ids is None else ids.split(",")) for ids, _, _ in WORKED]
    return write(tmp_path / "run", {POPE: [*rows, failed()]})


def label_lines(rows=WORKED, task=POPE):
    return [
        {"task": task, "doc_id": i, "label": "HR" if hr else "LR", "targets": targets.split(",") if targets else []}
        for i, (_, hr, targets) in enumerate(rows)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_labels_file(kind, run, tmp_path):
    file = tmp_path / f"labels.{kind}"
    lines = label_lines()
    if kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    else:
        pd.DataFrame(lines).to_parquet(file)
    shown = awares("diagnose", run, "--labels", file, "--format", "csv").stdout
    header, row, *_ = shown.splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert cells["benchmark"] == "POPE"
    assert cells["samples all"] == "10"
    assert cells["call decision precision"] == "83.33"
    assert cells["call decision FPR"] == "25.00"
    assert cells["region decision IoU=1"] == "60.00"
    assert cells["region decision area"] == "0.458"
    table = awares("compare", run, "--table", "cdp", "--labels", file, "--paper").stdout
    assert "83.33" in table
    assert "SFT + Traj." in table  # the published Table 7 below


def test_diagnose_without_labels(run):
    shown = awares("diagnose", run).stdout
    assert "CDP" not in shown
    assert "Crop policy of awares" in shown
    assert "Form of the tool calls of awares" in shown
    row = next(line.split() for line in shown.splitlines() if line.split()[:1] == ["POPE"])
    assert row[:6] == ["POPE", "10", "60.00", "0.458", "40.00", "30.00"]  # 3 of 10 ask for top-left


LABEL_ERRORS = {
    "label": ({"label": "high"}, "line 1: label: Input should be 'HR' or 'LR'"),
    "crop": ({"targets": ["9"]}, "line 1: crop ids must be among"),
    "missing": ({"doc_id": None}, "line 1: doc_id"),
    "twice": ({"doc_id": 1}, "labels document 1 of awares_pope twice"),
    "other task": ({}, "no sample of"),
}


@pytest.mark.parametrize("name", LABEL_ERRORS)
def test_bad_labels_are_named(name, run, tmp_path, monkeypatch, capsys):
    change, words = LABEL_ERRORS[name]
    lines = label_lines(task="awares_chartqa" if name == "other task" else POPE)
    lines[0] |= change
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", file)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1


def test_labels_that_are_no_text(run, tmp_path, monkeypatch, capsys):
    for name, content in (("a.jsonl", b"{"), ("b.jsonl", b"\xff\xfe"), ("c.parquet", b"no")):
        (tmp_path / name).write_bytes(content)
        code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", tmp_path / name)
        assert code == 2
        assert name in err
        assert len(err.splitlines()) == 1


def mini_documents(folder, benchmark="pope", count=11, question="question {}?"):
    """The mini suite's columns, without images."""
    folder.mkdir(parents=True)
    hr = [hr for _, hr, _ in WORKED] + [True]
    targets = [targets.split(",") if targets else [] for _, _, targets in WORKED] + [["0"]]
    documents = pd.DataFrame(
        {
            "question": [question.format(i) + "\nmore" for i in range(count)],
            # The last but one LR sample has evidence, which the low-res view shows well enough.
            "evidence_box": [[0, 0, 9, 9] if label or i == 8 else None for i, label in enumerate(hr)][:count],
            "lowres_suffices": [not label for label in hr][:count],
            "oracle_crops": targets[:count],
        }
    )
    documents.to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("task", ["awares_pope", "awares_mini_pope", "awares_graded_pope"])
def test_mini_labels(task, tmp_path):
    """From the files that the run names, and from a folder given instead; both equal the labels file's."""
    rows = [sample(ids=None if ids is None else ids.split(",")) for ids, _, _ in WORKED]
    mini_documents(tmp_path / "pope")
    run = write(tmp_path / "run", {task: [*rows, failed()]})
    results = run / "1_results.json"
    named = json.loads(results.read_text())
    named["configs"][task]["dataset_kwargs"] = {
        "data_files": {"test": [str(tmp_path / "pope" / "test-00000-of-00001.parquet")]}
    }
    given = awares("diagnose", run, "--labels", "mini", "--data", tmp_path).stdout
    results.write_text(json.dumps(named))
    assert awares("diagnose", run, "--labels", "mini").stdout == given
    source = read_source(run)
    joined = labelled(source, mini_labels(source))
    assert diagnose(joined) == diagnose(frame(WORKED))
    assert len(joined) == 10  # the failed sample is in no share


def test_documents_of_which_nobody_can_say_have_no_label(tmp_path):
    """Two of the ten lose their label: they are in no share, and the others' shares are those without them."""
    file = mini_documents(tmp_path / "pope") / "test-00000-of-00001.parquet"
    documents = pd.read_parquet(file)
    documents["lowres_suffices"] = documents["lowres_suffices"].astype(object)
    documents.loc[[5, 6], "lowres_suffices"] = None
    documents.to_parquet(file)
    rows = [sample(ids=None if ids is None else ids.split(",")) for ids, _, _ in WORKED]
    source = read_source(write(tmp_path / "run", {"awares_graded_pope": rows}))
    joined = labelled(source, mini_labels(source, tmp_path))
    assert len(joined) == 8
    assert diagnose(joined) == diagnose(frame([*WORKED[:5], *WORKED[7:]]))
    documents["lowres_suffices"] = None
    documents.to_parquet(file)
    with pytest.raises(RunError, match="no sample of .* has a label"):
        labelled(source, mini_labels(source, tmp_path))


def test_mini_labels_of_other_documents_are_refused(tmp_path, monkeypatch, capsys):
    rows = [sample() for _ in WORKED]
    run = write(tmp_path / "run", {POPE: rows})
    cases = {
        "other": ({"question": "another {}?"}, "holds other documents than those that"),
        "fewer": ({"count": 5}, "holds other documents than those that"),
    }
    for name, (options, words) in cases.items():
        mini_documents(tmp_path / name / "pope", **options)
        code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", "mini", "--data", tmp_path / name)
        assert code == 2
        assert words in err
    code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", "mini")
    assert (code, "give --data FOLDER" in err) == (2, True)
    pd.DataFrame({"question": ["x"]}).to_parquet(tmp_path / "other" / "pope" / "test-00000-of-00001.parquet")
    code, err = exit_of(monkeypatch, capsys, "diagnose", run, "--labels", "mini", "--data", tmp_path / "other")
    assert (code, "carries no labels" in err) == (2, True)


def test_labels_of_real_documents(tmp_path):
    """The read file round-trips: order of targets kept, duplicates dropped."""
    file = tmp_path / "labels.jsonl"
    file.write_text('{"task": "t", "doc_id": 3, "label": "HR", "targets": ["8", "0", "8"]}\n\n')
    (row,) = read_labels(file).to_dict("records")
    assert row == {"task": "t", "doc_id": 3, "hr": True, "targets": "8,0"}


def test_scores_by_label_by_hand(tmp_path):
    rows = [sample(1.0), sample(0.0), sample(0.0), sample(1.0), failed(), sample(0.0)]
    run = write(tmp_path / "run", {"awares_pope": rows})
    file = tmp_path / "labels.jsonl"
    labels = ["LR", "LR", "LR", "HR", "HR"]  # document 4 failed; document 5 has no label
    file.write_text(
        "".join(json.dumps({"task": "awares_pope", "doc_id": i, "label": x}) + "\n" for i, x in enumerate(labels))
    )
    shown = awares("compare", run, "--table", "split", "--labels", file, "--format", "csv").stdout
    assert "33.33" in shown and "100.00" in shown
    code = shown.splitlines()
    assert any(line.startswith("awares") and "33.33,100.00" in line for line in code)
