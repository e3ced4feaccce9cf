"""Reading lmms-eval's result folders: one row per method and task, from the per-sample files."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmms_awares.crops import union_area
from lmms_awares.report.samples import RunError, read_rows, read_samples
from lmms_awares.trace import Trace

_RESULTS = "_results.json"
_NOMINAL = {"qwen2_5_vl_full": 1.0, "qwen2_5_vl_lowres": 0.25}  # the paper's RTR of methods without a retain ratio
COLUMNS = (
    "method",
    "nominal",
    "task",
    "metric",
    "score",
    "f1",
    "rtr",
    "rtr_pooled",
    "call_rate",
    "area",
    "invalid_calls",
    "latency_s",
    "n",
    "failed",
)


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

    @property
    def retain_ratio(self) -> float | None:
        """`retain_ratio` of the model arguments: the nominal budget of a fixed-budget method."""
        value = self.model_args.get("retain_ratio")
        return None if value is None else float(value)

    @property
    def model_args(self) -> dict[str, str]:
        """`--model_args`, as text."""
        given = self.results["config"].get("model_args") or {}
        if isinstance(given, str):
            given = dict(pair.split("=", 1) for pair in given.split(",") if "=" in pair)
        return {name: str(value) for name, value in given.items()}

    def samples_file(self, task: str) -> Path:
        """Where the rows of one task are."""
        return self.path.with_name(f"{self.path.name.removesuffix(_RESULTS)}_samples_{task}.jsonl")

    def frame(self, task: str) -> pd.DataFrame:
        """The rows of one task as a table, see `lmms_awares.report.samples.read_samples`.

        Raises:
            RunError, TraceError: as there.
        """
        frame = read_samples(self.samples_file(task), scored=self.is_ours(task))
        self.check_count(task, len(frame))
        return frame

    def check_count(self, task: str, rows: int) -> None:
        """Compare the number of rows with what lmms-eval wrote into the results, where it did.

        Raises:
            RunError: there are more or fewer.
        """
        counts = self.results.get("n-samples", {}).get(task)
        if counts is None:
            return
        # lmms-eval does not count --offset in.
        expected = min(counts["effective"], counts["original"] - int(self.results["config"].get("offset") or 0))
        if rows != expected:
            raise RunError(f"{self.samples_file(task)} holds {rows} of {expected} rows; is it truncated?")

    def is_ours(self, task: str) -> bool:
        """True for tasks of this package: samples carry a `score` of 0..1, and a trace where the model sent one."""
        metadata = self.results["configs"][task].get("metadata")
        return isinstance(metadata, dict) and bool(metadata.get("awares_envelope"))

    def samples(self, task: str) -> Iterator[tuple[dict[str, Any], Trace | None]]:
        """The whole rows of one task with their traces, see `lmms_awares.report.samples.read_rows`.

        Raises:
            RunError, TraceError: as there.
        """
        return read_rows(self.samples_file(task))


def find_runs(folder: Path, newer_than: float = 0.0) -> list[Run]:
    """Every run below `folder` whose file was written after `newer_than` (seconds since the epoch), oldest first.

    Raises:
        RunError: a results file that is not JSON.
    """
    files = [file for file in folder.rglob(f"*{_RESULTS}") if file.stat().st_mtime >= newer_than]
    return [_read(file) for file in sorted(files, key=lambda file: file.stat().st_mtime)]


def newest_run(folder: Path) -> Run:
    """The latest run below `folder`, or the run of one results file.

    Runs of several folders are hardly one run repeated: which one is taken is then said on stderr.

    Raises:
        RunError: there is none.
    """
    if folder.is_file():
        return _read(folder)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; give an --output_path")
    runs = find_runs(folder)
    if not runs:
        raise RunError(f"{folder} holds no results (*{_RESULTS}); is it an --output_path?")
    if len({run.path.parent for run in runs}) > 1:
        print(
            f"awares: warning: {len(runs)} runs lie below {folder}; only the newest is taken, {runs[-1].path}. "
            f"{folder}/*/ gives them all",
            file=sys.stderr,
        )
    return runs[-1]


def _read(file: Path) -> Run:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise RunError(f"{file} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{file} is not JSON ({error.msg}); is it truncated?") from None
    parts = [results.get(name) for name in ("config", "configs", "results")] if isinstance(results, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{file} is no results file of lmms-eval")
    if "model" not in results["config"]:
        raise RunError(f"{file} does not say which model it is of (config has no model)")
    return Run(file, results)


def summarize(run: Run) -> pd.DataFrame:
    """One row per task, columns `COLUMNS`.

    `score` and `f1` (POPE's) are 0..100; failed samples are counted and left out of every
    mean; `area` is the mean over calls. Tasks without traces (stock tasks, lmms-eval's own models) show their first
    metric as lmms-eval printed it, and no token figures.

    Raises:
        RunError: a sample file is missing or broken.
        TraceError: a trace of another schema version.
    """
    return summarize_frames(run, {task: run.frame(task) for task in run.tasks})


def summarize_frames(run: Run, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`summarize` from rows that are already read: `frames` by task, as `Run.frame` gives them."""
    rows = [_row(run, task, frame) for task, frame in frames.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def method_of(run: Run, frame: pd.DataFrame) -> str:
    """Model id, with `:policy` for a control of awares, `+pruner` where the id does not name it, `@ratio`."""
    traced = frame[frame["traced"]]
    if traced.empty:
        return run.model
    model, policy = traced["model"].iloc[0], traced["policy"].iloc[0]
    control = "" if pd.isna(policy) or policy == "model" else f":{policy}"
    budget = "" if run.retain_ratio is None else f"@{run.retain_ratio:g}"
    pruner = run.model_args.get("pruner")
    return f"{model}{control}{f'+{pruner}' if pruner else ''}{budget}"


def _row(run: Run, task: str, frame: pd.DataFrame) -> dict[str, Any]:
    answered = frame[frame["failed"].isna()]
    traced = answered[answered["traced"]]
    metric, score = _headline(run, task, answered)
    row = {
        "method": method_of(run, frame),
        "nominal": _NOMINAL.get(run.model) if run.retain_ratio is None else run.retain_ratio,
        "task": task,
        "metric": metric,
        "score": score,
        "f1": _pope_f1(answered),
        "n": len(frame),
        "failed": int((frame["failed"].notna() | (frame["no_input"] & (not frame["traced"].any()))).sum()),
    }
    return row if traced.empty else row | _token_figures(traced)


def _pope_f1(answered: pd.DataFrame) -> float | None:
    """F1 of `yes`, 0..100; None for other benchmarks.

    An answer that is neither yes nor no misses a `yes` and is no false alarm on a `no`. lmms-eval's own F1 leaves such
    documents out, though its accuracy does not: a model that mostly says something else then looks good.
    """
    asked = answered[answered["truth"].notna()]
    if asked.empty:
        return None
    yes, said = asked["truth"] == "yes", asked["said_yes"].astype(bool)
    return 200 * float((yes & said).sum()) / max(1, int(yes.sum() + said.sum()))


def _token_figures(traced: pd.DataFrame) -> dict[str, Any]:
    calls = traced.loc[traced["called"], "ids"]
    return {
        "rtr": traced["rtr"].mean(),
        "rtr_pooled": traced["visual_tokens"].sum() / traced["full_tokens"].sum(),
        "call_rate": traced["called"].mean(),
        "area": areas(calls).mean() if len(calls) else None,
        "invalid_calls": int((traced["status"] == "invalid").sum()),
        "latency_s": traced["latency_s"].mean(),
    }


def areas(calls: pd.Series) -> pd.Series:
    """Fraction of the image, 0..1, that each call asks for; `calls` holds crop ids joined by commas."""
    known = {ids: union_area(ids.split(",")) for ids in calls.unique()}  # few different calls, many samples
    return calls.map(known)


def _headline(run: Run, task: str, answered: pd.DataFrame) -> tuple[str, float | None]:
    """Name and value of the task's headline metric; 0..100 where the samples carry a `score`."""
    metric = str((run.results["configs"][task].get("metric_list") or [{"metric": "score"}])[0]["metric"])
    if run.is_ours(task) and answered["score"].notna().any():
        return metric, 100 * answered["score"].mean()
    value = run.results["results"][task].get(f"{metric},none")
    return metric, value if isinstance(value, int | float) else None


__all__ = [
    "COLUMNS",
    "Run",
    "RunError",
    "areas",
    "find_runs",
    "method_of",
    "newest_run",
    "summarize",
    "summarize_frames",
]
