"""Reading a curated set: its rows, joined from the parts that are there, without pixels unless they are asked for.

A finished set is `trajectories/*.parquet`. Beside it, or in a set that is not finished, each stage's folder holds what
it added to the rows of `sources/`, or why it set a row aside (`lmms_awares.curation.rows`).
"""

import io
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lmms_awares.errors import DataError

Row = dict[str, Any]
SOURCES, BUILT, REJECTED, PROVENANCE = "sources", "trajectories", "rejected.parquet", "provenance.json"
SOURCE = ("id", "source", "split", "question", "answers", "evidence_box", "image")
STAGES = {  # what each adds, in the order of the pipeline; but for `images`, whose pixels `image` has too
    "answer": ("lowres_answer", "fullres_answer", "base_model"),
    "judge": ("label", "judge", "judge_model"),
    "ground": ("boxes", "targets", "rule", "grounding", "oracle_model"),
    "build": ("messages",),
}
_NEEDED = ("id", "source", "split")
_BUFFER = 1 << 20  # bytes; else a file's whole column is read ahead
_BATCH = 32  # rows with their pixels that are held in memory
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that exchange width and height
_ORIENTATION = 0x0112
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # chunks of a PNG that may hold one


@dataclass(frozen=True)
class CuratedSet:
    """A curated set on disk, finished or not.

    Attributes:
        folder: as it was given.
        files: parquet files of its rows: those of `sources/`, else of `trajectories/`.
        staged: True for rows of `sources/`, to which the stages' folders belong.
    """

    folder: Path
    files: tuple[Path, ...]
    staged: bool

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What `provenance.json` says; empty where there is none.

        Raises:
            DataError: it is no JSON object.
        """
        file = self.folder / PROVENANCE
        try:
            found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (ValueError, OSError) as error:
            raise DataError(f"{file} cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise DataError(f"{file} holds no JSON object; it is not a curated set's")
        return found

    def __len__(self) -> int:
        """Rows, those of `rejected.parquet` that stand nowhere else included. Raises DataError as `rows`."""
        return sum(_opened(file).metadata.num_rows for file in self.files) + len(self._elsewhere)

    @property
    def splits(self) -> dict[str, "CuratedSet"]:
        """Its parts by split, which the name of a file begins with."""
        parts: dict[str, list[Path]] = {}
        for file in self.files:
            parts.setdefault(file.name.partition("-")[0], []).append(file)
        return {split: CuratedSet(self.folder, tuple(files), self.staged) for split, files in parts.items()}

    def check(self, needed: Collection[str]) -> None:
        """Look at every file's header. Raises DataError as `rows`."""
        for file in self.files:
            _check(file, _opened(file), needed)

    def rows(
        self, columns: Collection[str], *, needed: Collection[str] = (), with_rejected: bool = True
    ) -> Iterator[Row]:
        """Yield every row with `columns`; one batch of pixels is in memory at a time.

        Args:
            columns: of `SOURCE`, `STAGES`, and of trajectories `images`.
            needed: those that `files` must have, beside `id`, `source` and `split`.
            with_rejected: False leaves out the rows of which only `rejected.parquet` knows.

        Returns:
            rows with `columns` (None where no stage got so far), and `stage`: the last one that is done (`sources`
            before the first), and `rejected`: None, or a dict with `stage`, `reason`, `detail`.

        Raises:
            DataError: a file that is no parquet file, or lacks a column that is needed.
        """
        empty = dict.fromkeys(columns)
        for file in self.files:
            stages = self._stages_of(file.name, columns) if self.staged else {}
            for row in _read(file, {*_NEEDED, *columns}, (*_NEEDED, *needed)):
                yield empty | (_joined(row, stages) if self.staged else row | {"stage": "build", "rejected": None})
        for row in self._elsewhere if with_rejected else ():
            known = {name: row[name] for name in _NEEDED}
            yield empty | known | {"stage": "", "rejected": {name: row[name] for name in ("stage", "reason", "detail")}}

    def _stages_of(self, name: str, columns: Collection[str]) -> dict[str, dict[str, Row]]:
        """What each stage says of a shard's rows, by id; up to the first stage that has no such shard."""
        found: dict[str, dict[str, Row]] = {}
        for stage, adds in STAGES.items():
            file = self.folder / stage / name
            if not file.is_file():
                break
            wanted = {"id", "reason", "detail", *(column for column in adds if column in columns)}
            found[stage] = {row["id"]: row for row in _read(file, wanted, ("id", "reason"))}
        return found

    @cached_property
    def _elsewhere(self) -> list[Row]:
        """Rows of `rejected.parquet` of which no other part knows: those that never became rows of `sources/`."""
        file = self.folder / REJECTED
        if not file.is_file():
            return []
        wanted = (*_NEEDED, "stage", "reason", "detail")
        rows = list(_read(file, wanted, wanted))
        return [row for row in rows if not self.staged or row["stage"] not in STAGES]


