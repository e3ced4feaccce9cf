"""The second pass over a source: its chosen rows, capped, and the shards that take them as they fill."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmms_awares.curation.pictures import capped, pixel_hash
from lmms_awares.curation.rows import SOURCE, Rejected, Row, write_rows
from lmms_awares.curation.sources import OpenSource
from lmms_awares.curation.survey import Candidate, Progress, usable
from lmms_awares.errors import DataError


@dataclass(frozen=True)
class Finished:
    """A row of `rows.SOURCE`, and what was done to its picture."""

    row: Row
    joined: bool
    scaled: bool


def finished_rows(
    opened: OpenSource, chosen: Mapping[int, tuple[str, Candidate]], max_side: int, progress: Progress | None = None
) -> Iterator[Finished]:
    """Read the chosen rows of a source, in its own order.

    Args:
        chosen: part and candidate by the row's number.
        max_side: px.

    Raises:
        DataError: the data are not those of the first pass.
    """
    left = len(chosen)
    for number, (record, folder) in enumerate(opened.records.read()):
        if not left:
            return
        if number not in chosen:
            continue
        left -= 1
        part, candidate = chosen[number]
        found = record if isinstance(record, Rejected) else usable(opened, record, folder)
        if isinstance(found, Rejected) or tuple(map(pixel_hash, found.picture.parts)) != candidate.images:
            break
        image, box = capped(found.picture, found.box, max_side)
        row = {
            "id": candidate.id,
            "source": opened.name,
            "split": part,
            "image": {"bytes": image, "path": None},
            "question": found.asked.question,
            "answers": list(found.asked.answers),
            "evidence_box": None if box is None else list(box),
            "metric": opened.source.metric,
        }
        if progress is not None:
            progress(f"{opened.name}, chosen", len(chosen) - left)
        yield Finished(row, len(candidate.images) > 1, max(found.picture.image.size) > max_side)
    else:
        if not left:
            return
    raise DataError(f"{opened.records.where} changed while it was read; run again")


@dataclass
class Shards:
    """Shards of each part, written as they fill.

    Args:
        folder: of the shards.
        size: rows of a shard.
        stamp: what the rows depend on.
    """

    folder: Path
    size: int
    stamp: str
    names: list[str] = field(default_factory=list)
    _open: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take a row."""
        rows = self._open.setdefault(row["split"], [])
        rows.append(row)
        if len(rows) == self.size:
            self._write(row["split"])

    def close(self) -> list[str]:
        """Write what is left, remove shards of an earlier sample, and return the names of all."""
        for part in sorted(self._open):
            if self._open[part]:
                self._write(part)
        for part in ("train", "validation"):
            for file in self.folder.glob(f"{part}-*.parquet"):
                if file.name not in self.names:
                    file.unlink()
        return sorted(self.names)

    def _write(self, part: str) -> None:
        number = sum(name.startswith(f"{part}-") for name in self.names)
        name = f"{part}-{number:05d}.parquet"
        write_rows(self.folder / name, self._open[part], SOURCE, self.stamp)
        self.names.append(name)
        self._open[part] = []
