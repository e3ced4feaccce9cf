"""One row per method and task of a run: score, tokens, calls, times."""

from typing import Any

import pandas as pd

from lmms_awares.crops import union_area
from lmms_awares.protocol.boxes import BOX
from lmms_awares.report.read.results import Run
from lmms_awares.report.read.samples import BOX_PARTS
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


def summarize(run: Run) -> pd.DataFrame:
    """Summarise a run: one row per task, columns `COLUMNS`.

    `score` and `f1` (POPE's) are 0..100; failed samples are counted and left out of every
    mean; `area` is the mean over calls. Tasks without traces (stock tasks, lmms-eval's own models) show their first
    metric as lmms-eval printed it, and no token figures.

    Raises:
        RunError: a sample file is missing or broken.
        TraceError: a trace of another schema version.

    Example:
        summarize(newest_run(Path("results/runs")))[["task", "score", "rtr"]]
    """
    return summarize_frames(run, {task: run.frame(task) for task in run.tasks})


def summarize_frames(run: Run, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Summarise rows that are already read: `frames` by task, as `Run.frame` gives them."""
    rows = [_row(run, task, frame) for task, frame in frames.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def is_control(method: str) -> bool:
    """Return True for methods that only measure the worth of others.

    These are AwaRes' control policies, which decide always alike, at random, or by the labels (`oracle`), its control
    crops, and the pruners `random` and `downsample`.

    Example:
        >>> is_control("awares:oracle"), is_control("pruned+divprune@0.5")
        (True, False)
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
    """Return method and nominal ratio of the first trace; without traces, the model id and its budget."""
    traced = frame[frame["traced"]]
    if traced.empty:
        fields = older_fields(run.model, None, None, run.retain_ratio)
        return run.model, fields["nominal"]
    nominal = traced["nominal"].iloc[0]
    return str(traced["method"].iloc[0]), None if pd.isna(nominal) else float(nominal)


def _pope_f1(answered: pd.DataFrame) -> float | None:
    """Return the F1 of `yes`, 0..100; None for other benchmarks.

    An answer that is neither yes nor no misses a `yes` and is no false alarm on a `no`. lmms-eval's own F1 leaves such
    documents out, though its accuracy does not: a model that mostly says something else then looks good.
    """
    asked = answered[answered["truth"].notna()]
    if asked.empty:
        return None
    yes, said = asked["truth"] == "yes", asked["said_yes"].astype(bool)
    return 200 * float((yes & said).sum()) / max(1, int(yes.sum() + said.sum()))


def _token_figures(traced: pd.DataFrame) -> dict[str, Any]:
    calls = traced[traced["called"]]
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


def areas(calls: pd.DataFrame) -> pd.Series:
    """Return the fraction of the image, 0..1, that each call asks for.

    Args:
        calls: crop ids joined by commas in `ids`, and `BOX_PARTS` where a call may be for a box.
    """
    known = {ids: union_area(ids.split(",")) for ids in calls["ids"].unique() if ids != BOX}  # few different calls
    found = calls["ids"].map(known).astype(float)
    if BOX_PARTS[0] not in calls:
        return found
    left, top, right, bottom = (calls[name].astype(float) for name in BOX_PARTS)
    return found.fillna((right - left) * (bottom - top))


def _headline(run: Run, task: str, answered: pd.DataFrame) -> tuple[str, float | None]:
    """Return name and value of the task's headline metric; 0..100 where the samples have a `score`."""
    metric = str((run.config(task).get("metric_list") or [{"metric": "score"}])[0]["metric"])
    if run.is_ours(task) and answered["score"].notna().any():
        return metric, 100 * answered["score"].mean()
    value = run.of(task).results["results"][task].get(f"{metric},none")
    return metric, value if isinstance(value, int | float) else None
