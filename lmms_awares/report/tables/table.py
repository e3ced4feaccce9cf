"""A table: text cells under headings, and notes about them."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table to render: text cells under two-level headings, and notes about them."""

    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def cell(value: Any, digits: int) -> str:
    """Format a number as text; `-` where there is none.

    Example:
        >>> cell(0.256, 2), cell(None, 2)
        ('0.26', '-')
    """
    return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def frame_of(rows: list[dict[tuple[str, str], str]]) -> pd.DataFrame:
    """Return a frame of rows of cells under the first row's headings."""
    return pd.DataFrame([list(row.values()) for row in rows], columns=pd.MultiIndex.from_tuples(rows[0]))


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of numbers and None to floats."""
    return frame.apply(pd.to_numeric).astype(float)
