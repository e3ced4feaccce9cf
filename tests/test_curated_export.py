"""Curated sets for other engines: each format is read as that engine documents it, and gives the same messages."""

import io
import json
import re
import shutil
from pathlib import Path

import curated_sets
import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image
from report_runs import awares, exit_of

from lmms_awares.curation.export import FORMATS, export, flat
from lmms_awares.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder, and all rows of its trajectories by split."""
    folder = tmp_path_factory.mktemp("curated") / "set"
    curated_sets.write(folder)
    rows = {}
    for file in sorted((folder / "trajectories").glob("*.parquet")):
        rows.setdefault(file.name.split("-")[0], []).extend(pq.read_table(file).to_pylist())
    assert {split: len(found) for split, found in rows.items()} == {"train": 24, "validation": 5}
    return folder, rows


def parts_of(text, images):
    """A text with placeholders as content parts, and the images that they stand for, taken off the front."""
    parts = [piece for piece in re.split("(<image>)", text) if piece]
    taken = [images.pop(0) for piece in parts if piece == "<image>"]
    return [{"type": "image", "text": None} if p == "<image>" else {"type": "text", "text": p} for p in parts], taken


def check(messages, images, expected):
    """Roles alternate, placeholders are the images, and messages and pixels are the set's."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    assert turns == ["user", "assistant"] * (len(turns) // 2)
    left = list(images)
    again = [{"role": m["role"], "content": parts_of(m["content"], left)[0]} for m in messages]
    assert left == []
    assert again == expected["messages"]
    assert [picture.tobytes() for picture in images] == [
        Image.open(io.BytesIO(stored["bytes"])).tobytes() for stored in expected["images"]
    ]


# --- readers, each written from the engine's documentation (docs/curated_sets.md names the versions)


def read_llamafactory(folder):
    """`dataset_info.json` names file, columns and tags; image paths are below the folder."""
    for name, info in json.loads((folder / "dataset_info.json").read_text()).items():
        assert info["formatting"] == "sharegpt"
        columns, tags = info["columns"], info["tags"]
        role, content = tags["role_tag"], tags["content_tag"]
        known = {tags[f"{who}_tag"]: who for who in ("user", "assistant", "system")}
        for row in json.loads((folder / info["file_name"]).read_text()):
            messages = [{"role": known[m[role]], "content": m[content]} for m in row[columns["messages"]]]
            yield name.removeprefix("awares_"), messages, [Image.open(folder / i) for i in row[columns["images"]]]


