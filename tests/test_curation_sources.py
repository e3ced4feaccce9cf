"""Sources: their YAML files, what becomes of a row, and that the mini ones ask what the evaluation asks."""

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from lmms_awares.curation.records import open_hub
from lmms_awares.curation.rows import Rejected
from lmms_awares.curation.sources import fold, open_source, read_row, read_source, shipped_sources
from lmms_awares.curation.survey import survey, usable
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.mini.suite import training_file
from lmms_awares.tasks.benchmarks import GRADED_TASKS, MINI_TASKS

MINI = {f"mini_{benchmark}": task for task, benchmark in MINI_TASKS.items()}
DRAWN = MINI | {task: task for task in GRADED_TASKS}  # source -> task that asks alike
PHRASE = "\nAnswer the question using a single word or phrase."
OWN = {"image": "image", "question": "question", "answers": "answers"}


def write(folder, rows, name="own", **source):
    """A source of JSON lines, its YAML beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    source = {"data": {"files": "rows.jsonl"}, "columns": OWN, "metric": "exact"} | source
    (folder / f"{name}.yaml").write_text(json.dumps(source))
    return str(folder / f"{name}.yaml")


def picture(folder, name="a.png", size=(40, 30), colour="red", **save):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(folder / name, **save)
    return name


def test_the_papers_sources_and_the_mini_suites_ship():
    assert {"chartqa", "docvqa", "textvqa", "llava_multi", "visionthink_smart", *DRAWN} == set(shipped_sources())
    for name in shipped_sources():
        stem, source, folder = read_source(name)
        assert stem == name and folder is None
        assert (source.data.hub is None) == (name in DRAWN)


@pytest.fixture(scope="module")
def manager():
    from lmms_eval.tasks import TaskManager

    from lmms_awares.plugin import tasks_dir

    return TaskManager("ERROR", include_path=str(tasks_dir()))


@pytest.mark.parametrize("name", DRAWN)
def test_the_mini_sources_ask_what_the_task_asks(name, manager, monkeypatch):
    """The task's own words, for every document; and the suite's own answers and boxes."""
    from lmms_eval.tasks import get_task_dict

    if name in MINI:
        file = training_file(MINI_TASKS[MINI[name]])
        monkeypatch.setattr("lmms_awares.tasks.awares_task.task_files", lambda task: [str(file)])
    task = get_task_dict([DRAWN[name]], manager)[DRAWN[name]]
    opened = open_source(name)
    documents = list(task.eval_docs)
    boxes = 0
    for document, (record, folder) in zip(documents, opened.records.read(), strict=True):
        row = usable(opened, record, folder)
        assert row.asked.question == task.doc_to_text(document)
        target = task.doc_to_target(document)
        assert list(row.asked.answers) == (target if isinstance(target, list) else [target])
        assert row.box == (None if document["evidence_box"] is None else tuple(map(float, document["evidence_box"])))
        boxes += row.box is not None
    assert 0 < boxes < len(documents)
    assert len(survey(opened, 1000, 0).candidates) == len(documents)  # ids are unique


def test_the_published_columns_are_read_as_described():
    """Rows as the data sets' cards and readers have them; the data sets themselves are not at hand."""
    said = [{"role": "user", "content": "<image> <image>\nWhich is red?"}, {"role": "assistant", "content": "This."}]
    ten = ["b", *["nokia"] * 8, "b"]
    cases = {
        "chartqa": (
            {"query": "How many?", "label": ["4"]},
            "How many?\nAnswer the question with a single word.",
            ["4"],
        ),
        "docvqa": ({"question": "Which?", "answers": ["1/8/93", "8 Jan"]}, "Which?" + PHRASE, ["1/8/93", "8 Jan"]),
        "textvqa": ({"question": "what brand?", "answers": ten}, "What brand?" + PHRASE, ["nokia", "b"]),
        "llava_multi": ({"conversation": said}, "Which is red?", ["This."]),
        "visionthink_smart": ({"problem": "<image>What is it?", "solution": "a cat"}, "What is it?", ["a cat"]),
    }
    for name, (record, question, answers) in cases.items():
        asked = read_row(read_source(name)[1], record)
        assert (asked.question, list(asked.answers)) == (question, answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrc": "anls"}, r"source .*own.yaml: metrc is no setting; metric is"),
        ({"metric": "bleu"}, r"own.yaml: metric: .*'exact', 'relaxed' or 'anls'"),
        ({"columns": OWN | {"box": "b"}}, r"own.yaml: columns.box is no setting"),
        ({"columns": {"image": "image", "question": "q"}}, r"own.yaml: columns.answers is missing"),
        ({"columns": OWN | {"question": "{{ question"}}, r"own.yaml: columns.question: .*no Jinja template"),
        ({"data": {}}, r"own.yaml: data: .*name one of hub, files and mini"),
        ({"data": {"files": "a", "hub": "b/c"}}, r"own.yaml: data: .*name one of hub, files and mini"),
        (
            {"columns": OWN | {"evidence_box": {"column": "box", "form": "xyxy"}}, "several_images": "join"},
            r"own.yaml: the file: .*px of one image",
        ),
    ],
)
def test_a_description_that_cannot_work_is_one_line(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        read_source(write(tmp_path, [], **change))
    assert "\n" not in str(error.value)


def test_other_mistakes_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no source chartq ships.*chartqa, docvqa"):
        read_source("chartq")
    with pytest.raises(ConfigError, match="cannot be read: .*No such file"):
        read_source(str(tmp_path / "gone.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is no YAML"):
        read_source(str(tmp_path / "bad.yaml"))
    with pytest.raises(ConfigError, match="llava_multi reads local files: .*data_root"):
        open_source("llava_multi")
    with pytest.raises(DataError, match="rows.jsonl: no such file"):
        name = write(tmp_path, [])
        (tmp_path / "rows.jsonl").unlink()
        open_source(name)


def test_a_missing_column_names_file_and_key(tmp_path):
    row = {"image": "a.png", "question": "q", "label": "a"}
    with pytest.raises(
        DataError, match=r"own.yaml: columns.answers: .*rows.jsonl has no column answers; it has: image, q"
    ):
        open_source(write(tmp_path, [row]))
    columns = OWN | {"question": "{{ query }}?", "answers": "label"}
    with pytest.raises(DataError, match=r"columns.question: .*has no column query"):
        open_source(write(tmp_path, [row], columns=columns))
    columns = OWN | {"answers": "label", "evidence_box": {"column": "box", "form": "xywh"}}
    with pytest.raises(DataError, match=r"columns.evidence_box: .*has no column box"):
        open_source(write(tmp_path, [row], columns=columns))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": None}, "no image"),
        ({"image": "gone.png"}, "no image"),
        ({"image": []}, "no image"),
        ({"image": ["a.png", "gone.png"]}, "no image"),
        ({"image": ["a.png", "b.png"]}, "several images"),
        ({"image": "broken.png"}, "corrupt image"),
        ({"image": "rows.jsonl"}, "corrupt image"),
        ({"question": " "}, "blank question"),
        ({"question": None}, "blank question"),
        ({"answers": []}, "no answer"),
        ({"answers": [" ", ""]}, "no answer"),
        ({"answers": None}, "no answer"),
        ({"box": [5, 5, 3, 9]}, "box inverted"),
        ({"box": [5, 5, 5, 9]}, "box inverted"),
        ({"box": [float("nan"), 5, 6, 9]}, "box inverted"),
        ({"box": [0, 0, 42, 30]}, "box outside the image"),
        ({"box": [40, 0, 40.5, 30]}, "box outside the image"),
        ({"box": [1, 2, 3]}, "no evidence box"),
        ({"box": "1,2,3,4"}, "no evidence box"),
        ({}, None),
        ({"image": ["a.png"]}, None),
        ({"box": [0, 0, 40.5, 30]}, None),
    ],
)
def test_a_row_that_cannot_be_used_has_its_reason(change, reason, tmp_path):
    picture(tmp_path)
    picture(tmp_path, "b.png", colour="blue")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    row = {"image": "a.png", "question": "q", "answers": "a", "box": None} | change
    columns = OWN | {"evidence_box": {"column": "box", "form": "xyxy"}}
    opened = open_source(write(tmp_path, [row], columns=columns))
    ((record, folder),) = opened.records.read()
    found = usable(opened, record, folder)
    assert (found.reason if isinstance(found, Rejected) else None) == reason


