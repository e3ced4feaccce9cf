"""Baselines of the regression gate: per-sample scores, RTR and times of a run, small enough for a repository."""

import gzip
import json
import math
import zlib
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lmms_awares.errors import UserError
from lmms_awares.report.read.folders import newest_run
from lmms_awares.report.read.results import Run
from lmms_awares.trace import Conditions, Trace

SCHEMA_VERSION = 2
_READABLE = (1, 2)  # version 1 had neither `image_digests` nor `answers`
SUFFIX = ".json.gz"
_DIGITS = 6  # of scores, RTR and seconds: far below what any test could tell apart


class BaselineError(UserError):
    """A run or a saved baseline that the gate cannot use; the message is one line that names it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TaskSamples(_Strict):
    """The samples of one task, a list per quantity, in the order of the documents.

    Attributes:
        generation: the task's generation_kwargs.
        prompts: labels of the system prompts, usually one; empty without traces, as `conditions`.
        doc_ids: ascending.
        digests: 32 bits of a hash of question and target, as hex.
        image_sizes: (width, height) in px; None without a trace.
        image_digests: 32 bits of the hash of the image's pixels, as hex; None where the trace has none, and altogether
            where no trace has one or the baseline is of version 1.
        scores: 0..1; None where the sample failed.
        rtr: None where the sample failed or has no trace; `latency_s` (seconds) likewise.
        answers: 32 bits of a hash, as hex; None where the sample failed. All None before schema 2.
    """

    method: str
    metric: str
    generation: dict[str, Any]
    prompts: list[str]
    conditions: list[Conditions]
    doc_ids: list[int]
    digests: list[str]
    image_sizes: list[tuple[int, int] | None]
    image_digests: list[str | None] | None = None
    scores: list[float | None]
    rtr: list[float | None]
    latency_s: list[float | None]
    answers: list[str | None] | None = None


class Baseline(_Strict):
    """One run, reduced to what the gate compares.

    `batch_size` is the run's setting; latency compares only between equal ones.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    date: str
    batch_size: str
    tasks: dict[str, TaskSamples] = Field(min_length=1)


def load(path: Path) -> Baseline:
    """Load a saved baseline (a file), or reduce the newest results below a folder.

    Raises:
        BaselineError: neither, another schema version, or samples without usable scores.
        RunError: a result folder that cannot be read.
        TraceError: a trace of another schema version.
    """
    if path.is_dir():
        return reduce_run(newest_run(path))
    if not path.is_file():
        raise BaselineError(f"{path} does not exist; give a result folder or a file of `awares regress save`")
    try:
        data = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BaselineError(f"{path} is no baseline of `awares regress save`: {error}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version not in _READABLE or isinstance(version, bool):
        raise BaselineError(f"{path} has baseline schema version {version!r}, not {SCHEMA_VERSION}; save it again")
    try:
        return Baseline.model_validate(data | {"schema_version": SCHEMA_VERSION})
    except ValidationError as error:
        first = error.errors()[0]
        raise BaselineError(f"{path} does not fit baseline schema {version}: {first['loc']}: {first['msg']}") from None


def save(baseline: Baseline, file: Path) -> Path:
    """Write a baseline; equal ones give equal bytes.

    Raises:
        BaselineError: the file cannot be written.
    """
    content = gzip.compress(baseline.model_dump_json().encode(), mtime=0)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise BaselineError(f"{file} cannot be written: {error.strerror}; give another folder") from None
    return file


def reduce_run(run: Run) -> Baseline:
    """Reduce a run to what the gate compares; errors as `load`."""
    if not run.tasks:
        raise BaselineError(f"{run.path} holds no task")
    tasks = {task: _reduce_task(run, task) for task in run.tasks}
    written = datetime.fromtimestamp(run.path.stat().st_mtime, tz=UTC)
    return Baseline(
        name=next(iter(tasks.values())).method,
        date=written.strftime("%Y-%m-%d"),
        batch_size=_batch_size(run),
        tasks=tasks,
    )


def _batch_size(run: Run) -> str:
    """Return the setting, with its tasks where they differ."""
    sizes = {task: str(run.settings(task).get("batch_size")) for task in run.tasks}
    if len(set(sizes.values())) == 1:
        return next(iter(sizes.values()))
    return ", ".join(f"{task} {size}" for task, size in sorted(sizes.items()))


def _reduce_task(run: Run, task: str) -> TaskSamples:
    where = f"{task} of {run.of(task).path}"
    # A row also holds the raw response: it is let go of at once.
    rows = sorted((_reduce_sample(*sample, where) for sample in run.samples(task)), key=lambda row: row[0])
    run.check_count(task, len(rows))
    if not rows:
        raise BaselineError(f"{where} has no samples")
    doc_ids, digests, answers, scores, traces = (list(column) for column in zip(*rows, strict=True))
    for doc_id, following in pairwise(doc_ids):
        if doc_id == following:
            raise BaselineError(f"{where} holds document {doc_id} twice")
    traced = [trace for trace in traces if trace is not None]
    config = run.config(task)
    image_digests = [trace.image_digest[:8] if trace and trace.image_digest else None for trace in traces]
    return TaskSamples(
        method=traced[0].method if traced else run.model,
        metric=str((config.get("metric_list") or [{"metric": "score"}])[0]["metric"]),
        generation=config.get("generation_kwargs") or {},
        prompts=sorted({trace.prompt for trace in traced}),
        conditions=list({trace.conditions.model_dump_json(): trace.conditions for trace in traced}.values()),
        doc_ids=doc_ids,
        digests=digests,
        image_sizes=[trace.image_size if trace is not None else None for trace in traces],
        image_digests=image_digests if any(image_digests) else None,
        scores=scores,
        rtr=[_measured(trace, "rtr") for trace in traces],
        latency_s=[_measured(trace, "latency_s") for trace in traces],
        answers=answers,
    )


def _reduce_sample(
    sample: dict[str, Any], trace: Trace | None, where: str
) -> tuple[int, str, str | None, float | None, Trace | None]:
    """Return (doc_id, digest, answer's digest, score, trace) of a row; answer and score are None where it failed."""
    digest = _digest([sample.get("input"), sample.get("target")])
    if trace is not None and trace.failed is not None:
        return sample["doc_id"], digest, None, None, trace
    score = sample.get("score")
    if not isinstance(score, int | float):
        raise BaselineError(f"document {sample['doc_id']} of {where} has no score; run the awares_* tasks")
    if trace is not None and not math.isfinite(trace.rtr if trace.rtr is not None else math.nan):
        raise BaselineError(f"document {sample['doc_id']} of {where} has rtr {trace.rtr}, no number")
    if not 0 <= score <= 1:  # NaN neither
        raise BaselineError(f"document {sample['doc_id']} of {where} has score {score}; it must lie in 0..1")
    answer = _digest(sample.get("answer", sample.get("filtered_resps")))
    return sample["doc_id"], digest, answer, round(score, _DIGITS), trace


def _digest(content: object) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=4).hexdigest()


def _measured(trace: Trace | None, quantity: Literal["rtr", "latency_s"]) -> float | None:
    if trace is None or trace.failed is not None:
        return None
    value = trace.rtr if quantity == "rtr" else trace.latency_s
    return None if value is None else round(value, _DIGITS)