def read_swift(folder):
    """JSON lines with `messages` and `images`, paths of which are absolute."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            assert {*row} == {"messages", "images"}
            assert all(Path(image).is_absolute() for image in row["images"])
            yield file.stem, row["messages"], [Image.open(image) for image in row["images"]]


@pytest.mark.parametrize(("form", "read"), [("llamafactory", read_llamafactory), ("swift", read_swift)])
def test_supervised_formats(whole, tmp_path, form, read):
    folder, rows = whole
    shown = awares("curate", "export", folder, "--format", form, "-o", tmp_path / "out").stdout.splitlines()
    assert all(Path(file).is_file() for file in shown)
    found = {}
    for split, messages, images in read(tmp_path / "out"):
        found.setdefault(split, []).append((messages, images))
    assert {split: len(of) for split, of in found.items()} == {split: len(of) for split, of in rows.items()}
    for split, of in found.items():
        for (messages, images), row in zip(of, rows[split], strict=True):
            check(messages, images, row)


def test_verl(whole, tmp_path):
    """Prompts up to the first answer; `<image>` stands for the next of `images`, all of which must be used."""
    folder, rows = whole
    export(folder, "verl", tmp_path / "out")
    for split, expected in rows.items():
        found = datasets.load_dataset(
            "parquet", data_files=str(tmp_path / "out" / f"{split}.parquet"), split="train", cache_dir=str(tmp_path)
        )
        assert len(found) == len(expected)
        for index, (row, known) in enumerate(zip(found, expected, strict=True)):
            assert row["data_source"] == known["source"]
            assert row["reward_model"] == {"style": "rule", "ground_truth": known["answers"][0]}
            left = list(row["images"])
            prompt = [{"role": m["role"], "content": parts_of(m["content"], left)[0]} for m in row["prompt"]]
            assert left == []
            assert prompt == known["messages"][:2]
            (lowres,) = row["images"]
            assert lowres.tobytes() == Image.open(io.BytesIO(known["images"][0]["bytes"])).tobytes()
            extra = row["extra_info"]
            assert extra.pop("image").tobytes() == Image.open(io.BytesIO(known["image"]["bytes"])).tobytes()
            assert extra.pop("index") == index
            assert extra == {name: known[name] for name in extra}
            assert {*extra} == {"split", "id", "question", "answers", "label", "targets"}


def test_one_split_alone(whole, tmp_path):
    done = export(whole[0], "swift", tmp_path / "out", "validation")
    assert [file.name for file in done.files] == ["validation.jsonl"]
    assert done.rows == {"validation": 5}


def test_images_are_written_once_and_as_they_are(whole, tmp_path):
    folder, rows = whole
    export(folder, "llamafactory", tmp_path / "out")
    stored = {image["bytes"] for of in rows.values() for row in of for image in row["images"]}
    assert {file.read_bytes() for file in (tmp_path / "out" / "images").rglob("*.png")} == stored
    assert len(list((tmp_path / "out" / "images").rglob("*.*"))) == len(stored)


@pytest.mark.parametrize("form", FORMATS)
def test_a_text_with_the_engines_own_placeholder_is_left_out(tmp_path, form, capfd):
    curated_sets.write(tmp_path / "set", questions={0: "What does <image> mean?", 3: "And <video>?", 4: "And <img>?"})
    awares("curate", "export", tmp_path / "set", "--format", form, "-o", tmp_path / "out")
    done = export(tmp_path / "set", form, tmp_path / "again")
    assert done.left_out == 2
    assert done.rows == {"train": 22, "validation": 5}
    assert not list((tmp_path / "again").rglob("*.part"))


def test_flat():
    content = [{"type": "image", "text": None}, {"type": "image", "text": None}, {"type": "text", "text": " a"}]
    assert flat([{"role": "user", "content": content}]) == [{"role": "user", "content": "<image><image> a"}]


def test_bad_input(whole, tmp_path, monkeypatch, capsys):
    folder, _ = whole
    curated_sets.write(tmp_path / "half", "judge")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    (tmp_path / "broken" / "trajectories").mkdir(parents=True)
    (tmp_path / "broken" / "trajectories" / "train-0.parquet").write_text("no parquet")
    (tmp_path / "other" / "trajectories").mkdir(parents=True)
    table = pq.read_table(folder / "trajectories" / "train-00000-of-1.parquet").drop_columns(["messages"])
    pq.write_table(table, tmp_path / "other" / "trajectories" / "train-0.parquet")
    new = tmp_path / "new"
    for place, arguments, words in (
        (tmp_path, ["--format", "swift", "-o", new], "holds no curated set"),
        (tmp_path / "half", ["--format", "swift", "-o", new], "has no trajectories/*.parquet yet"),
        (folder, ["--format", "swift", "-o", tmp_path / "full"], "is not empty; give a new folder"),
        (folder, ["--format", "swift", "-o", "/proc/nope"], "cannot be written"),
        (folder, ["--format", "swift", "-o", new, "--split", "test"], "no split 'test'; there are train, validation"),
        (tmp_path / "broken", ["--format", "verl", "-o", new], "is not a readable parquet file"),
        (tmp_path / "other", ["--format", "verl", "-o", tmp_path / "n2"], "has no column 'messages'"),
    ):
        code, err = exit_of(monkeypatch, capsys, "curate", "export", place, *arguments)
        assert (code, words in err, len(err.splitlines())) == (2, True, 1), err
    code, err = exit_of(monkeypatch, capsys, "curate", "export", folder, "--format", "nemo", "-o", new)
    assert (code, "nemo" in err) == (2, True)
    with pytest.raises(ValueError, match="no format 'nemo'; there are llamafactory, swift, verl"):
        export(folder, "nemo", new)
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"


# --- TRL takes the set as it is


@pytest.fixture
def loaded(whole, tmp_path):
    files = {split: str(whole[0] / "trajectories" / f"{split}-*.parquet") for split in ("train", "validation")}
    return datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))


def test_the_set_loads_with_datasets(whole, loaded):
    _, rows = whole
    for split, expected in rows.items():
        for row, known in zip(loaded[split], expected, strict=True):
            assert row["image"].tobytes() == Image.open(io.BytesIO(known["image"]["bytes"])).tobytes()
            assert [image.size for image in row["images"]] == [
                Image.open(io.BytesIO(image["bytes"])).size for image in known["images"]
            ]
            assert row["messages"] == known["messages"]
            assert (row["label"], row["targets"]) == (known["label"], known["targets"])


def test_trl_trains_on_it(loaded, checkpoint, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    train = loaded["train"].select_columns(["messages", "images"])
    several = next(i for i, row in enumerate(train) if len(row["images"]) > 2)
    processor = AutoProcessor.from_pretrained(checkpoint)
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for row in (train[0], train[several]):
        (batch,) = [DataCollatorForVisionLanguageModeling(processor)([dict(row)])]
        tokens = int(batch["image_grid_thw"].prod(dim=1).sum()) // 4
        assert len(batch["image_grid_thw"]) == len(row["images"])
        assert int((batch["input_ids"] == pad).sum()) == tokens
    config = SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = SFTTrainer(model=model, args=config, train_dataset=train, processing_class=processor)
    assert isinstance(trainer.data_collator, DataCollatorForVisionLanguageModeling)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(0 < loss < 100 for loss in losses)


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_failed_can_be_tried_again(whole, tmp_path, form):
    folder = shutil.copytree(whole[0], tmp_path / "set")
    last = max((folder / "trajectories").glob("*.parquet"))
    stored = last.read_bytes()
    last.write_bytes(stored[: len(stored) // 2])
    with pytest.raises(UserError):
        export(folder, form, tmp_path / "out")
    last.write_bytes(stored)
    export(folder, form, tmp_path / "out")
