"""Reading lmms-eval's result folders: one row per method and task, from the per-sample files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmms_awares.trace import Trace, parse_trace

_RESULTS = "_results.json"
COLUMNS = (
    "method",
    "task",
    "metric",
    "score",
    "rtr",
    "rtr_pooled",
    "call_rate",
    "invalid_calls",
    "latency_s",
    "n",
    "failed",
)


class RunError(ValueError):
    """A result folder that cannot be read; the message names the file."""


@dataclass(frozen=True)
class Run:
    """One evaluation: the aggregated file and the sample files beside it."""

    path: Path
    results: dict[str, Any]

    @property
    def model(self) -> str:
        """The lmms-eval model id."""
        return str(self.results["config"]["model"])

    @property
    def tasks(self) -> list[str]:
        """Scored tasks, groups left out, in the order of the run."""
        return [task for task in self.results["results"] if task in self.results["configs"]]

    def samples(self, task: str) -> Iterator[dict[str, Any]]:
        """The rows of one task.

        Raises:
            RunError: the file is missing or a line is not JSON.
        """
        file = self.path.with_name(f"{self.path.name.removesuffix(_RESULTS)}_samples_{task}.jsonl")
        if not file.is_file():
            raise RunError(f"{file} is missing; run with --log_samples")
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise RunError(f"{file} line {number} is not JSON ({error.msg}); is it truncated?") from None


def find_runs(folder: Path, newer_than: float = 0.0) -> list[Run]:
    """Every run below `folder` whose file was written after `newer_than` (seconds since the epoch), oldest first.

    Raises:
        RunError: a results file that is not JSON.
    """
    files = [file for file in folder.rglob(f"*{_RESULTS}") if file.stat().st_mtime >= newer_than]
    return [_read(file) for file in sorted(files, key=lambda file: file.stat().st_mtime)]


def newest_run(folder: Path) -> Run:
    """The latest run below `folder`.

    Raises:
        RunError: there is none.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; give an --output_path")
    runs = find_runs(folder)
    if not runs:
        raise RunError(f"{folder} holds no results (*{_RESULTS}); is it an --output_path?")
    return runs[-1]


def _read(file: Path) -> Run:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{file} is not JSON ({error.msg}); is it truncated?") from None
    if not isinstance(results, dict) or not {"config", "configs", "results"} <= set(results):
        raise RunError(f"{file} is no results file of lmms-eval")
    return Run(file, results)


def summarize(run: Run) -> pd.DataFrame:
    """One row per task, columns `COLUMNS`.

    `score` is 0..100; failed samples are counted and left out of every mean. Tasks without traces (stock tasks,
    lmms-eval's own models) show their first metric as lmms-eval printed it, and no token figures.

    Raises:
        RunError: a sample file is missing or broken.
        TraceError: a trace of another schema version.
    """
    rows = [_row(run, task) for task in run.tasks]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(run: Run, task: str) -> dict[str, Any]:
    samples = list(run.samples(task))
    traces = [parse_trace(sample["awares"]) for sample in samples if sample.get("awares")]
    good = [trace for trace in traces if trace.failed is None]
    metric, score = _headline(run, task, samples)
    row = {
        "method": _method(traces[0]) if traces else run.model,
        "task": task,
        "metric": metric,
        "score": score,
        "n": len(samples),
        "failed": len(traces) - len(good) if traces else sum(map(_without_input, samples)),
    }
    return row | _token_figures(good) if good else row


def _method(trace: Trace) -> str:
    return trace.method


def _without_input(sample: dict[str, Any]) -> bool:
    """True for a sample of a stock task that one of our models could not answer: it was given no token."""
    counts = sample.get("token_counts") or [None]
    return counts[0] is not None and counts[0].get("input_tokens") == 0


def _token_figures(traces: list[Trace]) -> dict[str, Any]:
    count = len(traces)
    return {
        "rtr": sum(trace.rtr or 0.0 for trace in traces) / count,
        "rtr_pooled": sum(t.visual_tokens for t in traces) / sum(t.full_tokens for t in traces),
        "call_rate": sum(trace.called for trace in traces) / count,
        "invalid_calls": sum(t.tool_call is not None and t.tool_call.status == "invalid" for t in traces),
        "latency_s": sum(trace.latency_s for trace in traces) / count,
    }


def _headline(run: Run, task: str, samples: list[dict[str, Any]]) -> tuple[str, float | None]:
    """Name and value of the task's headline metric; 0..100 where the samples carry a `score`."""
    config = run.results["configs"][task]
    metric = str((config.get("metric_list") or [{"metric": "score"}])[0]["metric"])
    scores = [sample["score"] for sample in samples if isinstance(sample.get("score"), int | float)]
    metadata = config.get("metadata")
    if scores and isinstance(metadata, dict) and metadata.get("awares_envelope"):  # our tasks: 0..1
        return metric, 100 * sum(scores) / len(scores)
    value = run.results["results"][task].get(f"{metric},none")
    return metric, value if isinstance(value, int | float) else None
