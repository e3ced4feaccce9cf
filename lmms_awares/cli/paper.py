"""`awares paper`."""

from typing import Annotated

import typer

from lmms_awares.cli.options import Format, FormatOption


def paper(
    which: Annotated[str, typer.Argument(help="1 to 11, or fig5", metavar="TABLE")],
    *,
    form: FormatOption = Format.terminal,
) -> None:
    """Print a table of the paper as it was published; none of its numbers was measured here.

    Beside your own runs: `awares compare --paper`.
    """
    from lmms_awares.report.tables import render
    from lmms_awares.report.tables.paper import paper_table

    print(render.document([paper_table(which)], form))
