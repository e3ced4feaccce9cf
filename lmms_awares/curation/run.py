"""A curated set from its configuration: stage by stage, shard by shard, never twice.

DIR/sources ─► answer ─► judge ─► ground ─► build ─► trajectories/*.parquet, rejected.parquet, provenance.json
                  └────────┴────────┴─ requests.sqlite: every finished request
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from lmms_awares.curation.asking import Meter
from lmms_awares.curation.assemble import assemble
from lmms_awares.curation.config import Config
from lmms_awares.curation.request_log import RequestLog
from lmms_awares.curation.sampling import collect, require_sampled
from lmms_awares.curation.shards import SOURCES, STAGES, Counts, Job, ShardWork, file_of, shard_names
from lmms_awares.errors import ConfigError, DataError, UserError

LOG = "requests.sqlite"


class TooManyRejectedError(UserError):
    """More rows were rejected than allowed; all that is finished stays."""


@dataclass
class Told:
    """What a run tells while it goes on; the base class tells nobody.

    Attributes:
        meter: requests of the stage under way.
    """

    meter: Meter = field(default_factory=Meter)

    def read(self, source: str, rows: int) -> None:
        """Note rows of a source that were looked at so far, while the sample is drawn."""

    def begin(self, stage: str, rows: int) -> None:
        """Begin a stage of so many rows."""

    def advance(self, stage: str, counts: Counts) -> None:
        """Note that a shard of it is done."""


def run(
    config: Config,
    folder: Path,
    *,
    stages: Sequence[str] = tuple(STAGES),
    engine: str = "local",
    max_reject: float = 0.2,
    told: Told | None = None,
) -> dict[str, Counts]:
    """Make a curated set, or the part of it that is missing.

    Args:
        folder: of the set; a finished part is kept, and so is every finished request.
        stages: of `STAGES`, in order; the set's own files are written behind `build`.
        engine: of `ENGINES`.
        max_reject: share of a stage's rows, 0..1, that may be rejected before the run stops.

    Returns:
        what became of the rows, by stage, `sources` first.

    Raises:
        ConfigError: a stage that cannot work; known before the first row.
        TooManyRejectedError: see `max_reject`.
        DataError: the folder cannot be written, or another run works on it.

    Example:
        counts = run(read_config(Path("curation.yaml")), Path("set"))
        counts["judge"].rejected
    """
    told = told or Told()
    with _alone(folder):
        log = RequestLog(folder / LOG)
        job = Job(folder, config, log)
        try:
            _check(job, stages)
            if "answer" in stages:
                sampled = collect(config, folder, told.read)
            else:
                sampled = require_sampled(config, folder)
                _check_before(job, stages[0])
            found = {SOURCES: Counts(sampled.rows + sampled.rejected.total(), sampled.rejected)}
            for stage in stages:
                total = found[stage] = Counts()
                told.meter = Meter()
                rows = _rows(job, stage)
                told.begin(stage, rows)
                for counts in ENGINES[engine](job, stage, told.meter, shard_names(folder)):
                    total.add(counts)
                    told.advance(stage, counts)
                    _stop_beyond(max_reject, stage, rows, total)
            if "build" in found:
                assemble(job, found, log.totals())
        finally:
            log.close()
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the set, so that no other run mixes with this one.

    Raises:
        DataError: another one holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise DataError(f"another run works on {folder}; wait for it, or give another folder") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}; give another folder") from None
    try:
        yield
    finally:
        lock.release()


def _check(job: Job, stages: Sequence[str]) -> None:
    """Find out before the first row what would fail in every row of a stage that has work to do."""
    shards = shard_names(job.folder)
    for stage in stages:
        work = ShardWork(job, stage, Meter())
        if not shards or not all(map(work.is_done, shards)):
            work.stage.check()


def _check_before(job: Job, stage: str) -> None:
    """Find out whether the stages before did all shards, with these settings.

    Raises:
        ConfigError: one did not.
    """
    for earlier in list(STAGES)[: list(STAGES).index(stage)]:
        work = ShardWork(job, earlier, Meter())
        for shard in shard_names(job.folder):
            if not work.is_current(shard):
                file = file_of(job.folder, earlier, shard)
                was = "was made with other settings or sources" if file.is_file() else "is missing"
                raise ConfigError(f"{file} {was}; run `awares curate {earlier}` first, or `awares curate run` for all")


def _rows(job: Job, stage: str) -> int:
    """Count the rows that a stage gets."""
    before = [SOURCES, *STAGES][list(STAGES).index(stage)]
    return sum(accepted(job.folder, before, shard) for shard in shard_names(job.folder))


def _stop_beyond(share: float, stage: str, rows: int, counts: Counts) -> None:
    """Stop where too many rows were rejected.

    Raises:
        TooManyRejectedError: more than that share of a stage's rows.
    """
    rejected = sum(counts.rejected.values())
    if rejected > share * rows:
        raise TooManyRejectedError(
            f"{stage} has rejected {rejected} of {rows} rows ({reasons(counts)}), more than --max-reject {share:g}; "
            "mend what is wrong and run again: nothing that is finished is lost"
        )


def in_process(job: Job, stage: str, meter: Meter, shards: Sequence[str]) -> Iterator[Counts]:
    """Do shards one after the other, here."""
    work = ShardWork(job, stage, meter)
    try:
        yield from map(work, shards)
    finally:
        work.close()


def on_ray(job: Job, stage: str, meter: Meter, shards: Sequence[str]) -> Iterator[Counts]:
    """Do shards on a Ray cluster.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        from lmms_awares.curation.on_ray import on_ray as do
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'lmms-awares[ray]'") from None
    return do(job, stage, meter, shards)


ENGINES = {"local": in_process, "ray": on_ray}


def accepted(folder: Path, stage: str, shard: str) -> int:
    """Count a shard's rows that a stage let pass.

    Raises:
        ConfigError: the stage has not done the shard.
    """
    file = file_of(folder, stage, shard)
    if not file.is_file():
        raise ConfigError(f"{file} is missing; run `awares curate {stage}` first")
    if stage == SOURCES:
        return int(pq.read_metadata(file).num_rows)
    return int(pq.read_table(file, columns=["reason"]).column(0).null_count)


def reasons(counts: Counts) -> str:
    """Reasons with their counts, most frequent first.

    Example:
        >>> from collections import Counter
        >>> reasons(Counts(9, Counter({"no reply": 2, "prose": 1})))
        'no reply: 2, prose: 1'
    """
    return ", ".join(f"{reason}: {count}" for reason, count in counts.rejected.most_common())
