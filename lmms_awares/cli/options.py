"""Arguments that several commands take, and what they do alike."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lmms_awares.report.read.lineup import Lineup

Runs = Annotated[
    list[Path] | None, typer.Argument(help="result folders (each task's newest results count) or *_results.json files")
]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="leave unreadable runs out; still exits 2")]
Labels = Annotated[str | None, typer.Option(help="LR/HR labels: a .jsonl or .parquet file, a curated set, or 'mini'")]
Data = Annotated[Path | None, typer.Option(help="with --labels mini: folder with <benchmark>/*.parquet")]


class Format(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    latex = "latex"
    html = "html"


FormatOption = Annotated[Format, typer.Option("--format", help="what is printed")]


def read_runs(runs: list[Path] | None, *, keep_going: bool) -> "tuple[Lineup, list[str]]":
    """The runs that are to be shown, and why others are not."""
    from lmms_awares.report.read.lineup import collect

    if not runs:
        raise typer.BadParameter("give at least one result folder")
    errors: list[str] = []
    lineup = collect(runs, errors.append if keep_going else None)
    if not lineup.named:
        leave([*errors, "no run is left to show"])
    return lineup, errors


def leave(errors: list[str]) -> None:
    """Exit 2 if runs were left out."""
    for error in errors:
        print(f"awares: error: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(2)