def test_answers_are_folded_the_most_frequent_first():
    assert fold("yes") == ("yes",)
    assert fold(4) == ("4",)
    assert fold(["b", "a", " a", "", "c", None]) == ("a", "b", "c")


def test_a_template_cannot_reach_out_of_its_row(tmp_path):
    picture(tmp_path)
    columns = OWN | {"question": "{{ question.__class__.__mro__ }}"}
    opened = open_source(write(tmp_path, [{"image": "a.png", "question": "q", "answers": "a"}], columns=columns))
    ((record, _),) = opened.records.read()
    assert read_row(opened.source, record).reason == "template failed"


def test_boxes_may_be_left_top_width_height(tmp_path):
    picture(tmp_path)
    columns = OWN | {"evidence_box": {"column": "box", "form": "xywh"}}
    row = {"image": "a.png", "question": "q", "answers": "a", "box": [10, 5, 20, 8]}
    opened = open_source(write(tmp_path, [row], columns=columns))
    ((record, folder),) = opened.records.read()
    assert usable(opened, record, folder).box == (10, 5, 30, 13)


def test_images_are_joined_as_stated(tmp_path):
    picture(tmp_path, "a.png", (40, 30), "red")
    picture(tmp_path, "b.png", (20, 50), "blue")
    row = {"images": ["a.png", "b.png"], "question": "q", "answers": "a"}
    columns = {"images": "images", "question": "question", "answers": "answers"}
    opened = open_source(write(tmp_path, [row], columns=columns, several_images="join"))
    ((record, folder),) = opened.records.read()
    image = usable(opened, record, folder).picture.image
    assert image.size == (40 + 28 + 20, 50)
    at = [image.getpixel(place) for place in [(39, 29), (39, 30), (40, 0), (67, 49), (68, 0), (87, 49)]]
    red, white, blue = (255, 0, 0), (255, 255, 255), (0, 0, 255)
    assert at == [red, white, white, white, blue, blue]


