"""Raw rows of a source, one after the other: parquet, JSON lines and CSV files, or a dataset of the hub.

Memory holds a few rows at a time. Images stay encoded.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, model_validator

from lmms_awares.curation.rows import Rejected
from lmms_awares.errors import DataError
from lmms_awares.mini.suite import scored_file, training_file

Record = dict[str, Any]
_BATCH = 16  # rows of a parquet file at a time
_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error)


@dataclass(frozen=True)
class Records:
    """Rows that can be read any number of times, always in the same order.

    Attributes:
        where: for messages.
        columns: of a row.
        facts: what says that the data are the same: the hub's revision, or the files' sha256.
        read: gives the rows, each with the folder of its file; Rejected for a line that is none.
    """

    where: str
    columns: tuple[str, ...]
    facts: dict[str, Any]
    read: Callable[[], Iterator[tuple[Record | Rejected, Path]]]


class Data(BaseModel):
    """Where the rows are: on the hub, in files, or drawn here.

    Attributes:
        hub: OWNER/NAME of a dataset, with `config`, `split` and `revision`.
        files: glob of parquet, JSON lines or CSV files; relative to the YAML file, in a source that ships to the
            configuration's `data_root`.
        mini: benchmark of the mini suite, whose documents are drawn into the user's cache: those for training, or with
            `split: validation` those of the tasks `awares_graded_*`.
        images: folder where the paths of images start, relative as `files`; default: that of their file.
    """

    model_config = ConfigDict(extra="forbid")

    hub: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    files: str | None = None
    mini: str | None = None
    images: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Data":
        if [self.hub, self.files, self.mini].count(None) != 2:
            raise ValueError("name one of hub, files and mini")
        if self.mini is not None and self.split not in ("train", "validation"):
            raise ValueError(f"split: the mini suite has train and validation, not {self.split}")
        return self

    def open(self, root: Path, wanted: int = 1) -> "Records":
        """Open the rows.

        Args:
            root: where relative paths start.
            wanted: rows that are to be chosen; of the mini suite not many more are drawn.

        Raises:
            DataError: no data, or some that cannot be read.
        """
        if self.hub is not None:
            return open_hub(self.hub, self.config, self.split, self.revision)
        if self.mini is not None:
            drawn = training_file(self.mini, wanted) if self.split == "train" else scored_file(self.mini, self.split)
            return open_files(drawn.parent, drawn.name)
        assert self.files is not None
        return open_files(root, self.files)


def open_files(root: Path, pattern: str) -> Records:
    """Open files of one format.

    Args:
        pattern: glob of `.parquet`, `.jsonl` or `.csv` files, relative to `root`.

    Raises:
        DataError: no file, one that cannot be read, or one of a format that is not read.

    Example:
        records = open_files(Path("mini"), "train/chartqa/*.parquet")
    """
    found = sorted(root.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
    if not found:
        raise DataError(f"{root / pattern}: no such file; give another path, or put the files there")
    try:
        columns = {column: None for file in found for column in _columns(file)}
        hashes = {os.path.relpath(file, root): _sha256(file) for file in found}
    except _UNREADABLE as error:
        raise DataError(f"{root / pattern} cannot be read: {' '.join(str(error).split())[:160]}") from None
    if not columns:
        raise DataError(f"{root / pattern} holds no row that can be read; each line of a .jsonl is one JSON object")

    def read() -> Iterator[tuple[Record | Rejected, Path]]:
        blank = dict.fromkeys(columns)
        for file in found:
            try:
                for row in _rows(file):
                    yield (row if isinstance(row, Rejected) else blank | row), file.parent
            except _UNREADABLE as error:
                raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:160]}") from None

    return Records(str(root / pattern), tuple(columns), {"files": hashes}, read)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _columns(file: Path) -> Iterator[str]:
    if file.suffix == ".parquet":
        yield from pq.read_schema(file).names
    elif file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from csv.DictReader(stream).fieldnames or ()
    elif file.suffix == ".jsonl":
        for row in _lines(file):  # some keys are in some lines only
            if not isinstance(row, Rejected):
                yield from row
    else:
        raise DataError(f"{file} is no .parquet, .jsonl or .csv file")


def _rows(file: Path) -> Iterator[Record | Rejected]:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(_BATCH):
                yield from batch.to_pylist()
    elif file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream):
                row.pop(None, None)  # cells beyond the header's
                yield dict(row)
    else:
        yield from _lines(file)


def _lines(file: Path) -> Iterator[Record | Rejected]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield Rejected("no JSON", f"{file.name} line {number}: {error}")
                continue
            yield row if isinstance(row, dict) else Rejected("no JSON", f"{file.name} line {number} is no object")


def open_hub(name: str, config: str | None, split: str, revision: str | None = None) -> Records:
    """Open a dataset of the hub, or of its local cache; downloads it where that has not been done.

    Raises:
        DataError: neither has it.

    Example:
        records = open_hub("HuggingFaceM4/ChartQA", None, "train")
    """
    import datasets

    try:
        builder = datasets.load_dataset_builder(name, config, revision=revision)
        builder.download_and_prepare()
        data = builder.as_dataset(split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:  # the hub's errors are among these
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name} ({config or 'default'}, {split}) cannot be had from the hub: {reason}") from None
    # `datasets` would decode what `lmms_awares.images` decodes, and an image that is broken would end the run.
    data = data.cast(datasets.Features({key: _encoded(kind) for key, kind in data.features.items()}))

    def read() -> Iterator[tuple[Record | Rejected, Path]]:
        return ((row, Path()) for row in data)

    facts = {"hub": name, "config": config, "split": split, "revision": builder.hash or revision}
    return Records(f"{name} ({split})", tuple(data.column_names), facts, read)


def _encoded(kind: Any) -> Any:
    """A column's type, with images that stay encoded."""
    from datasets import Image, List

    if isinstance(kind, Image):
        return Image(decode=False)
    return List(_encoded(kind.feature)) if isinstance(kind, List) else kind
