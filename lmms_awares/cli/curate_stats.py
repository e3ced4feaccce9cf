"""`awares curate stats`."""

from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.cli.options import Format, FormatOption


def stats(
    folder: Annotated[Path, typer.Argument(help="a curated set, finished or not", metavar="DIR")],
    *,
    form: FormatOption = Format.terminal,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="folder for tables and figures")] = None,
) -> None:
    """What is in a curated set: labels, target crops, resolutions, rules, rows set aside, the judge, requests.

    `-o OUT` writes the tables (stats.md, stats.tex, stats.html, a CSV each) and figures: fig5_left, fig8, labels.
    """
    from lmms_awares.report.curated.frame import frame_of
    from lmms_awares.report.curated.read import open_set
    from lmms_awares.report.curated.tables import tables_of, write
    from lmms_awares.report.tables import render

    found = open_set(folder)
    frame = frame_of(found)
    tables = tables_of(frame, found.provenance)
    print(render.document(list(tables.values()), form))
    if output is not None:
        from lmms_awares.report.curated.figures import draw
        from lmms_awares.report.figures.looks import save

        write(tables, output)
        save(draw(frame), output)
