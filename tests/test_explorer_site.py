"""The static report: what it writes, from which runs and data."""

import io
import os
import shutil
import sys
from unittest.mock import Mock

import pandas as pd
import pytest
from explorer_site import (
    DOCUMENTS,
    FIRST,
    SECOND,
    data_file,
    page_data,
    sizes,
    write_site,
    write_traced,
)
from PIL import Image
from synthetic import rows, write_run
from test_trace import make_trace
from typer.testing import CliRunner

from lmms_awares.cli import app
from lmms_awares.mini import smoke_data
from lmms_awares.report.explorer import pictures, site
from lmms_awares.report.explorer.documents import Document, read
from lmms_awares.report.explorer.page_data import answer_record, view_record
from lmms_awares.tasks.data import DATA_ROOT


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return smoke_data.write(tmp_path_factory.mktemp("data"), documents=DOCUMENTS)


@pytest.fixture(scope="module")
def report(tmp_path_factory, data_root):
    return write_site(tmp_path_factory.mktemp("report"), data_root)


def test_boxes_are_drawn_where_they_are(tmp_path):
    """Two runs' boxes on one image, told apart by their px; the call's note is part of the record."""
    image = Image.new("RGB", (640, 480))
    boxes = [(0.0, 0.0, 320.0, 240.0), (160.4, 120.0, 320.0, 480.0)]
    call = {"status": "valid", "ids": ["box"], "text": "", "note": "box [1, 2, 3, 4] was clamped"}
    traces = [
        make_trace(image_size=(640, 480), crops=[{"id": "box", "tokens": 9, "box": box}], tool_call=call)
        for box in boxes
    ]
    document = Document(None, None, None, None, None, None)
    record = view_record(document, pictures.Gallery(tmp_path, 1).add("0", image, {}), traces)
    assert record["boxes"] == {
        "[0, 0, 320, 240]": [0, 0, 0.5, 0.5],
        "[160, 120, 320, 480]": [0.2506, 0.25, 0.2494, 0.75],
    }
    shown = answer_record({"awares": traces[1].model_dump(mode="json")})["trace"]
    assert [crop["id"] for crop in shown["crops"]] == ["[160, 120, 320, 480]"]
    assert shown["tool_call"]["note"] == call["note"]


def test_records_hold_what_the_runs_did(report, data_root):
    index = page_data(report, "index")
    assert index["runs"] == ["one", "two"]
    assert index["tasks"] == ["pope", "chartqa"]
    assert len(index["documents"]) == 2 * DOCUMENTS
    statuses = [index["statuses"][entry[2][1]] for entry in index["documents"][:DOCUMENTS]]
    assert statuses == ["none", "valid", "recovered", "invalid", "failed", "none"]
    second = page_data(report, "0")[1]
    assert second["runs"][0]["trace"]["crops"] == [{"id": "3", "tokens": 12}]
    assert second["runs"][1]["trace"]["crops"] == [{"id": "2", "tokens": 12}]
    width, height = second["view"]["size"]
    assert (width, height) == sizes(data_root, "awares_pope")[1] == (850, 600)
    assert second["view"]["boxes"]["3"] == [0.5, 0.5, 0.5, 0.5]
    assert second["view"]["suffices"] is False
    box = pd.read_parquet(data_file(data_root, "awares_pope"))["evidence_box"][1]
    left, top, w, h = second["view"]["evidence"]
    assert [left * width, top * height, (left + w) * width, (top + h) * height] == pytest.approx(list(box), abs=0.1)
    assert page_data(report, "0")[0]["view"]["oracle"] == []  # the low-res view suffices


def test_the_low_res_view_is_shown_as_the_model_saw_it(report):
    view = page_data(report, "0")[0]["view"]
    assert (view["full_size"], view["lowres_size"], view["scale"]) == ([644, 476], [336, 224], 1.0)
    assert (view["whole"], view["lowres"], view["sheet"]) == ([640, 480], [336, 224], [640, 720])
    assert view["lowres_top"] == 480 + 16  # a margin between the two
    assert Image.open(report / view["file"]).size == (640, 720)
    tiny = page_data(report, "0")[5]["view"]  # 96x64 px
    assert tiny["lowres"] is not None or tiny["lowres_size"] == tiny["full_size"]


