"""Warnings about a run's summary."""

import pandas as pd


def remarks(table: pd.DataFrame) -> list[str]:
    """Return the warnings that belong under a table."""
    lines = []
    for _, row in table[table["failed"] > 0].iterrows():
        lines.append(
            f"warning: {row['failed']} of {row['n']} samples of {row['task']} failed and are in no mean; "
            "the rows' trace says why"
        )
    for _, row in table[table["invalid_calls"] > 0].iterrows():
        unusable = (
            "could not be run; they got an error and no image"
            if row["calls_without_image"]
            else "names no crop; they got the whole image"
        )
        counts = f"{row['invalid_calls']:.0f} of {row['n']} replies of {row['task']}"
        lines.append(f"warning: {counts} held a tool call that {unusable}")
    return lines
