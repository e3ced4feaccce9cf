"""Printing summaries on a terminal."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from tabulate import tabulate

_HEADINGS = {
    "task": "task",
    "score": "score",
    "rtr": "RTR",
    "rtr_pooled": "pooled",
    "call_rate": "calls",
    "latency_s": "latency s",
    "n": "n",
    "failed": "failed",
}
_UNUSABLE = {"visionthink": "could not be run; they got an error and no image"}
_DIGITS = {"score": 2, "rtr": 3, "rtr_pooled": 3, "call_rate": 3, "latency_s": 3}


def print_summary(table: pd.DataFrame, source: Path) -> None:
    """Print one run's rows, their mean, and what to know about them."""
    console = Console()
    view = Table(title=str(table["method"].iloc[0]) if len(table) else "no tasks", title_justify="left")
    for column, heading in _HEADINGS.items():
        view.add_column(heading, justify="left" if column == "task" else "right")
    for _, row in table.iterrows():
        view.add_row(*(_cell(column, row[column]).removeprefix("awares_") for column in _HEADINGS))
    if len(table) > 1:
        means = {c: pd.to_numeric(table[c]).mean() for c in _DIGITS}
        view.add_section()
        view.add_row(*(_cell(c, means.get(c, "mean" if c == "task" else None)) for c in _HEADINGS))
    console.print(view)
    for line in remarks(table):
        console.print(line, style="yellow", highlight=False)
    console.print(f"from {source}", highlight=False, soft_wrap=True)


def print_comparison(table: pd.DataFrame) -> None:
    """Print runs side by side: a row per run, score and RTR per task, and their means.

    `table` has a column `run` beside those of `summarize`; it tells runs of the same method apart.
    """
    tasks = list(dict.fromkeys(table["task"]))
    headers = ["method"]
    for name in [*(task.removeprefix("awares_") for task in tasks), "mean"]:
        headers += [f"{name}\nscore", "\nRTR"]
    rows = []
    methods = table.drop_duplicates("run").set_index("run")["method"]
    for run, group in table.groupby("run", sort=False):
        method = methods[run]
        by_task = group.set_index("task").reindex(tasks)
        means = by_task[["score", "rtr", "latency_s"]].apply(pd.to_numeric).mean()
        row = [f"{method} ({run})" if (methods == method).sum() > 1 else str(method)]
        for values in [*(by_task.loc[task] for task in tasks), means]:
            row += [_cell("score", values["score"]), _cell("rtr", values["rtr"])]
        failed = f"{by_task['failed'].sum():.0f}/{by_task['n'].sum():.0f}"
        rows.append([*row, _cell("latency_s", means["latency_s"]), failed])
    print(tabulate(rows, [*headers, "latency\ns", "failed"], disable_numparse=True, stralign="right"))
    for line in remarks(table):
        print(line)


def remarks(table: pd.DataFrame) -> list[str]:
    """Warnings that belong under a table."""
    lines = []
    for _, row in table[table["failed"] > 0].iterrows():
        lines.append(
            f"warning: {row['failed']} of {row['n']} samples of {row['task']} failed and are in no mean; "
            "the rows' trace says why"
        )
    for _, row in table[table["invalid_calls"] > 0].iterrows():
        lines.append(
            f"warning: {row['invalid_calls']:.0f} of {row['n']} replies of {row['task']} held a tool call that "
            + _UNUSABLE.get(row["method"], "names no crop; they got the whole image")
        )
    return lines


def _cell(column: str, value: Any) -> str:
    if value is None or pd.isna(value):
        return "-"
    return f"{value:.{_DIGITS[column]}f}" if column in _DIGITS else str(value)
