"""A table: text cells under headings, and notes about them."""

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table to render: text cells under two-level headings, and notes about them.

    Attributes:
        title: one line without a full stop.
        frame: text cells; the first column names the rows.
        notes: what the cells are, one line each.
        conditions: what the rows were measured under, see `lmms_awares.report.tables.conditions.footer`.
        label: a word for LaTeX's `\\label`; empty where the title gives it.
    """

    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    label: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines below the table: notes, then conditions."""
        return [*self.notes, *self.conditions]


def headings_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the two-level headings of a table's frame: group and name."""
    return [(str(column[0]), str(column[1])) for column in frame.columns]


def cell(value: Any, digits: int) -> str:
    """Format a number as text; `-` where there is none.

    Example:
        >>> cell(0.256, 2), cell(None, 2)
        ('0.26', '-')
    """
    return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def rounded(value: Any, figures: int = 3) -> str:
    """A number with so many significant digits at least, and no exponent; `-` where there is none.

    Example:
        >>> rounded(0.0031415), rounded(3.1415), rounded(3141.5)
        ('0.00314', '3.14', '3142')
    """
    if value is None or pd.isna(value) or value == 0:
        return cell(value, figures - 1)
    return cell(value, max(0, figures - 1 - math.floor(math.log10(abs(value)))))


def frame_of(rows: list[dict[tuple[str, str], str]]) -> pd.DataFrame:
    """Return a frame of rows of cells under the first row's headings."""
    return pd.DataFrame([list(row.values()) for row in rows], columns=pd.MultiIndex.from_tuples(rows[0]))


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of numbers and None to floats."""
    return frame.apply(pd.to_numeric).astype(float)