def test_csv_files_and_a_folder_of_images(tmp_path):
    picture(tmp_path / "pictures", "a.png")
    (tmp_path / "rows.csv").write_text('image,question,answers\na.png,"What, then?",red\n')
    data = {"files": "rows.csv", "images": "pictures"}
    opened = open_source(write(tmp_path, [], data=data))
    ((record, folder),) = opened.records.read()
    row = usable(opened, record, folder)
    assert (row.asked.question, row.asked.answers, row.picture.image.size) == ("What, then?", ("red",), (40, 30))


def test_a_pattern_may_find_many_files_also_in_folders(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, [{"image": "x", "question": name, "answers": "a"}])
    opened = open_source(write(tmp_path, [], data={"files": "*/rows.jsonl"}))
    assert [(record["question"], folder.name) for record, folder in opened.records.read()] == [("a", "a"), ("b", "b")]
    assert sorted(opened.records.facts["files"]) == ["a/rows.jsonl", "b/rows.jsonl"]


def test_a_line_that_is_no_json_is_rejected_and_the_others_are_read(tmp_path):
    picture(tmp_path)
    good = {"image": "a.png", "question": "q", "answers": "a", "id": "1"}
    opened = open_source(
        write(tmp_path, [good, "{oops\n", "[1]\n", "\n", good | {"id": "2", "more": 1}], columns=OWN | {"id": "id"})
    )
    assert "more" in opened.records.columns
    found = survey(opened, 9, 0)
    assert sorted(one.id for one in found.candidates) == ["own/1", "own/2"]
    assert [row["reason"] for _, row in found.rejected] == ["no JSON", "no JSON"]
    assert found.read == 4


def test_the_hubs_rows_stay_encoded_and_have_its_revision(tmp_path, monkeypatch):
    """A stand-in for the hub: a folder that `datasets` has prepared as it would prepare a download."""
    data = tmp_path / "owner" / "set"
    picture(data / "train", "a.png")
    (data / "train" / "broken.png").write_bytes(b"no image")
    rows = [{"file_name": name, "query": "q", "label": ["a"]} for name in ("a.png", "broken.png")]
    (data / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    real = datasets.load_dataset_builder

    def builder(name, config=None, revision=None):
        assert (name, config, revision) == ("HuggingFaceM4/ChartQA", None, None)
        return real(str(data), cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    opened = open_source("chartqa")
    assert opened.records.facts["hub"] == "HuggingFaceM4/ChartQA" and opened.records.facts["revision"]
    found = survey(opened, 5, 0)
    assert [one.number for one in found.candidates] == [0]
    assert [row["reason"] for _, row in found.rejected] == ["corrupt image"]


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    with pytest.raises(DataError, match="HuggingFaceM4/ChartQA .default, train. cannot be had from the hub: "):
        open_hub("HuggingFaceM4/ChartQA", None, "train")


def test_the_descriptions_are_in_the_wheel():
    """The release's own check compares wheel and folder; here, that the packaging names them."""
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "lmms_awares.curation" in project["packages"]
    assert "sources/*.yaml" in project["package-data"]["lmms_awares.curation"]
