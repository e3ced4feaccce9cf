"""The comparison tables: the long one for programs, and those in the shapes of the paper's."""

from dataclasses import dataclass, field

import pandas as pd

from lmms_awares.report.collect import benchmark_of, in_order, is_mini, title_of
from lmms_awares.report.terminal import remarks

LONG_COLUMNS = ("method", "nominal", "benchmark", "score", "rtr", "call_rate", "latency_s", "n")


@dataclass(frozen=True)
class Table:
    """Something to render: text cells under two-level headings, and what to know about them."""

    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def long_table(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per method and benchmark, columns `LONG_COLUMNS`.

    Args:
        summary: of `lmms_awares.report.collect.summary_of`.

    Returns:
        `score` 0..100, `rtr` measured, `nominal` the fixed budget where the method has one, `latency_s` the mean per
        sample in seconds, `n` the samples that the means are over (failed ones left out).
    """
    both = summary["task"].map(is_mini).nunique() > 1
    prefix = summary["task"].map(lambda task: "mini_" if both and is_mini(task) else "")
    table = summary.assign(
        method=summary["row"],
        nominal=pd.to_numeric(summary["nominal"]),
        benchmark=prefix + summary["task"].map(benchmark_of),
        n=summary["n"] - summary["failed"],
    )
    return table[list(LONG_COLUMNS)]


def cell(value: object, digits: int) -> str:
    """A number as text; `-` where there is none."""
    number = pd.to_numeric(value)
    return "-" if pd.isna(number) else f"{number:.{digits}f}"


def main_table(summary: pd.DataFrame) -> Table:
    """The paper's Table 1: score and RTR per benchmark, their averages; nominal RTR and latency beside them.

    A row that lacks a benchmark of the table has no average: it would not compare.
    """
    tasks = in_order(summary["task"])
    rows = [_main_row(group.set_index("task"), tasks) for _, group in summary.groupby("row", sort=False)]
    frame = pd.DataFrame([list(row.values()) for row in rows], columns=pd.MultiIndex.from_tuples(rows[0]))
    notes = [*remarks(summary.assign(method=summary["row"]))]
    return Table("Score (0-100) and RTR per benchmark", frame, notes)


def _main_row(values: pd.DataFrame, tasks: list[str]) -> dict[tuple[str, str], str]:
    row = {("", "method"): str(values["row"].iloc[0]), ("RTR", "nominal"): cell(values["nominal"].iloc[0], 2)}
    by_task = values.reindex(tasks)
    for task in tasks:
        score, f1, rtr = by_task.loc[task, ["score", "f1", "rtr"]]
        row[title_of(task), "score"] = cell(score, 2)
        if benchmark_of(task) == "pope":
            row[title_of(task), "F1"] = cell(f1, 2)
        row[title_of(task), "RTR"] = cell(rtr, 3)
    means = by_task[["score", "rtr", "latency_s"]].apply(pd.to_numeric).mean(skipna=False)
    row["average", "score"] = cell(means["score"], 2)
    row["average", "RTR"] = cell(means["rtr"], 3)
    row["average", "latency s"] = cell(means["latency_s"], 3)
    return row
