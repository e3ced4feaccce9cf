"""What offering the tool changes, document by document, split by whether the document's reply called.

The terms are those of arXiv 2602.01334 (section 3), where scores are 0 or 1:

- call gain: wrong without the tool, right after a call. call harm: right without it, wrong after a call.
- schema gain and schema harm: the same of replies that do not call, though they could.

A graded score adds what it rises by to a gain, and what it falls by to a harm. Harms are negative here, so that the
four terms sum to the score gap.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmms_awares.report.gate.baseline import BaselineError, TaskSamples, reduce_run
from lmms_awares.report.gate.comparable import difference, unlike
from lmms_awares.report.gate.paired import Values
from lmms_awares.report.read.lineup import Source
from lmms_awares.report.read.samples import RunError, answered
from lmms_awares.report.tables.intervals import interval

TERMS = ("call gain", "call harm", "schema gain", "schema harm")
SIDES = ("--without", "--gain")
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


def terms(without: Values, offered: Values, called: Sequence[bool] | Mask) -> dict[str, Values]:
    """Split the score differences of documents.

    Args:
        without, offered: [n] scores of the same documents without the tool, and with it offered.
        called: [n] True where the reply with the tool attempted a call.

    Returns:
        [n] per member of `TERMS`; their sum over all terms is `offered - without`.

    Example:
        >>> split = terms(np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0]), [True, False, False])
        >>> {name: float(values.mean().round(2)) for name, values in split.items()}
        {'call gain': 0.33, 'call harm': 0.0, 'schema gain': 0.0, 'schema harm': -0.33}
    """
    change, by_call = offered - without, np.asarray(called, dtype=bool)
    rises, falls = change > 0, change < 0
    masks = (rises & by_call, falls & by_call, rises & ~by_call, falls & ~by_call)
    return {name: np.where(mask, change, 0.0) for name, mask in zip(TERMS, masks, strict=True)}


def gains(offered: Source, without: Source) -> dict[str, pd.DataFrame]:
    """Pair two runs, document by document.

    Returns:
        by task, one row per document that did not fail: `without`, `offered` (scores, 0..1), `called`, and `TERMS`.

    Raises:
        RunError: the runs are not alike, or it is not the tool that they differ in; one line with all reasons.
    """
    reasons = [*_roles(offered, without), *_unlike(offered, without)]
    if reasons:
        raise RunError(f"{offered.name} and {without.name} do not compare: {'; '.join(reasons)}")
    return {task: _paired(without.frames[task], frame) for task, frame in offered.frames.items()}


def _paired(without: pd.DataFrame, offered: pd.DataFrame) -> pd.DataFrame:
    base, own = (answered(frame).set_index("doc_id").sort_index() for frame in (without, offered))
    scores = {"without": base["score"].to_numpy(dtype=float), "offered": own["score"].to_numpy(dtype=float)}
    called = own["status"].notna().to_numpy()
    return pd.DataFrame({**scores, "called": called, **terms(scores["without"], scores["offered"], called)}, own.index)


def _roles(offered: Source, without: Source) -> list[str]:
    """Say what keeps the runs from being one with the tool and one without it."""
    for source, side in ((without, SIDES[0]), (offered, SIDES[1])):
        if not all(frame.loc[frame["failed"].isna(), "traced"].all() for frame in source.frames.values()):
            return [f"{side} holds samples without a trace"]
    reasons = []
    if _has_tool(without):
        reasons.append("--without was offered a tool; it takes qwen2_5_vl_lowres or awares with policy=never")
    if not _has_tool(offered):
        reasons.append("--gain was offered no tool; it takes awares or visionthink")
    return reasons


def _has_tool(source: Source) -> bool:
    """Return True where replies may be calls: a policy other than `never`, or a method that fixes no budget."""
    rows = answered(pd.concat(source.frames.values()))
    policies = set(rows["policy"].dropna())
    return bool(policies - {"never"} or (not policies and rows["nominal"].isna().all()))


def _unlike(offered: Source, without: Source) -> list[str]:
    """List in what else the runs differ, each reason with its tasks."""
    found: dict[str, list[str]] = {}
    try:
        tasks = [reduce_run(source.run).tasks for source in (without, offered)]
    except BaselineError as error:
        return [str(error)]
    for task in dict.fromkeys([*tasks[0], *tasks[1]]):
        before, after = (side.get(task) for side in tasks)
        if before is None or after is None:
            reasons = [f"only in {SIDES[before is None]}"]
        else:
            old, new = (source.frames[task]["view"].iloc[0] for source in (without, offered))
            reasons = [
                *difference("first view", old, new, SIDES),
                *difference("checkpoint", _revisions(before), _revisions(after), SIDES),
                *difference("pruner", _pruning(without), _pruning(offered), SIDES),
                *unlike(before, after, SIDES),
            ]
        for reason in reasons:
            found.setdefault(reason, []).append(task)
    return [f"{', '.join(named)}: {reason}" for reason, named in found.items()]


def _revisions(samples: TaskSamples) -> list[str]:
    return sorted({conditions.revision for conditions in samples.conditions})


def _pruning(source: Source) -> str:
    return source.method.partition("+")[2] or "none"


def bounds(columns: Sequence[Values]) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of the mean over benchmarks, in points; documents stay paired.

    Args:
        columns: [n] contributions (0..1) per benchmark, all of one term or of the gap.
    """
    return interval([100 * values for values in columns])
