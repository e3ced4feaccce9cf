"""A run's summary on a terminal."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from lmms_awares.report.tables.remarks import remarks

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
_DIGITS = {"score": 2, "rtr": 3, "rtr_pooled": 3, "call_rate": 3, "latency_s": 3}


def print_summary(table: pd.DataFrame, source: Path) -> None:
    """Print one run's rows, their mean, and the warnings about them."""
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
    for _, row in table[table["truncated"] > 0].iterrows():
        console.print(
            f"{row['truncated']:.0f} of {row['n'] - row['failed']} answers of {row['task']} ran into the token limit",
            highlight=False,
            soft_wrap=True,
        )
    if table["reused"].sum() > 0:
        answers = int((table["n"] - table["failed"]).sum())
        console.print(
            f"{int(table['reused'].sum())} of {answers} answers came from the journal, with the times of the run that "
            "generated them",
            highlight=False,
            soft_wrap=True,
        )
    for line in remarks(table):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    console.print(f"from {source}", highlight=False, soft_wrap=True)


def _cell(column: str, value: Any) -> str:
    if value is None or pd.isna(value):
        return "-"
    return f"{value:.{_DIGITS[column]}f}" if column in _DIGITS else str(value)
