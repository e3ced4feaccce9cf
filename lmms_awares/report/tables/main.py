"""The main table, in the shape of the paper's Table 1, and the long one for programs."""

import pandas as pd

from lmms_awares.report.read.benchmarks import benchmark_of, suite_of, title_of
from lmms_awares.report.read.lineup import Lineup
from lmms_awares.report.tables.conditions import marked, mixtures
from lmms_awares.report.tables.intervals import RESAMPLES, Values, interval
from lmms_awares.report.tables.table import Table, cell, frame_of, numbers

LONG_COLUMNS = ("method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n")


def long_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Make one row per method and benchmark, columns `LONG_COLUMNS`.

    Args:
        summary: of `lmms_awares.report.read.lineup.Lineup`.

    Returns:
        `score` 0..100, `rtr` measured, `nominal` the fixed budget where the method has one, `latency_s` the mean per
        sample in seconds, `n` the samples behind the means (failed ones left out).
    """
    several = summary["task"].map(suite_of).nunique() > 1
    prefix = summary["task"].map(lambda task: f"{suite_of(task)}_" if several and suite_of(task) else "")
    table = summary.assign(
        method=summary["row"],
        nominal=pd.to_numeric(summary["nominal"]),
        benchmark=prefix + summary["task"].map(benchmark_of),
        n=summary["n"] - summary["failed"],
    )
    return table[list(LONG_COLUMNS)]


def main_table(lineup: Lineup, *, intervals: bool = False) -> Table:
    """Make the paper's Table 1: score and RTR per benchmark and their averages; nominal RTR and latency beside them.

    A row that lacks a benchmark of the table has no average, as it would not compare. The average of a row whose
    conditions or documents do not compare is marked (`mixtures`).

    Args:
        lineup: the runs.
        intervals: put a 95 % bootstrap interval behind each score.
    """
    summary, tasks = lineup.summary, lineup.tasks
    scores = _scores(lineup) if intervals else {}
    mixed = mixtures(lineup)
    rows = []
    for name, group in summary.groupby("row", sort=False):
        values = group.set_index("task").reindex(tasks)
        row = {("", "method"): str(name), ("RTR", "nominal"): cell(group["nominal"].iloc[0], 2)}
        for task, own in values.iterrows():
            row |= _benchmark_cells(str(task), own, scores.get((str(name), str(task))))
        means = numbers(values[["score", "rtr", "latency_s"]]).mean(skipna=False)
        drawn = [scores[str(name), task] for task in tasks if (str(name), task) in scores]
        complete = drawn if len(drawn) == len(tasks) else None
        star = name in mixed.scores
        row["average", "score"] = marked(cell(means["score"], 2), mixed=star) + _bounds(complete)
        row["average", "RTR"] = marked(cell(means["rtr"], 3), mixed=star)
        row["average", "latency s"] = marked(cell(means["latency_s"], 3), mixed=name in mixed.times)
        rows.append(row)
    notes = [f"[low, high]: 95 % bootstrap interval, {RESAMPLES} resamples"] if intervals else []
    return Table("Score (0-100) and RTR per benchmark", frame_of(rows), [*notes, *mixed.notes()])


def _benchmark_cells(task: str, values: pd.Series, scores: Values | None) -> dict[tuple[str, str], str]:
    title = title_of(task)
    cells = {(title, "score"): cell(values["score"], 2) + _bounds(None if scores is None else [scores])}
    if benchmark_of(task) == "pope":
        cells[title, "F1"] = cell(values["f1"], 2)
    cells[title, "RTR"] = cell(values["rtr"], 3)
    return cells


def _scores(lineup: Lineup) -> dict[tuple[str, str], Values]:
    """Return the scores, 0..100, by row and task."""
    found = {}
    for row, frames in lineup.rows.items():
        for task, frame in frames.items():
            scores = frame.loc[frame["failed"].isna(), "score"].dropna()
            if len(scores):
                found[row, task] = 100 * scores.to_numpy(dtype=float)
    return found


def _bounds(samples: list[Values] | None) -> str:
    bounds = interval(samples) if samples else None
    return "" if bounds is None else f" [{bounds[0]:.2f}, {bounds[1]:.2f}]"
