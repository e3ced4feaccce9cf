"""`awares compare`. Light to import; what is heavy waits until a command runs."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[list[Path], typer.Argument(help="result folders (each one's newest run counts) or *_results.json")]


class Format(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    html = "html"


def compare(
    runs: Runs,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for table.md, .csv, .tex, .html")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="what is printed")] = Format.terminal,
    keep_going: Annotated[bool, typer.Option(help="leave unreadable runs out of the table; still exits 2")] = False,
) -> None:
    """Lay runs side by side: score and RTR per benchmark.

    `-o DIR` writes table.md, table.tex, table.html, table_wide.csv with the same cells, and table.csv in long format:
    method, nominal, benchmark, score, rtr, call_rate, latency_s, n.
    """
    from lmms_awares.report import render, tables
    from lmms_awares.report.collect import collect, summary_of

    errors: list[str] = []
    summary = summary_of(collect(runs, errors.append if keep_going else None))
    table = tables.main_table(summary)
    print(render.FORMATS[form](table))
    if output is not None:
        render.write(table, output)
        tables.long_table(summary).to_csv(output / "table.csv", index=False)
    _leave(errors)


def _leave(errors: list[str]) -> None:
    """Exit 2 if runs were left out."""
    for error in errors:
        print(f"awares: error: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(2)
