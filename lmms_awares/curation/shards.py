"""A stage over one shard: rows of all earlier stages in, the stage's own shard out, nothing made twice.

sources/train-00003 ──┐
answer/train-00003  ──┼─► rows that nobody rejected ─► stage.process ─► judge/train-00003
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lmms_awares.curation.answering import Answering
from lmms_awares.curation.asking import Log, Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.grounding import Grounding
from lmms_awares.curation.judging import Judging
from lmms_awares.curation.rows import Rejected, Row, stamp_of, with_verdict, write_rows
from lmms_awares.curation.stage import Stage
from lmms_awares.curation.transcripts import Building
from lmms_awares.errors import ConfigError
from lmms_awares.journal import digest

STAGES: dict[str, type[Stage]] = {stage.name: stage for stage in (Answering, Judging, Grounding, Building)}
SOURCES = "sources"
_UNFINISHED = "unfinished "  # begins the stamp of a shard in which asking again may help


@dataclass
class Counts:
    """What became of rows: how many came in, and how many were rejected for which reason."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Add another shard's."""
        self.rows += other.rows
        self.rejected.update(other.rejected)


def shard_names(folder: Path) -> list[str]:
    """Names of a set's shards, `train-00000` first."""
    return sorted(file.stem for file in (folder / SOURCES).glob("*-[0-9]*.parquet"))


def file_of(folder: Path, stage: str, shard: str) -> Path:
    """Where a stage keeps a shard."""
    return folder / stage / f"{shard}.parquet"


@dataclass(frozen=True)
class Job:
    """A set to make: its folder, its configuration, and where finished requests are kept."""

    folder: Path
    config: Config
    log: Log


class ShardWork:
    """One stage's work on a set, shard by shard; in this process or in a worker.

    Args:
        job: the set.
        stage: the stage's name.
        meter: counts requests.

    Attributes:
        stage: the stage itself.

    Example:
        work = ShardWork(Job(folder, config, log), "judge", Meter())
        for shard in shard_names(folder):
            counts = work(shard)
        work.close()
    """

    def __init__(self, job: Job, stage: str, meter: Meter) -> None:
        self._folder, self._before = job.folder, [SOURCES, *list(STAGES)[: list(STAGES).index(stage)]]
        self.stage, self._opened = STAGES[stage](job.config, job.log, meter), False
        self._depends = digest(self.stage.depends_on())

    def is_done(self, shard: str) -> bool:
        """True where the shard is there and depends on nothing that has changed."""
        found = stamp_of(self._file(shard))
        return found is not None and found == self._stamp(shard)

    def is_current(self, shard: str) -> bool:
        """True where the shard is done, or done but for rows that asking again may save."""
        found = stamp_of(self._file(shard))
        return found is not None and found.removeprefix(_UNFINISHED) == self._stamp(shard)

    def __call__(self, shard: str) -> Counts:
        """Do a shard, unless it is done.

        Raises:
            ConfigError: an earlier stage has not done it; see `Stage.open`.
        """
        if self.is_done(shard):
            return self.counts(shard)
        before = file_of(self._folder, self._before[-1], shard)
        if stamp_of(before) is None:
            raise ConfigError(f"{before} is missing; run `awares curate {self._before[-1]}` first")
        if not self._opened:
            self.stage.open()
            self._opened = True
        rows = merged(self._folder, self._before, shard, images=self.stage.uses_image)
        results = self.stage.process(rows)
        held = [_held(row["id"], result, self.stage) for row, result in zip(rows, results, strict=True)]
        open_ends = any(isinstance(result, Rejected) and not result.final for result in results)
        stamp = f"{_UNFINISHED if open_ends else ''}{self._stamp(shard)}"
        write_rows(self._file(shard), held, with_verdict(self.stage.adds), stamp)
        return self.counts(shard)

    def counts(self, shard: str) -> Counts:
        """What became of a shard that is there."""
        reasons = pq.read_table(self._file(shard), columns=["reason"]).column(0).to_pylist()
        return Counts(len(reasons), Counter(reason for reason in reasons if reason is not None))

    def close(self) -> None:
        """End what the stage began."""
        if self._opened:
            self.stage.close()

    def _file(self, shard: str) -> Path:
        return file_of(self._folder, self.stage.name, shard)

    def _stamp(self, shard: str) -> str | None:
        """What a finished shard says: all that its rows depend on. None where the stage before has not done it."""
        before = file_of(self._folder, self._before[-1], shard)
        found = stamp_of(before)
        if found is None:
            return None
        return digest(self._depends, found, before.stat().st_mtime_ns if found.startswith(_UNFINISHED) else None)


def merged(folder: Path, stages: Sequence[str], shard: str, *, images: bool = True) -> list[Row]:
    """Rows of a shard with the columns of some stages, but for those that one of them rejected.

    Args:
        stages: `sources` first.
        images: False leaves the column `image` out.
    """
    file = file_of(folder, stages[0], shard)
    columns = [name for name in pq.read_schema(file).names if images or name != "image"]
    rows: dict[str, Row] = {row["id"]: row for row in pq.read_table(file, columns=columns).to_pylist()}
    for stage in stages[1:]:
        own = {row["id"]: row for row in pq.read_table(file_of(folder, stage, shard)).to_pylist()}
        rows = {id: row | _accepted(own[id]) for id, row in rows.items() if own[id]["reason"] is None}
    return list(rows.values())


def _accepted(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("reason", "detail")}


def _held(id: str, result: Row | Rejected, stage: Stage) -> dict[str, Any]:
    """A row as the stage's shard holds it."""
    if isinstance(result, Rejected):
        return {"id": id, **dict.fromkeys(stage.adds), "reason": result.reason, "detail": result.detail}
    return {"id": id, **result, "reason": None, "detail": None}
