"""Which cells of a table are the best of their column, and which the second best."""

import re
from collections.abc import Sequence

import pandas as pd

from lmms_awares.report.read.summary import is_control
from lmms_awares.report.tables.paper import PUBLISHED
from lmms_awares.report.tables.table import headings_of

BEST, SECOND = "best", "second"
HIGHER = (
    *("score", "F1", "tokens/s", "precision", "recall", "IoU=1", "IoU>=0.25", "valid", "LR", "HR"),
    *("Acc", "ANLS", "Metric", "Call Prec.", "Call Rec.", "Call F1", "Valid parse (%)"),  # published tables
)
LOWER = (
    *("RTR", "latency s", "preprocess s", "vision s", "prefill s", "decode s", "FPR", "total", "incorrect"),
    *("TFLOPs", "of full", "KV MB", "tokens per correct"),
    *("WC", "FPR (LR-call)", "Corrupt outputs (%)", "Incorrect"),
)
MEASURE = ("", "measure")  # the column that names the rows of a transposed table
# Rows under one of these headings are alternatives; benchmarks, for example, are not.
_ALTERNATIVES = ("method", "Model", "Setting", "Label Strategy", "Traj.")
# An average over what does not compare ends in a star, and so is none.
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: \[.*\]| ± .*)?")


def ranks(frame: pd.DataFrame) -> pd.DataFrame:
    """Mark the best and the second best cells of each measure, all of them where several are printed alike.

    Controls and published rows beside measured ones are not ranked, nor is a measure of which neither more nor less is
    better.

    Args:
        frame: of a `Table`, also of a transposed one.

    Returns:
        a frame of the same shape: `BEST`, `SECOND`, or an empty text.
    """
    marks = pd.DataFrame("", index=frame.index, columns=frame.columns)
    columns = headings_of(frame)
    if MEASURE in columns:
        first = columns.index(MEASURE) + 1
        names = [name for _, name in columns[first:]]
        for row, measure in enumerate(frame[MEASURE]):
            marks.iloc[row, first:] = _ranked(names, frame.iloc[row, first:].tolist(), measure)
        return marks
    first = next((columns.index(("", name)) for name in _ALTERNATIVES if ("", name) in columns), len(columns))
    for place in range(first + 1, len(columns)):  # an ablation's settings stand before it
        marks.iloc[:, place] = _ranked(frame.iloc[:, first].tolist(), frame.iloc[:, place].tolist(), columns[place][1])
    return marks


def _ranked(rows: Sequence[str], cells: Sequence[str], measure: str) -> list[str]:
    if measure not in (*HIGHER, *LOWER):
        return [""] * len(cells)
    aside = [is_control_row(row) or is_published_row(row) for row in rows]
    found = [None if out else _NUMBER.fullmatch(text) for out, text in zip(aside, cells, strict=True)]
    numbers = [None if match is None else float(match[1]) for match in found]
    order = sorted({number for number in numbers if number is not None}, reverse=measure in HIGHER)
    marks = dict(zip(order, (BEST, SECOND), strict=False))
    known = len([number for number in numbers if number is not None]) > 1  # one row alone is not the best of any
    return [marks.get(number, "") if known and number is not None else "" for number in numbers]


def is_control_row(row: str) -> bool:
    """Return True for a control's row, also where a folder stands behind the method's name."""
    return is_control(row.partition(" (")[0])


def is_published_row(row: str) -> bool:
    """Return True for a published row beside measured ones."""
    return row.endswith(PUBLISHED)
