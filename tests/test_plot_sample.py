"""`awares plot --sample`: a document as several runs answered it, in the layout of the paper's Figs. 9-15."""

import json

import numpy as np
import pytest
from explorer_site import DOCUMENTS, FIRST, SECOND, data_file, questions, sizes, write_traced
from matplotlib.text import Text
from PIL import Image
from report_runs import awares, exit_of

from lmms_awares.mini import smoke_data
from lmms_awares.report.explorer.documents import read
from lmms_awares.report.figures.sample import draw_sample
from lmms_awares.report.read.lineup import collect
from lmms_awares.views import plan_views, show


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=DOCUMENTS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data_root):
    """Two runs of other methods: the second one a control."""
    folder = tmp_path_factory.mktemp("runs")
    made = [write_traced(folder / name, data_root, given) for name, given in (("one", FIRST), ("two", SECOND))]
    file = made[1] / "1_samples_awares_pope.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["awares"]["policy"] = "oracle"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return made


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for part in figure.subfigs for axes in part.axes if axes.images]


def test_question_calls_crops_and_answers(runs, data_root):
    """Document 1: the first run asks for crop 3 and is wrong, the second for crop 2 and is right."""
    figure = draw_sample(collect(runs), "awares_pope", 1)
    said = words(figure)
    question = questions(data_root, "awares_pope")[1]
    assert question.splitlines()[0][:30] in " ".join(said)
    assert "expected: yes" in said
    assert said.index("✗ no") < said.index("✓ yes")
    assert "call: GET_CROPS: ['3']" in said
    assert "call: GET_CROPS: ['2']" in said
    document = list(
        read(
            {
                "task": "awares_pope",
                "test_split": "test",
                "dataset_kwargs": {"data_files": {"test": [data_file(data_root, "awares_pope")]}},
            }
        )
    )[1]
    plan = plan_views(*sizes(data_root, "awares_pope")[1], min_pixels=3136, max_pixels=1605632)
    shown = [show(document.picture(), plan, name).image for name in ("lowres", "3", "2")]
    assert [picture.shape[:2] for picture in pictures(figure)] == [view.size[::-1] for view in shown]
    for picture, view in zip(pictures(figure), shown, strict=True):
        assert Image.fromarray(picture).tobytes() == view.tobytes()
    colours = {text.get_text(): text.get_color() for text in figure.findobj(Text)}
    assert colours["✗ no"] != colours["✓ yes"]


def test_runs_without_a_call_a_call_that_failed_and_a_failure(runs):
    lineup = collect(runs)
    none, invalid, failed = (words(draw_sample(lineup, "awares_pope", doc_id)) for doc_id in (0, 3, 4))
    assert not any(line.startswith("call") for line in none)
    assert any(line.startswith("invalid call:") for line in invalid)
    assert "failed: OSError: no image" in failed
    assert len(pictures(draw_sample(lineup, "awares_pope", 2))) == 1 + 2  # low-res view, two crops


def test_files_and_addresses(runs, tmp_path):
    command = ("plot", *runs, "--sample", "pope/1", "--sample", "awares_chartqa/0", "-o", tmp_path / "out")
    shown = awares(*command).stdout.splitlines()
    names = [
        f"sample_{task}.{kind}" for task in ("awares_pope_1", "awares_chartqa_0") for kind in ("png", "svg", "pdf")
    ]
    assert shown == [str(tmp_path / "out" / name) for name in names]
    assert (tmp_path / "out" / "sample_awares_pope_1.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ("pope", "must read TASK/ID, such as chartqa/0"),
        ("pope/x", "must read TASK/ID"),
        ("docvqa/1", "no run holds docvqa; their tasks: awares_chartqa, awares_pope"),
        ("pope/99", "no run has document 99 of awares_pope"),
    ],
)
def test_bad_input(runs, tmp_path, monkeypatch, capsys, *, sample, reason):
    code, err = exit_of(monkeypatch, capsys, "plot", *runs, "--sample", sample, "-o", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert reason in err
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_together(runs, tmp_path, monkeypatch, capsys):
    code, err = exit_of(monkeypatch, capsys, "plot", *runs, "--sample", "pope/1", "--paper", "-o", tmp_path / "out")
    assert (code, "leave out --paper and --labels" in err) == (2, True)


def test_other_data_are_refused(data_root, tmp_path, monkeypatch, capsys):
    run = write_traced(tmp_path / "run", data_root, FIRST)
    file = run / "1_samples_awares_pope.jsonl"
    file.write_text(file.read_text().replace('"image_size": [850, 600]', '"image_size": [851, 600]'))
    code, err = exit_of(monkeypatch, capsys, "plot", run, "--sample", "pope/1", "-o", tmp_path / "out")
    assert (code, "is not what awares saw: images of other sizes" in err) == (2, True)
