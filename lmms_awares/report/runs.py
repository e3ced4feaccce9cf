"""Reading lmms-eval's result folders: one row per method and task, from the per-sample files."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from lmms_awares.crops import union_area
from lmms_awares.report.results import RESULTS, Run, read
from lmms_awares.report.samples import RunError
from lmms_awares.trace import older_fields

_CONTROL_PRUNERS = ("random", "downsample")
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
    "calls_without_image",
    "latency_s",
    "n",
    "failed",
    "truncated",
    "reused",
)


def find_runs(folder: Path, newer_than: float = 0.0) -> list[Run]:
    """Every results file below `folder` that was written after `newer_than` (seconds since the epoch), oldest first.

    lmms-eval's own date goes before the file's, which a copy may have lost.

    Raises:
        RunError: a results file that is not JSON.
    """
    files = [file for file in folder.rglob(f"*{RESULTS}") if file.stat().st_mtime >= newer_than]
    runs = [read(file) for file in files]
    return sorted(runs, key=lambda run: (str(run.results.get("date", "")), run.path.stat().st_mtime_ns, run.path))


def newest_run(folder: Path) -> Run:
    """The latest result of every task below `folder`, or the run of one results file.

    Results of one method and checkpoint that lie side by side belong together, as runs of one benchmark after the other
    leave them. What lies there and is left out is said on stderr: results of other methods or checkpoints, and those of
    other folders, which are hardly one run continued.

    Raises:
        RunError: there is none.
    """
    if folder.is_file():
        return read(folder)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; give an --output_path")
    runs = find_runs(folder)
    if not runs:
        raise RunError(f"{folder} holds no results (*{RESULTS}); is it an --output_path?")
    newest = runs[-1]
    if len({run.path.parent for run in runs}) > 1:
        _warn(
            f"{len(runs)} runs lie below {folder}; only the newest is taken, {newest.path}. {folder}/*/ gives them all"
        )
    beside = [run for run in reversed(runs) if run.path.parent == newest.path.parent]
    parts = [run for run in beside if _same_method(run, newest)]
    strangers = [str(run.path) for run in beside if run not in parts]
    if strangers:
        _warn(
            f"{newest.path.parent} holds several methods or checkpoints; those of {newest.path} count; left out: "
            f"{', '.join(strangers)}. A results file can be given as a run of its own"
        )
    return _merged(parts)


def _merged(parts: list[Run]) -> Run:
    """Each task from the newest file that has whole samples of it. `parts`: newest first."""
    newest, others = parts[0], {}
    for task in dict.fromkeys(task for run in parts for task in run.tasks):
        holders = [run for run in parts if task in run.tasks]
        # With one file there is nothing to choose: what is wrong with it is said when it is read.
        whole = next((run for run in holders if run.is_whole(task)), None) if len(parts) > 1 else newest
        if whole is None and holders[0] is not newest:
            if holders[0].samples_file(task).is_file():
                others[task] = holders[0]  # what is wrong with it is said when it is read
            else:
                _warn(f"{task} of {holders[0].path} is left out: it has no samples file")
        elif whole is not None and whole is not newest:
            others[task] = whole
            if whole is not holders[0]:
                _warn(f"{holders[0].samples_file(task)} is not whole; {whole.path} counts")
    return Run(newest.path, newest.results, others)


def _same_method(run: Run, other: Run) -> bool:
    """True for one model, policy, pruner and ratio, and one checkpoint, however its path is spelled."""
    (method, checkpoint), (other_method, other_checkpoint) = map(_identity, (run, other))
    if method != other_method:
        return False
    if run.revision and other.revision:
        return run.revision == other.revision
    return checkpoint == other_checkpoint


def _identity(run: Run) -> tuple[tuple[object, ...], tuple[str | None, ...]]:
    given = run.model_args
    method = run.model, given.get("policy", "model"), given.get("pruner"), run.retain_ratio
    return method, (given.get("pretrained"), given.get("adapter"))


def _warn(text: str) -> None:
    print(f"awares: warning: {text}", file=sys.stderr)


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


def is_control(method: str) -> bool:
    """True for methods that measure what others are worth, and are no offer themselves.

    These are AwaRes's control policies, which decide always alike, at random, or by the labels (`oracle`), and the
    pruners `random` and `downsample`.
    """
    pruner = method.partition("+")[2].partition("@")[0]
    return ":" in method or pruner in _CONTROL_PRUNERS


def _row(run: Run, task: str, frame: pd.DataFrame) -> dict[str, Any]:
    answered = frame[frame["failed"].isna()]
    traced = answered[answered["traced"]]
    metric, score = _headline(run, task, answered)
    method, nominal = _described(run, frame)
    row = {
        "method": method,
        "nominal": nominal,
        "task": task,
        "metric": metric,
        "score": score,
        "f1": _pope_f1(answered),
        "n": len(frame),
        "failed": int((frame["failed"].notna() | (frame["no_input"] & (not frame["traced"].any()))).sum()),
    }
    return row if traced.empty else row | _token_figures(traced)


def _described(run: Run, frame: pd.DataFrame) -> tuple[str, float | None]:
    """Method and nominal ratio, as the first trace tells them; without traces, the model id and its budget."""
    traced = frame[frame["traced"]]
    if traced.empty:
        fields = older_fields(run.model, None, None, run.retain_ratio)
        return run.model, fields["nominal"]
    nominal = traced["nominal"].iloc[0]
    return str(traced["method"].iloc[0]), None if pd.isna(nominal) else float(nominal)


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
        "calls_without_image": int(traced["no_image"].sum()),
        "latency_s": traced["latency_s"].mean(),
        "truncated": int(traced["truncated"].sum()),
        "reused": int(traced["reused"].sum()),
    }


def areas(calls: pd.Series) -> pd.Series:
    """Fraction of the image, 0..1, that each call asks for; `calls` holds crop ids joined by commas."""
    known = {ids: union_area(ids.split(",")) for ids in calls.unique()}  # few different calls, many samples
    return calls.map(known)


def _headline(run: Run, task: str, answered: pd.DataFrame) -> tuple[str, float | None]:
    """Name and value of the task's headline metric; 0..100 where the samples carry a `score`."""
    metric = str((run.config(task).get("metric_list") or [{"metric": "score"}])[0]["metric"])
    if run.is_ours(task) and answered["score"].notna().any():
        return metric, 100 * answered["score"].mean()
    value = run.of(task).results["results"][task].get(f"{metric},none")
    return metric, value if isinstance(value, int | float) else None


__all__ = [
    "COLUMNS",
    "Run",
    "RunError",
    "areas",
    "find_runs",
    "is_control",
    "newest_run",
    "summarize",
    "summarize_frames",
]
