"""Table of `awares regress power`: documents per benchmark against the drop that they can show."""

from functools import partial

import numpy as np

from lmms_awares.report.gate.baseline import Baseline, BaselineError
from lmms_awares.report.gate.paired import POWER, Values
from lmms_awares.report.gate.power import MOST, Pairs, documents_for, pairs_of, shown_by, together
from lmms_awares.report.gate.verdict import ALL, POINTS
from lmms_awares.report.read.benchmarks import in_order, title_of
from lmms_awares.report.tables.table import Table, cell, frame_of

DROPS = (0.5, 1, 2, 5, 10)  # points of score, of which the table says how many documents show them


def power_table(baseline: Baseline, *, alpha: float, changed: float) -> Table:
    """Make a table of what the gate can find against a baseline, before any candidate is run.

    Args:
        alpha: of `awares regress`; each row is held to Holm's strictest step.
        changed: share of a candidate's answers that are drawn anew, above 0 and at most 1.

    Raises:
        BaselineError: a task whose samples all failed.
    """
    scores = {task: _scores(baseline, task) for task in in_order(baseline.tasks)}
    rows = {title_of(task): [values] for task, values in scores.items()}
    if len(scores) > 1:
        rows[ALL] = list(scores.values())
    level = alpha / len(rows)
    table = []
    for name, parts in rows.items():
        count, pooled = sum(map(len, parts)), np.concatenate(parts)
        row = {("", "benchmark"): name, ("", "n"): str(count), ("score", "mean"): cell(POINTS * pooled.mean(), 2)}
        row["score", "sd"] = cell(POINTS * pooled.std(), 2)
        for heading, share in (("n show", changed), ("at worst", 1.0)):
            shown = shown_by(count, partial(_pairs, parts, share), level)
            row["drop", heading] = cell(None if shown is None else POINTS * shown, 2)
        for drop in DROPS:
            needed = documents_for(_pairs(parts, changed, drop / POINTS), level)
            row["documents for a drop of", f"{drop:g}"] = "-" if needed is None else str(needed)
        table.append(row)
    notes = [
        f"found beyond chance (`awares regress`, its first question) with a probability of {POWER:.0%}, at level "
        f"{level:.3g} (alpha {alpha:g} over {len(rows)} rows); drops in points of score",
        f"assumed: {changed:.0%} of the answers are drawn anew, or as many as the drop needs; at worst: all of them",
        f"-: there is not so much to lose, or more than {MOST:,} documents are needed",
    ]
    return Table(f"What the gate can show against {baseline.name}", frame_of(table), notes)


def _pairs(parts: list[Values], changed: float, drop: float) -> Pairs | None:
    return together([(len(values), pairs_of(values, drop, changed)) for values in parts])


def _scores(baseline: Baseline, task: str) -> Values:
    scores = [score for score in baseline.tasks[task].scores if score is not None]
    if not scores:
        raise BaselineError(f"every sample of {task} failed in {baseline.name}; nothing is known of its scores")
    return np.array(scores, dtype=np.float64)
