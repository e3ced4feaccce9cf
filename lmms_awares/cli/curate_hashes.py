"""`awares curate hashes`."""

from pathlib import Path
from typing import Annotated

import typer


def hashes(
    file: Annotated[Path, typer.Argument(help="file to write, which a configuration names as benchmark_hashes")],
    tasks: Annotated[str, typer.Option(help="tasks of this package or groups of them, with commas between")] = (
        "awares_suite"
    ),
) -> None:
    """Write what tells the images of benchmarks, so that a curated set leaves them out."""
    from lmms_awares.curation.decontaminate import write_hashes

    for task, count in write_hashes(file, tasks).items():
        typer.echo(f"{task:<22} {count} images")
