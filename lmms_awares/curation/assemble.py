"""The set's own files, from the stages' shards: trajectories, rejected rows, and where all of it comes from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Features

from lmms_awares.curation.asking import Meter
from lmms_awares.curation.rows import ANSWER, BUILD, GROUND, JUDGE, REJECTED, SOURCE, Row, stamp_of, write_rows
from lmms_awares.curation.sampling import read_sampled
from lmms_awares.curation.shards import SOURCES, STAGES, Counts, Job, file_of, merged, shard_names
from lmms_awares.errors import DataError
from lmms_awares.journal import digest

TRAJECTORY = Features({**SOURCE, **ANSWER, **JUDGE, **GROUND, **BUILD})
TRAJECTORIES = "trajectories"


def assemble(job: Job, counts: Mapping[str, Counts], requests: Mapping[str, Any]) -> None:
    """Write the set's own files from the stages' shards; the same shards give the same bytes.

    Args:
        counts: what became of the rows, by stage.
        requests: `RequestLog.totals`.

    Raises:
        DataError: the folder cannot be written.
    """
    folder, config = job.folder, job.config
    shards = shard_names(folder)
    sampled = read_sampled(folder)
    kept = _write_trajectories(folder, shards)
    write_rows(folder / "rejected.parquet", list(_rejected(folder, shards)), REJECTED)
    provenance = {
        "config": config.model_dump(mode="json", exclude_defaults=True),
        "stages": {name: stage(config, job.log, Meter()).depends_on() for name, stage in STAGES.items()},
        "benchmarks": sampled.benchmarks if sampled else None,  # images that were compared, by task
        "counts": {
            stage: {"rows": own.rows, "rejected": dict(sorted(own.rejected.items()))} for stage, own in counts.items()
        },
        "requests": requests,
        "data": digest(*(_sha256(file) for file in kept)),
        "versions": {
            name: version(name) for name in ("lmms-awares", "lmms-eval", "transformers", "datasets", "pillow")
        },
    }
    _write_text(folder / "provenance.json", json.dumps(provenance, indent=1) + "\n")


def _write_trajectories(folder: Path, shards: Sequence[str]) -> list[Path]:
    """One file per shard, named so that `datasets` finds the splits; files of an older run go."""
    stages = [SOURCES, *STAGES]
    kept = []
    for shard in shards:
        split, _, number = shard.rpartition("-")
        of_split = sum(other.rpartition("-")[0] == split for other in shards)
        file = folder / TRAJECTORIES / f"{split}-{number}-of-{of_split:05d}.parquet"
        kept.append(file)
        stamp = stamp_of(file_of(folder, stages[-1], shard))
        if stamp_of(file) != stamp:
            write_rows(file, merged(folder, stages, shard), TRAJECTORY, stamp)
    for file in (folder / TRAJECTORIES).glob("*.parquet"):
        if file not in kept:
            file.unlink()
    return kept


def _rejected(folder: Path, shards: Sequence[str]) -> Iterator[Row]:
    """All rejected rows, by stage."""
    early = folder / SOURCES / "rejected.parquet"
    if early.is_file():
        yield from pq.read_table(early).to_pylist()
    for stage in STAGES:
        for shard in shards:
            sources = pq.read_table(file_of(folder, SOURCES, shard), columns=["id", "source", "split"]).to_pylist()
            about = {row["id"]: row for row in sources}
            table = pq.read_table(file_of(folder, stage, shard), columns=["id", "reason", "detail"])
            for row in table.to_pylist():
                if row["reason"] is not None:
                    yield about[row["id"]] | {"stage": stage, "reason": row["reason"], "detail": row["detail"]}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_text(file: Path, text: str) -> None:
    unfinished = file.with_suffix(".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}; make room and run again") from None
