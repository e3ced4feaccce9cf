"""The sample of a curated set: rows of each source for training and for validation, written as shards.

    pass 1   every source: candidates in the order of their ranks (`survey`)
             validation takes the first ones, training the next whose images validation does not show
    pass 2   every source: the chosen rows ─► capped ─► DIR/sources/{train,validation}-00000.parquet

`DIR/sources.json` is written last. While it says what the configuration and the data say, nothing is read again.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger
from pydantic import BaseModel, ValidationError

from lmms_awares.curation.chosen import Shards, finished_rows
from lmms_awares.curation.config import Config
from lmms_awares.curation.decontaminate import Benchmarks, read_hashes, write_hashes
from lmms_awares.curation.rows import REJECTED, Row, stamp_of, write_rows
from lmms_awares.curation.sources import OpenSource, open_source
from lmms_awares.curation.survey import BENCHMARK_IMAGE, DUPLICATE, Candidate, Progress, Survey, survey
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.journal import digest

TRAIN, VALIDATION = "train", "validation"
_VERSION = 1  # of what the shards hold
_UNCHECKED = (
    "benchmarks: null in the configuration: images are NOT compared with those of the benchmarks, "
    "so the set may hold test images"
)


class SourceCounts(BaseModel):
    """What became of a source's rows.

    Attributes:
        data: the hub's revision, or the files' sha256.
        read: rows that it has.
        chosen: rows by part.
        rejected: rows that would have been chosen, by the reason why they cannot be.
        duplicates, benchmark_images: two of these reasons.
        shown_in_validation: rows that would have been chosen for training, but validation shows their image.
        joined: chosen rows whose images were joined.
        scaled: chosen rows whose image was made smaller.
    """

    data: dict[str, Any]
    read: int
    chosen: dict[str, int]
    rejected: dict[str, int]
    duplicates: int
    benchmark_images: int
    shown_in_validation: int
    joined: int = 0
    scaled: int = 0


class Sampled(BaseModel):
    """What `DIR/sources.json` says.

    Attributes:
        stamp: hash of all that the rows depend on.
        benchmarks: images of benchmarks that were compared, by task; null where none were.
        shards: names of the files in `DIR/sources`.
    """

    stamp: str
    benchmarks: dict[str, int] | None
    shards: list[str]
    sources: dict[str, SourceCounts]

    @property
    def rows(self) -> int:
        """Rows that were chosen."""
        return sum(sum(one.chosen.values()) for one in self.sources.values())

    @property
    def rejected(self) -> Counter[str]:
        """Rows that cannot be used, by reason."""
        return sum((Counter(one.rejected) for one in self.sources.values()), Counter())


@dataclass(frozen=True)
class Chosen:
    """Rows of one source.

    Attributes:
        candidates: by part.
        last_rank: of the last row that was needed; infinite where the source gave all that it has.
        shown: rows that were passed over, as validation shows their image.
    """

    candidates: dict[str, list[Candidate]]
    last_rank: float
    shown: int

    @property
    def by_number(self) -> dict[int, tuple[str, Candidate]]:
        """Part and candidate by the row's number."""
        return {one.number: (part, one) for part, found in self.candidates.items() for one in found}


def collect(config: Config, folder: Path, progress: Progress | None = None) -> Sampled:
    """Sample the sources of a configuration into `folder/sources`; does nothing where that was done.

    Args:
        progress: hears the source that is read and its rows so far.

    Raises:
        ConfigError: a source that there is not, that cannot work, or that is named twice.
        DataError: data that cannot be had, lack a column, or change while they are read; no room for the shards.

    Example:
        sampled = collect(read_config(Path("curation.yaml")), Path("set"))
    """
    opened = _open(config)
    for name, times in Counter(one.name for one in opened).items():
        if times > 1:
            raise ConfigError(f"sources: {name} is named twice; rows could not be told apart, rename one YAML file")
    benchmarks = _benchmarks(config, folder)
    stamp = _stamp(config, opened, benchmarks)
    done = read_sampled(folder)
    if done is not None and done.stamp == stamp and _whole(folder, done):
        return done
    (folder / "sources.json").unlink(missing_ok=True)
    for left in (folder / "sources").glob("*.tmp"):  # of a run that was killed while it wrote
        left.unlink()
    surveys, chosen = _sample(opened, config, benchmarks, progress)
    counts = {one.name: _counts(one, surveys[one.name], chosen[one.name]) for one in opened}
    shards = Shards(folder / "sources", config.shard_rows, stamp)
    for one in opened:
        for finished in finished_rows(one, chosen[one.name].by_number, config.max_side, progress):
            shards.add(finished.row)
            counts[one.name].joined += finished.joined
            counts[one.name].scaled += finished.scaled
    names = shards.close()
    write_rows(folder / "sources" / "rejected.parquet", list(_rejected(surveys, chosen)), REJECTED, stamp)
    found = None if benchmarks is None else dict(Counter(benchmarks.tasks))
    result = Sampled(stamp=stamp, benchmarks=found, shards=names, sources=counts)
    _write(folder / "sources.json", result)
    return result


def require_sampled(config: Config, folder: Path) -> Sampled:
    """Return the sample in `folder/sources`, which a stage behind it works on.

    Raises:
        ConfigError: there is none, or one of other sources or settings.
        DataError: see `collect`.
    """
    done, mend = read_sampled(folder), "run `awares curate answer` first, or `awares curate run` for all"
    if done is None:
        raise ConfigError(f"{folder} has no sample of its sources yet; {mend}")
    opened = _open(config)
    if done.stamp != _stamp(config, opened, _benchmarks(config, folder)) or not _whole(folder, done):
        raise ConfigError(f"{folder / 'sources'} was made of other sources or settings; {mend}")
    return done


