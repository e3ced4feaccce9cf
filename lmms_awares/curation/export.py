"""A curated set in the shapes that other training engines document; TRL takes it as it is.

One row is in memory at a time. Images are written once each, as they are encoded in the set; a file of rows gets its
name when it is whole.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value
from PIL import Image as Pillow

from lmms_awares.curation.rows import TEXT, TEXTS, Row
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.report.curated.read import open_set

IMAGE = "<image>"  # stands for the next of a row's images, in all three engines
_BATCH = 32  # rows of one group in verl's parquet
_COLUMNS = ("question", "answers", "label", "targets", "image", "messages", "images")


@dataclass
class Exported:
    """What was written.

    Attributes:
        files: of rows, and beside them what the engine needs to find them.
        rows: by split.
        left_out: rows whose text holds a word that the engine would take for an image or the like.
    """

    files: list[Path] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


def export(folder: Path, form: str, out: Path, split: str | None = None) -> Exported:
    """Write a finished set for another engine.

    Args:
        folder: of the set.
        form: of `FORMATS`.
        out: a new or empty folder.
        split: `train` or `validation`; default: each into files of its own.

    Raises:
        ConfigError: an unknown format, a folder that is not empty, a split without rows.
        DataError: no finished set, a file that cannot be read or written.

    Example:
        export(Path("set"), "llamafactory", Path("set-llamafactory"))
    """
    if form not in FORMATS:
        raise ConfigError(f"no format {form!r}; there are {', '.join(FORMATS)}")
    parts = open_set(folder, finished=True).splits
    rows = {name: part.rows(_COLUMNS, needed=_COLUMNS, with_rejected=False) for name, part in parts.items()}
    if split is not None:
        if split not in rows:
            raise ConfigError(f"{folder} has no split {split!r}; there are {', '.join(rows)}")
        rows = {split: rows[split]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise ConfigError(f"{out} is not empty; give a new folder")
        try:
            return FORMATS[form](rows, out)
        except BaseException:
            shutil.rmtree(out)  # it was empty: what is there now is half an export, which a retry would refuse
            raise
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}; give another folder") from None


# --- messages as these engines want them


def flat(messages: Sequence[Row]) -> list[dict[str, str]]:
    """Make each message's content one text, in which `<image>` stands for an image.

    Example:
        >>> flat([{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "Who?"}]}])
        [{'role': 'user', 'content': '<image>Who?'}]
    """
    return [
        {
            "role": message["role"],
            "content": "".join(IMAGE if part["type"] == "image" else part["text"] for part in message["content"]),
        }
        for message in messages
    ]


def _collides(row: Row, words: Sequence[str]) -> bool:
    """Return True where a text holds what the engine would replace."""
    texts = [part["text"] or "" for message in row["messages"] for part in message["content"]]
    return any(word in text for text in texts for word in words)


class _Pictures:
    """Image files below a folder, one for each content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, image: dict[str, Any]) -> Path:
        """Write an encoded image where it is new; return its path below the folder."""
        encoded = image["bytes"]
        name = blake2b(encoded, digest_size=12).hexdigest()
        with Pillow.open(BytesIO(encoded)) as opened:
            file = Path("images") / name[:2] / f"{name}.{(opened.format or 'png').lower()}"
        if not (self._folder / file).exists():
            (self._folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / file).write_bytes(encoded)
        return file


def _write_lines(file: Path, rows: Iterator[dict[str, Any]], brackets: tuple[str, str, str]) -> int:
    """Write rows as JSON, one a line. `brackets`: before the first, between two, and behind the last."""
    opening, between, closing = brackets
    unfinished, count = file.with_name(f"{file.name}.part"), 0
    with unfinished.open("w", encoding="utf-8") as stream:
        stream.write(opening)
        for count, row in enumerate(rows, 1):
            stream.write((between if count > 1 else "") + json.dumps(row, ensure_ascii=False))
        stream.write(closing)
    unfinished.replace(file)
    return count


# --- a function for each format


