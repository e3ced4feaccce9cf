"""A table: text cells under headings, and what to know about them."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Table:
    """Something to render: text cells under two-level headings, and what to know about them."""

    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def cell(value: Any, digits: int) -> str:
    """A number as text; `-` where there is none."""
    return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def frame_of(rows: list[dict[tuple[str, str], str]]) -> pd.DataFrame:
    """Rows of cells under the first row's headings."""
    return pd.DataFrame([list(row.values()) for row in rows], columns=pd.MultiIndex.from_tuples(rows[0]))


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of numbers and None as floats."""
    return frame.apply(pd.to_numeric).astype(float)
