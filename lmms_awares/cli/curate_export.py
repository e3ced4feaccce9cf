"""`awares curate export`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Engine(StrEnum):
    """Whose format is written."""

    llamafactory = "llamafactory"
    swift = "swift"
    verl = "verl"


def export(
    folder: Annotated[Path, typer.Argument(help="a finished curated set", metavar="DIR")],
    *,
    form: Annotated[Engine, typer.Option("--format", help="the engine that will read it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a new or empty folder")],
    split: Annotated[str | None, typer.Option(help="train or validation alone")] = None,
) -> None:
    """Write a curated set for LLaMA-Factory, ms-swift or verl. TRL needs no export: it reads trajectories/*.parquet."""
    from lmms_awares.curation.export import export as write

    done = write(folder, form, output, split)
    for file in done.files:
        print(file)
    counts = ", ".join(f"{count} rows of {name}" for name, count in done.rows.items())
    left_out = f"; {done.left_out} left out: their text holds the engine's own placeholders" if done.left_out else ""
    print(f"awares: {counts}{left_out}", file=sys.stderr)
