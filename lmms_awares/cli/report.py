"""`awares report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="result folders; each task's newest results count")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write, new or an earlier report")],
) -> None:
    """Write a static site that shows runs sample by sample: pictures, crops, transcripts, tokens, times."""
    from lmms_awares.report.explorer.site import build, short_names
    from lmms_awares.report.read.folders import newest_run

    for warning in build({name: newest_run(folder) for name, folder in short_names(runs).items()}, output):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(output / "index.html")
