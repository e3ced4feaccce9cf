"""`awares compare`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.cli.options import Data, Format, FormatOption, KeepGoing, Labels, Runs, leave, read_runs
from lmms_awares.errors import ConfigError


class Kind(StrEnum):
    """What a comparison shows; the paper's table in brackets."""

    main = "main"
    latency = "latency"
    length = "length"
    cost = "cost"
    cdp = "cdp"
    calls = "calls"
    form = "format"  # `format` is a method of str
    hard = "hard"
    by_label = "split"  # `split` is a method of str


def compare(
    runs: Runs = None,
    *,
    table: Annotated[Kind, typer.Option(help="paper's Table 1, 5-9, FLOPs, hard split, scores by label")] = Kind.main,
    ci: Annotated[bool, typer.Option("--ci", help="95 % bootstrap intervals of the scores")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="the published rows beside them")] = False,
    group: Annotated[Path | None, typer.Option(help="CSV of an ablation: columns run, block, and the settings")] = None,
    labels: Labels = None,
    data: Data = None,
    columns: Annotated[str | None, typer.Option(help="which, by commas: average,ChartQA,RTR,'POPE score'")] = None,
    transpose: Annotated[bool, typer.Option("--transpose", help="a column per method")] = False,
    form: FormatOption = Format.terminal,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="folder to write the table to")] = None,
    keep_going: KeepGoing = False,
) -> None:
    """Lay runs side by side: score and RTR per benchmark, and what could make them incomparable.

    `-o DIR` writes table.md, table.tex, table.html, table.json, table_wide.csv with the same cells, and table.csv in
    long format: method, nominal, benchmark, score, rtr, call_rate, latency_s, n. With --group the runs may be left to
    the CSV. The published tables alone: `awares paper`.
    """
    from lmms_awares.report.tables import ablation, render
    from lmms_awares.report.tables.comparison import Request, tables_of
    from lmms_awares.report.tables.main import long_table

    if (labels or data) and table not in (Kind.cdp, Kind.by_label):
        raise ConfigError(f"--labels and --data have no effect on --table {table}; give --table cdp or split")
    settings = None if group is None else ablation.read_settings(group)
    if not runs and settings is not None:
        runs = [Path(run) for run in settings[ablation.RUN]]
    lineup, errors = read_runs(runs, keep_going=keep_going)
    wanted = () if columns is None else tuple(columns.split(","))
    shown = tables_of(lineup, Request(table, ci, paper, settings, labels, data, wanted, transpose))
    print(render.document(shown, form))
    if output is not None:
        render.write(shown, output)
        long_table(lineup.summary).to_csv(output / "table.csv", index=False)
    leave(errors)
