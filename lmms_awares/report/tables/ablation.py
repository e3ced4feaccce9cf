"""Ablations laid out as in the paper's Tables 3, 4, 8 and 10: the settings in front, rows in blocks."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from lmms_awares.report.read.lineup import Lineup
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.table import Table

RUN, BLOCK = "run", "block"


def read_settings(file: Path) -> pd.DataFrame:
    """Read a CSV file with a column `run` (result folder), optionally `block`, and one column per setting.

    Raises:
        RunError: it cannot be read, has no column `run`, or names a run twice.
    """
    try:
        settings = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RunError(f"--group {file} is no CSV file: {str(error).splitlines()[0]}") from None
    if RUN not in settings:
        raise RunError(
            f"--group {file} needs a column '{RUN}' with result folders; it has: {', '.join(settings.columns)}"
        )
    if settings[RUN].duplicated().any():
        raise RunError(f"--group {file} names {settings[RUN][settings[RUN].duplicated()].iloc[0]} twice")
    return settings


def lay_out(table: Table, lineup: Lineup, settings: pd.DataFrame) -> Table:
    """Put each row's settings in front of `table`, and a heading row above each block; rows of no run go last.

    Raises:
        RunError: a run without settings.
    """
    by_run = settings.set_index(RUN)
    row_of = {}
    for row, source in lineup.named:
        if source.name not in by_run.index:
            raise RunError(f"{source.name} is not in the column '{RUN}' of the --group file")
        row_of[row] = by_run.loc[source.name]
    names = [name for name in by_run.columns if name != BLOCK]
    own = {
        ("", name): [row_of[row][name] if row in row_of else "" for row in table.frame["", "method"]] for name in names
    }
    frame = table.frame
    if own:
        frame = pd.concat([pd.DataFrame(own, columns=pd.MultiIndex.from_tuples(own)), frame], axis="columns")
    if BLOCK in by_run.columns:
        blocks = pd.Series([row_of[row][BLOCK] if row in row_of else "" for row in table.frame["", "method"]])
        frame = _in_blocks(frame, blocks)
    return replace(table, frame=frame)


def _in_blocks(frame: pd.DataFrame, blocks: pd.Series) -> pd.DataFrame:
    parts = []
    for block in dict.fromkeys(blocks):
        heading = pd.DataFrame([[block, *[""] * (frame.shape[1] - 1)]], columns=frame.columns)
        parts += [heading, frame[blocks == block]] if block else [frame[blocks == block]]
    return pd.concat(parts, ignore_index=True)
