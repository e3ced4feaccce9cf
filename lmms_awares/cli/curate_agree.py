"""`awares curate agree`."""

from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.cli.options import Format, FormatOption

_SET = "a curated set's folder, or a .jsonl or .parquet file with id and label"


def agree(
    a: Annotated[Path, typer.Argument(help=f"rows of the table: {_SET}")],
    b: Annotated[Path, typer.Argument(help="columns of the table: the same")],
    *,
    form: FormatOption = Format.terminal,
) -> None:
    """How far two label sets agree: confusion matrix, agreement and Cohen's kappa (Table 2).

    Rows are matched by their id; those with a label in one set only are counted below the table.
    """
    from lmms_awares.report.tables import render
    from lmms_awares.report.tables.agreement import agreement_table

    print(render.document([agreement_table(a, b)], form))
