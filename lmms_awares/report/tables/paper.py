"""The published numbers (results/paper/*.csv), digits as printed."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from lmms_awares.errors import ConfigError
from lmms_awares.report.tables.table import Table

FOLDER = Path(__file__).parents[1] / "paper"  # a link to results/paper, so that the files are in the wheel
PUBLISHED = " [paper]"  # behind the name of a published row among measured ones
_MEASURES = ("Acc", "RTR", "WC", "ANLS", "Metric")
_SOURCE = "published, not measured here: arXiv:2603.16932v1"
# What is transcribed, and what it shows.
TITLES = {
    "1": "score and RTR of ten methods on six benchmarks",
    "2": "agreement on the resolution label, % of samples",
    "3": "SFT recipes; w: weight of the tool-call turn",
    "4": "rewards of GRPO",
    "5": "score and latency (WC: mean wall clock per sample in s, on one H100)",
    "6": "response length in characters",
    "7": "CDP diagnostics after the cold start, %; area as a fraction",
    "8": "sensitivity of the cold start, over all benchmarks",
    "9": "form of the tool calls, % of calls",
    "10": "labels by ANLS or by a judge",
    "11": "training parameters",
    "fig5": "crops asked for, the shares that the text names, % of samples",
}
_LOST = {
    "6": "the values are lost in the text version that this was transcribed from, and not guessed",
    "fig5": "the figure's other bars are lost in the text version that this was transcribed from",
}
# Which published table each kind of comparison has beside it.
NUMBERS = {"main": 1, "latency": 5, "length": 6, "cdp": 7, "calls": 8, "format": 9}


def paper_table(which: int | str) -> Table:
    """Read table 1 to 11, or `fig5`, every cell as printed.

    Raises:
        ConfigError: something else.

    Example:
        >>> paper_table(9).frame["", "Incorrect"].tolist()
        ['5.48', '0.94', '0.00']
    """
    name = str(which)
    if name not in TITLES:
        raise ConfigError(f"no table {name!r} of the paper is transcribed; there are {', '.join(TITLES)}")
    file, place = (f"table{name}", f"Table {name}") if name.isdigit() else (name, "Fig. 5")
    frame = pd.read_csv(FOLDER / f"{file}.csv", dtype=str, keep_default_na=False)
    frame.columns = pd.MultiIndex.from_tuples([_heading(name) for name in frame.columns])
    notes = [_SOURCE, *([_LOST[name]] if name in _LOST else [])]
    return Table(f"Paper, {place}: {TITLES[name]}", frame, notes, label=f"paper-{name}")


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
    frame["", "method"] += PUBLISHED
    note = f"{PUBLISHED.strip()}: {_SOURCE}; its RTR of pruning methods is the configured ratio"
    return replace(table, frame=pd.concat([table.frame, frame], ignore_index=True), notes=[*table.notes, note])


def _benchmarks(frame: pd.DataFrame) -> set[str]:
    """Return the titles that have a score, the average among them."""
    return {str(column[0]) for column in frame.columns if column[1] == "score"}