def llamafactory(rows: dict[str, Iterator[Row]], out: Path) -> Exported:
    """LLaMA-Factory's sharegpt format with OpenAI's names: `<split>.json`, images below, `dataset_info.json`.

    The datasets are called `awares_<split>`; `dataset_dir` is the folder.
    """
    done, pictures, info = Exported(), _Pictures(out), {}

    def lines(split: str) -> Iterator[dict[str, Any]]:
        for row in rows[split]:
            if _collides(row, (IMAGE, "<video>", "<audio>")):
                done.left_out += 1
                continue
            yield {"messages": flat(row["messages"]), "images": [pictures.file(i).as_posix() for i in row["images"]]}

    for split in rows:
        file = out / f"{split}.json"
        done.rows[split] = _write_lines(file, lines(split), ("[\n", ",\n", "\n]\n"))
        done.files.append(file)
        info[f"awares_{split}"] = {
            "file_name": file.name,
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    done.files.append(out / "dataset_info.json")
    done.files[-1].write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    return done


def swift(rows: dict[str, Iterator[Row]], out: Path) -> Exported:
    """ms-swift's standard format: `<split>.jsonl`, images below, by absolute paths as its documentation prefers."""
    done, pictures, here = Exported(), _Pictures(out), out.resolve()
    taken = (IMAGE, "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>")

    def lines(split: str) -> Iterator[dict[str, Any]]:
        for row in rows[split]:
            if _collides(row, taken):
                done.left_out += 1
                continue
            yield {"messages": flat(row["messages"]), "images": [str(here / pictures.file(i)) for i in row["images"]]}

    for split in rows:
        done.files.append(out / f"{split}.jsonl")
        done.rows[split] = _write_lines(done.files[-1], lines(split), ("", "\n", "\n"))
    return done


_VERL = Features(
    {
        "data_source": TEXT,
        "prompt": List({"role": TEXT, "content": TEXT}),
        "images": List(Image()),
        "ability": TEXT,
        "reward_model": {"style": TEXT, "ground_truth": TEXT},
        "extra_info": {
            "split": TEXT,
            "index": Value("int64"),
            "id": TEXT,
            "question": TEXT,
            "answers": TEXTS,
            "label": TEXT,
            "targets": TEXTS,
            "image": Image(),
        },
    }
)


_EXTRA = ("split", "id", "question", "answers", "label", "targets", "image")


def verl(rows: dict[str, Iterator[Row]], out: Path) -> Exported:
    """verl's parquet for reinforcement learning: `<split>.parquet` with prompts up to the first answer.

    `images` holds what the prompt shows, the low-res view; `extra_info` the whole image, from which a tool cuts crops,
    with label and targets for a reward.
    """
    done = Exported()
    for split, of_split in rows.items():
        file, unfinished = out / f"{split}.parquet", out / f"{split}.parquet.part"
        found = _prompts(of_split, done)
        with pq.ParquetWriter(unfinished, _VERL.arrow_schema) as writer:
            while batch := list(islice(found, _BATCH)):
                writer.write_table(pa.Table.from_pylist(batch, _VERL.arrow_schema))
                done.rows[split] += len(batch)
        unfinished.replace(file)
        done.files.append(file)
    return done


def _prompts(rows: Iterator[Row], done: Exported) -> Iterator[dict[str, Any]]:
    index = 0
    for row in rows:
        if _collides(row, (IMAGE, "<video>")):
            done.left_out += 1
            continue
        roles = [message["role"] for message in row["messages"]]
        prompt = row["messages"][: roles.index("assistant")]
        shown = sum(part["type"] == "image" for part in chain.from_iterable(message["content"] for message in prompt))
        yield {
            "data_source": row["source"],
            "prompt": flat(prompt),
            "images": row["images"][:shown],
            "ability": "visual question answering",
            "reward_model": {"style": "rule", "ground_truth": row["answers"][0]},
            "extra_info": {
                name: row[name] for name in ("split", "id", "question", "answers", "label", "targets", "image")
            }
            | {"index": index},
        }
        index += 1


FORMATS: dict[str, Callable[[dict[str, Iterator[Row]], Path], Exported]] = {
    "llamafactory": llamafactory,
    "swift": swift,
    "verl": verl,
}
