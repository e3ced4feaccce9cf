"""The commands `compare`, `diagnose` and `plot`. Light to import; what is heavy waits until one runs."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lmms_awares.report.collect import Lineup

Runs = Annotated[
    list[Path] | None, typer.Argument(help="result folders (each task's newest results count) or *_results.json files")
]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="leave unreadable runs out; still exits 2")]
Labels = Annotated[str | None, typer.Option(help="LR/HR labels: a .jsonl or .parquet file, or 'mini'")]
Data = Annotated[Path | None, typer.Option(help="with --labels mini: folder with <benchmark>/*.parquet")]


class Format(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    html = "html"


FormatOption = Annotated[Format, typer.Option("--format", help="what is printed")]


class Kind(StrEnum):
    """What a comparison shows; the paper's table in brackets."""

    main = "main"
    latency = "latency"
    length = "length"
    cdp = "cdp"
    calls = "calls"
    form = "format"  # `format` is a method of str
    hard = "hard"
    by_label = "split"  # `split` is a method of str


def compare(
    runs: Runs = None,
    *,
    table: Annotated[Kind, typer.Option(help="paper's Table 1, 5-9, hard split, scores by label")] = Kind.main,
    ci: Annotated[bool, typer.Option("--ci", help="95 % bootstrap intervals of the scores")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="the published rows beside them")] = False,
    paper_only: Annotated[bool, typer.Option("--paper-only", help="the published table alone; takes no run")] = False,
    group: Annotated[Path | None, typer.Option(help="CSV of an ablation: columns run, block, and the settings")] = None,
    labels: Labels = None,
    data: Data = None,
    form: FormatOption = Format.terminal,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="folder to write the table to")] = None,
    keep_going: KeepGoing = False,
) -> None:
    """Lay runs side by side: score and RTR per benchmark, and what could make them incomparable.

    `-o DIR` writes table.md, table.tex, table.html, table_wide.csv with the same cells, and table.csv in long format:
    method, nominal, benchmark, score, rtr, call_rate, latency_s, n. With --group the runs may be left to the CSV.
    """
    from lmms_awares.report import ablation, render, tables
    from lmms_awares.report.compare import Request, tables_of
    from lmms_awares.report.paper import published

    if paper_only:
        print(render.FORMATS[form](published(table)))
        return
    settings = None if group is None else ablation.read_settings(group)
    if not runs and settings is not None:
        runs = [Path(run) for run in settings[ablation.RUN]]
    lineup, errors = _collect(runs, keep_going=keep_going)
    shown = tables_of(lineup, Request(table, ci, paper, settings, labels, data))
    print("\n\n".join(render.FORMATS[form](part) for part in shown))
    if output is not None:
        render.write(shown, output)
        tables.long_table(lineup.summary).to_csv(output / "table.csv", index=False)
    _leave(errors)


def diagnose(
    run: Annotated[Path, typer.Argument(help="result folder (each task's newest results count) or *_results.json")],
    *,
    labels: Labels = None,
    data: Data = None,
    form: FormatOption = Format.terminal,
) -> None:
    """What the crop policy does: when it calls, where it looks, how its calls are written, per benchmark.

    With --labels also whether it calls when it must (Supp. 9.1). A line of a labels file:
    {"task": "awares_chartqa", "doc_id": 0, "label": "HR", "targets": ["0", "7"]}
    """
    from lmms_awares.report import kinds, render
    from lmms_awares.report.collect import read_source
    from lmms_awares.report.compare import labels_from

    source = read_source(run)
    tables = [kinds.policy_table(source), kinds.form_by_benchmark(source)]
    if labels is not None:
        tables.insert(0, kinds.cdp_by_benchmark(source, labels_from(labels, data)(source)))
    print("\n\n".join(render.FORMATS[form](table) for table in tables))


def plot(
    runs: Runs = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write the figures to")],
    paper: Annotated[bool, typer.Option("--paper", help="the published averages in the Pareto plot")] = False,
    labels: Labels = None,
    data: Data = None,
    keep_going: KeepGoing = False,
) -> None:
    """Draw pareto, latency, crops and resolutions, each as PNG, SVG and PDF.

    With --labels the crop distribution is of labelled samples only, the oracle's targets first. The published averages
    are drawn where the runs are over all six benchmarks.
    """
    from lmms_awares.report import plots
    from lmms_awares.report.compare import labels_from
    from lmms_awares.report.conditions import footer
    from lmms_awares.report.looks import save

    lineup, errors = _collect(runs, keep_going=keep_going)
    labels_of = None if labels is None else labels_from(labels, data)
    figures, missing = plots.draw(lineup, paper=paper, labels_of=labels_of)
    missing += [line for line in footer(lineup) if line.startswith("warning")]
    for file in save(figures, output):
        print(file)
    for line in missing:
        print(f"awares: {line}", file=sys.stderr)
    _leave(errors)
    if not figures:
        raise typer.Exit(2)


def _collect(runs: list[Path] | None, *, keep_going: bool) -> "tuple[Lineup, list[str]]":
    """The runs that are to be shown, and why others are not."""
    from lmms_awares.report.collect import collect

    if not runs:
        raise typer.BadParameter("give at least one result folder")
    errors: list[str] = []
    lineup = collect(runs, errors.append if keep_going else None)
    if not lineup.named:
        _leave([*errors, "no run is left to show"])
    return lineup, errors


def _leave(errors: list[str]) -> None:
    """Exit 2 if runs were left out."""
    for error in errors:
        print(f"awares: error: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(2)