def _open(config: Config) -> list[OpenSource]:
    wanted = config.rows + math.ceil(config.validation / len(config.sources))
    return [open_source(name, config.data_root, wanted) for name in config.sources]


def _benchmarks(config: Config, folder: Path) -> Benchmarks | None:
    """What tells the images of benchmarks; made where it is not there yet."""
    if config.benchmarks is None:
        logger.warning(_UNCHECKED)
        return None
    file = config.benchmark_hashes
    if file is None:
        file = folder / "benchmarks.parquet"
        try:
            write_hashes(file, config.benchmarks)
        except DataError as error:
            raise DataError(
                f"images of benchmarks={config.benchmarks} cannot be left out: {error}; give their documents, a "
                "file of `awares curate hashes` as benchmark_hashes, or benchmarks: null to go without"
            ) from None
    return read_hashes(file)


def read_sampled(folder: Path) -> Sampled | None:
    """Read `folder/sources.json`; None where no sample was finished."""
    try:
        return Sampled.model_validate_json((folder / "sources.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _whole(folder: Path, counts: Sampled) -> bool:
    files = (folder / "sources" / name for name in (*counts.shards, "rejected.parquet"))
    return all(stamp_of(file) == counts.stamp for file in files)


def _write(file: Path, counts: Sampled) -> None:
    unfinished = file.with_suffix(".tmp")
    try:
        unfinished.write_text(counts.model_dump_json(indent=1) + "\n", encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}; make room or give another folder") from None


def _stamp(config: Config, opened: Sequence[OpenSource], benchmarks: Benchmarks | None) -> str:
    settings = config.model_dump(mode="json", include={"rows", "validation", "seed", "max_side", "shard_rows"})
    sources = [[one.name, one.source.model_dump(mode="json"), one.records.facts] for one in opened]
    return digest(_VERSION, settings, sources, None if benchmarks is None else benchmarks.stamp)


def _sample(
    opened: Sequence[OpenSource], config: Config, benchmarks: Benchmarks | None, progress: Progress | None
) -> tuple[dict[str, Survey], dict[str, Chosen]]:
    """Survey all sources, and again, further, those whose images in validation took too many rows from training."""
    surveys: dict[str, Survey] = {}
    limits = {one.name: config.rows + config.validation for one in opened}
    short = list(opened)
    while True:
        for one in short:
            surveys[one.name] = survey(one, limits[one.name], config.seed, benchmarks, progress)
        found = {name: one.candidates for name, one in surveys.items()}
        chosen = split(found, config.rows, config.validation)
        short = [
            one
            for one in opened
            if len(chosen[one.name].candidates[TRAIN]) < config.rows and not surveys[one.name].whole
        ]
        if not short:
            return surveys, chosen
        for one in short:
            limits[one.name] *= 2


def split(candidates: Mapping[str, Sequence[Candidate]], rows: int, validation: int) -> dict[str, Chosen]:
    """Choose rows for validation and for training; no image is in both, whichever sources show it.

    Validation has each source's share of `validation`. Where a source has fewer rows than are wanted, both parts shrink
    alike.

    Args:
        candidates: by source, in the order of their ranks.
        rows: for training, of each source.
        validation: of all sources together.
    """
    quotas = _quotas({name: len(found) for name, found in candidates.items()}, rows, validation)
    held = {name: list(found[: quotas[name]]) for name, found in candidates.items()}
    images = {image for found in held.values() for one in found for image in one.images}
    chosen: dict[str, Chosen] = {}
    for name, found in candidates.items():
        train: list[Candidate] = []
        shown, last = 0, math.inf
        for one in found[quotas[name] :]:
            if images.isdisjoint(one.images):
                train.append(one)
            else:
                shown += 1
            if len(train) == rows:
                last = one.rank
                break
        chosen[name] = Chosen({TRAIN: train, VALIDATION: held[name]}, last, shown)
    return chosen


def _quotas(found: Mapping[str, int], rows: int, validation: int) -> dict[str, int]:
    """Rows of each source for validation, by largest remainders."""
    wanted = rows * len(found) + validation
    exact = {name: validation * min(count / wanted, 1 / len(found)) for name, count in found.items()}
    quotas = {name: math.floor(share) for name, share in exact.items()}
    left = round(sum(exact.values())) - sum(quotas.values())
    for name in sorted(exact, key=lambda one: (quotas[one] - exact[one], one))[:left]:
        quotas[name] += 1
    return quotas


def _counts(opened: OpenSource, found: Survey, chosen: Chosen) -> SourceCounts:
    reasons = Counter(row["reason"] for rank, row in found.rejected if rank <= chosen.last_rank)
    return SourceCounts(
        data=opened.records.facts,
        read=found.read,
        chosen={part: len(rows) for part, rows in chosen.candidates.items()},
        rejected=dict(sorted(reasons.items())),
        duplicates=reasons[DUPLICATE],
        benchmark_images=reasons[BENCHMARK_IMAGE],
        shown_in_validation=chosen.shown,
    )


def _rejected(surveys: Mapping[str, Survey], chosen: Mapping[str, Chosen]) -> Iterator[Row]:
    for name, found in surveys.items():
        yield from (row | {"split": None} for rank, row in found.rejected if rank <= chosen[name].last_rank)
