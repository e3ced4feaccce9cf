"""`awares report`."""

from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.errors import ConfigError


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="result folders (each task's newest results count), or one curated set")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write, new or an earlier report")],
) -> None:
    """Write a static site that shows runs sample by sample: pictures, crops, transcripts, tokens, times.

    Of a curated set it shows the rows: both answers, the judge's verdict, boxes, targets, transcripts, rows set aside.
    """
    from lmms_awares.report.curated import site as curated
    from lmms_awares.report.curated.read import is_curated
    from lmms_awares.report.explorer.site import build, short_names
    from lmms_awares.report.read.folders import newest_run

    sets = [folder for folder in runs if is_curated(folder)]
    if sets and len(runs) > 1:
        raise ConfigError(f"{sets[0]} is a curated set, which a report shows alone; give it without other folders")
    if sets:
        warnings = curated.build(sets[0], output)
    else:
        warnings = build({name: newest_run(folder) for name, folder in short_names(runs).items()}, output)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(output / "index.html")