def _joined(row: Row, stages: dict[str, dict[str, Row]]) -> Row:
    row |= {"stage": SOURCES, "rejected": None}
    for stage, said in stages.items():
        added = said.get(row["id"])
        if added is None:
            break
        reason, detail = added["reason"], added.get("detail")
        if reason is not None:
            return row | {"rejected": {"stage": stage, "reason": reason, "detail": detail}}
        row |= {name: value for name, value in added.items() if name not in ("reason", "detail")} | {"stage": stage}
    return row


def is_curated(folder: Path) -> bool:
    """Return True for a folder with parts of a curated set.

    Example:
        >>> is_curated(Path("nowhere"))
        False
    """
    return any(next((folder / part).glob("*.parquet"), None) is not None for part in (SOURCES, BUILT))


def open_set(folder: Path, *, finished: bool = False) -> CuratedSet:
    """Find the parts of a curated set.

    Args:
        folder: the DIR of `awares curate run CONFIG -o DIR`.
        finished: only what is in `trajectories/`.

    Raises:
        DataError: no set, or with `finished` one without trajectories.
    """
    for part in (BUILT,) if finished else (SOURCES, BUILT):
        files = tuple(sorted((folder / part).glob("*.parquet")))
        if files:
            return CuratedSet(folder, files, part == SOURCES)
    if finished and is_curated(folder):
        raise DataError(f"{folder} has no {BUILT}/*.parquet yet; `awares curate build` writes them")
    raise DataError(f"{folder} holds no curated set ({SOURCES}/*.parquet or {BUILT}/*.parquet)")


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None


def _read(file: Path, columns: Collection[str], needed: Collection[str]) -> Iterator[Row]:
    """Yield rows of one file with those of `columns` that it has; `needed`: without which it is no part of a set."""
    opened = _opened(file)
    _check(file, opened, needed)
    held = [name for name in opened.schema_arrow.names if name in columns]
    size = _BATCH if {"image", "images"} & {*held} else 1024
    try:
        for batch in opened.iter_batches(batch_size=size, columns=held):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None


def _check(file: Path, opened: pq.ParquetFile, needed: Collection[str]) -> None:
    lacking = [name for name in needed if name not in opened.schema_arrow.names]
    if lacking:
        raise DataError(f"{file} has no column {lacking[0]!r}; it is no part of a curated set")


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{file} is not a readable parquet file: {reason}; remove it and run the stage again")


def size_of(image: dict[str, Any] | None) -> tuple[int, int] | None:
    """Return (width, height) in px of an encoded image, upright; None where there is none that Pillow knows.

    Reads the header, not the pixels, but of a PNG that may say how it lies.
    """
    encoded = None if image is None else image["bytes"]
    if encoded is None:
        return None
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            width, height = opened.size
            if opened.format == "PNG" and not any(mark in encoded for mark in _PNG_EXIF):
                return width, height  # for `getexif` Pillow decodes a PNG, since marks may stand behind the pixels
            return (height, width) if opened.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)
    except OSError:
        return None
