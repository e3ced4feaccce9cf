"""The published numbers (results/paper/*.csv), digits as printed."""

from pathlib import Path

import pandas as pd

from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.table import Table

FOLDER = Path(__file__).parents[1] / "paper"  # a link to results/paper, so that the files are in the wheel
_MEASURES = ("Acc", "RTR", "WC", "ANLS", "Metric")
_SOURCE = "published, not measured here: arXiv:2603.16932v1"
# Which published table each kind of comparison has beside it.
NUMBERS = {"main": 1, "latency": 5, "length": 6, "cdp": 7, "calls": 8, "format": 9}


def published(kind: str) -> Table:
    """Return the paper's table of one kind.

    Raises:
        RunError: the paper has none.
    """
    if kind not in NUMBERS:
        raise RunError(f"the paper has no table of the kind {kind}; it has {', '.join(NUMBERS)}")
    return paper_table(NUMBERS[kind])


def paper_table(number: int) -> Table:
    """Read table `number`, 1 to 11, every cell as printed."""
    frame = pd.read_csv(FOLDER / f"table{number}.csv", dtype=str, keep_default_na=False)
    frame.columns = pd.MultiIndex.from_tuples([_heading(name) for name in frame.columns])
    return Table(f"Paper, Table {number}", frame, [_SOURCE])


def _heading(name: str) -> tuple[str, str]:
    benchmark, _, measure = name.rpartition(" ")
    return (benchmark, measure) if measure in _MEASURES else ("", name)


def with_published(table: Table) -> Table:
    """Append the published rows of Table 1 to a main table, in the columns that both have.

    A published average is shown where the table is of those six benchmarks and no other.
    """
    frame = paper_table(1).frame.rename(columns={"Acc": "score", "Average": "average", "Model": "method"})
    if _benchmarks(frame) != _benchmarks(table.frame):
        frame = frame.drop(columns="average", level=0)
    frame = frame.reindex(columns=table.frame.columns, fill_value="-")
    frame["", "method"] += " [paper]"
    return Table(
        table.title,
        pd.concat([table.frame, frame], ignore_index=True),
        [*table.notes, f"[paper]: {_SOURCE}; its RTR of pruning methods is the configured ratio"],
    )


def _benchmarks(frame: pd.DataFrame) -> set[str]:
    """Return the titles that have a score, the average among them."""
    return {str(column[0]) for column in frame.columns if column[1] == "score"}