def test_pictures_stay_within_their_share(tmp_path, monkeypatch):
    """Noise compresses worst; a disk counts in blocks."""
    images = [Image.effect_noise((900, 700), 80 + i).convert("RGB") for i in range(2)]
    monkeypatch.setattr(pictures, "SITE_BYTES", 2 * 10_000)
    gallery = pictures.Gallery(tmp_path, len(images))
    made = [gallery.add(str(i), image, {}) for i, image in enumerate(images)]
    blocks = [-(-(tmp_path / picture.file).stat().st_size // 4096) for picture in made]
    assert max(blocks) <= 2
    assert all(0.05 < picture.scale < 0.5 for picture in made)
    low, whole = made[0].lowres, made[0].whole
    assert low[0] / whole[0] == pytest.approx(0.5, abs=0.1)  # reduced alike
    assert gallery.add("0", images[0], {}) is made[0]


def test_a_site_of_20000_samples_stays_below_200_mb(tmp_path, data_root, monkeypatch):
    """Two runs, every image another one: what a document takes on disk when 20,000 share the site."""
    noise = [Image.effect_noise((640, 480), 100).convert("RGB") for _ in range(2)]
    stored = []
    for image in noise:
        stream = io.BytesIO()
        image.save(stream, "JPEG")
        stored.append({"bytes": stream.getvalue(), "path": None})
    shutil.copytree(data_root, tmp_path / "data")
    frame = pd.read_parquet(data_file(tmp_path / "data", "awares_pope"))
    frame["image"] = stored * 3
    frame.to_parquet(data_file(tmp_path / "data", "awares_pope"))
    monkeypatch.setattr(site, "_survey", lambda run, task, n: (20_000, None))
    runs = []
    for name, given in (("one", FIRST), ("two", SECOND)):
        answers = [(score, ("valid", ["0", "5"]), "twenty seven " * 5) for score, _, _ in given["awares_pope"]]
        runs.append(write_traced(tmp_path / name, tmp_path / "data", {"awares_pope": answers}))
    result = CliRunner().invoke(app, ["report", *map(str, runs), "-o", str(tmp_path / "site")])
    assert result.exit_code == 0, result.output
    sizes_on_disk = [-(-file.stat().st_size // 4096) * 4096 for file in (tmp_path / "site" / "img").rglob("*.webp")]
    assert len(sizes_on_disk) == len(noise)
    index, page = ((tmp_path / "site" / "data" / f"{name}.js").stat().st_size for name in ("index", "0"))
    per_document = max(sizes_on_disk) + (index + page) / DOCUMENTS
    assert 20_000 * per_document < 200e6


def test_pages_hold_no_more_than_their_number_of_documents(report, tmp_path, data_root, monkeypatch):
    monkeypatch.setattr(site, "PAGE", 5)
    run = write_traced(tmp_path / "run", data_root, FIRST)
    assert CliRunner().invoke(app, ["report", str(run), "-o", str(tmp_path / "site")]).exit_code == 0
    assert [len(page_data(tmp_path / "site", str(i))) for i in range(3)] == [5, 5, 2]
    assert not (tmp_path / "site" / "data" / "3.js").exists()


def test_missing_data_leave_out_pictures_and_say_so(tmp_path, data_root, monkeypatch):
    monkeypatch.delenv(DATA_ROOT, raising=False)
    moved = tmp_path / "moved"
    shutil.copytree(data_root, moved)
    run = write_traced(tmp_path / "run", moved, FIRST)
    moved.rename(tmp_path / "elsewhere")
    command = ["report", str(run), "-o", str(tmp_path / "site")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert "set AWARES_DATA_ROOT to the folder of the data (6 documents without a picture)" in result.output
    assert "is not here" in page_data(tmp_path / "site", "0")[0]["view"]["missing"]
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "elsewhere"))
    assert "warning" not in CliRunner().invoke(app, command).output
    # other data at the same place: their pictures are not shown as this run's
    smoke_data.write(tmp_path / "elsewhere", documents=DOCUMENTS - 1)
    rotated = pd.read_parquet(data_file(tmp_path / "elsewhere", "awares_pope")).iloc[::-1]
    rotated.to_parquet(data_file(tmp_path / "elsewhere", "awares_pope"))
    output = CliRunner().invoke(app, command).output
    assert "images of other sizes" in output
    assert "awares_chartqa: the data hold fewer documents than the run (1 documents" in output


def test_bad_input_is_named(tmp_path, data_root):
    run = write_traced(tmp_path / "run", data_root, FIRST)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    for arguments, words in (
        ([str(run), "-o", str(tmp_path / "mine")], "is not empty and holds no report"),
        ([str(run), "-o", "/proc/nope/site"], "cannot be written"),
        ([str(tmp_path / "mine"), "-o", str(tmp_path / "site")], "holds no results"),
    ):
        result = CliRunner().invoke(app, ["report", *arguments])
        assert result.exit_code == 1  # raised: `main` turns it into a line and exit code 2
        assert words in str(result.exception)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep me"


def test_an_interrupted_site_can_be_built_again(tmp_path, data_root, monkeypatch):
    run = write_traced(tmp_path / "run", data_root, {"awares_pope": FIRST["awares_pope"]})
    command = ["report", str(run), "-o", str(tmp_path / "site")]
    with monkeypatch.context() as patch:
        patch.setattr(pictures.Gallery, "add", Mock(side_effect=KeyboardInterrupt))
        assert CliRunner().invoke(app, command).exit_code != 0
    assert not (tmp_path / "site" / "index.html").exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert len(page_data(tmp_path / "site", "0")) == DOCUMENTS


def test_no_average_over_other_benchmarks_than_the_others(tmp_path, data_root):
    """As `awares compare`: its table stands there, with the runs' labels."""
    for name, given in (("one", FIRST), ("half", {"awares_pope": SECOND["awares_pope"]})):
        write_traced(tmp_path / name, data_root, given)
    command = ["report", str(tmp_path / "one"), str(tmp_path / "half"), "-o", str(tmp_path / "site")]
    assert CliRunner().invoke(app, command).exit_code == 0
    (table,) = pd.read_html(io.StringIO((tmp_path / "site" / "index.html").read_text()))
    rows = table.set_index(table.columns[0])
    average = next(column for column in rows if column[0] == "average" and column[1] == "score")
    assert rows.loc["half", average] == "-"
    assert float(rows.loc["one", average]) == pytest.approx((60 + 40) / 2)


def test_a_run_that_cannot_be_shown_leaves_no_half_of_a_site(tmp_path, data_root):
    good = write_traced(tmp_path / "good", data_root, FIRST)
    (row,) = rows([1.0])
    row["awares"]["model"] = "visionzip"
    stranger = write_run(tmp_path / "stranger", {"awares_ocrbench": [row]})
    result = CliRunner().invoke(app, ["report", str(good), str(stranger), "-o", str(tmp_path / "site")])
    assert "shares no task" in str(result.exception)
    assert not (tmp_path / "site").exists()


def test_plain_bytes_serve_as_images(tmp_path, data_root):
    frame = pd.read_parquet(data_file(data_root, "awares_pope"))
    frame["image"] = [image["bytes"] for image in frame["image"]]
    frame.to_parquet(tmp_path / "plain.parquet")
    config = {"task": "awares_pope", "test_split": "test"}
    config["dataset_kwargs"] = {"data_files": {"test": [str(tmp_path / "plain.parquet")]}}
    assert [document.picture().size for document in read(config)] == sizes(data_root, "awares_pope")


def test_no_heavy_imports():
    """Reading and writing reports must start fast."""
    import subprocess

    modules = ("gate.verdict", "gate.output", "gate.baseline", "explorer.site")
    code = "import sys; " + "; ".join(f"import lmms_awares.report.{name}" for name in modules)
    code += "; print({'torch', 'transformers', 'lmms_eval', 'scipy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "set()"
