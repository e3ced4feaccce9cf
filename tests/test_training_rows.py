"""Rows for training: which part of which row is an example, and sets that do not fit are named at start."""

import io
import shutil

import curated_sets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFile, ImageOps

from lmms_awares.errors import ConfigError, DataError
from lmms_awares.report.curated.read import size_of
from lmms_awares.training.rows import check_set, examples, lay_out, lay_out_calls, read_rows

LABELS = ["LR", "HR", "LR", "HR"]


def test_layouts():
    whole = [(0, "whole"), (1, "whole"), (2, "whole"), (3, "whole")]
    assert lay_out(LABELS) == whole
    assert lay_out(LABELS, hr_repeat=3) == [whole[0], *[whole[1]] * 3, whole[2], *[whole[3]] * 3]
    split = [(0, "whole"), (1, "call"), (1, "answer"), (2, "whole"), (3, "call"), (3, "answer")]
    assert lay_out(LABELS, per_message=True) == split
    assert lay_out_calls(LABELS) == [(1, "call"), (3, "call")]


@pytest.fixture
def folder(tmp_path):
    curated_sets.write(tmp_path / "set")
    return tmp_path / "set"


def test_rows_are_read_without_decoding_and_laid_out(folder):
    rows = read_rows(folder, "train")
    made = examples(rows, lay_out(rows["label"], per_message=True))
    calls = rows["label"].count("HR")
    assert 0 < calls < len(rows)
    assert len(made) == len(rows) + calls
    assert made["part"].count("call") == made["part"].count("answer") == calls
    first = made[made["part"].index("call")]
    assert len(first["images"]) >= 2 and first["label"] == "HR"


def changed(folder, **columns):
    """The set with columns of its first training file replaced, or left out where None."""
    file = min((folder / "trajectories").glob("train-*.parquet"))
    table = pq.read_table(file)
    for name, make in columns.items():
        place = table.column_names.index(name)
        field = table.schema.field(name)
        table = table.remove_column(place)
        if make is not None:
            values = pa.array([make] * table.num_rows, field.type)
            table = table.add_column(place, field, values)
    pq.write_table(table, file)
    return folder


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"messages": None}, "has no column 'messages'"),
        ({"label": "maybe"}, "row .* has the label 'maybe'"),
        ({"label": "HR", "targets": []}, "row .* is HR and has no target crops"),
        ({"label": "LR", "images": []}, "row .* is LR and has 0 images"),
    ],
)
def test_bad_rows_are_named(folder, columns, words):
    with pytest.raises(DataError, match=words):
        read_rows(changed(folder, **columns), "train")


def test_a_set_without_the_part_or_with_a_broken_file(folder):
    with pytest.raises(DataError, match="has no split test; there are train, validation"):
        read_rows(folder, "test")
    file = min((folder / "trajectories").glob("train-*.parquet"))
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=f"{file.name} is not a readable parquet file"):
        read_rows(folder, "train")


def test_a_set_must_fit_the_checkpoint(folder, small_checkpoint, tmp_path):
    check_set(curated_sets.fit(folder, small_checkpoint), str(small_checkpoint))
    for changes, words in (
        ({"prompt": "0"}, "another system prompt"),
        ({"format": "0"}, "another processor, tokenizer or chat template"),
        ({"max_pixels": 100352}, "max_pixels=100352, which training does not set"),
        ({"lowres_base": "raw"}, "lowres_base=raw"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            check_set(curated_sets.fit(folder, small_checkpoint, **changes), str(small_checkpoint))
        assert "\n" not in str(caught.value)
    other = shutil.copytree(small_checkpoint, tmp_path / "other")
    file = other / "chat_template.jinja"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ConfigError, match="another processor"):
        check_set(curated_sets.fit(folder, small_checkpoint), str(other))
    (folder / "provenance.json").unlink()
    with pytest.raises(DataError, match="does not say how"):
        check_set(folder, str(small_checkpoint))


def encoded(form, **more):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, form, **more)
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_size_is_that_of_the_decoded_upright_image(form, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned, plain = encoded(form, exif=exif), encoded(form)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(turned["bytes"]))).size == (20, 30)
    assert size_of(turned) == (20, 30)

    def load(_):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert size_of(plain) == (30, 20)
    assert size_of({"bytes": b"none", "path": None}) is None
