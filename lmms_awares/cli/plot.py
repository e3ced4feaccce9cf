"""`awares plot`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.cli.options import Data, KeepGoing, Labels, Runs, leave, read_runs


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
    from lmms_awares.report.figures import plots
    from lmms_awares.report.figures.looks import save
    from lmms_awares.report.tables.comparison import labels_from
    from lmms_awares.report.tables.conditions import footer

    lineup, errors = read_runs(runs, keep_going=keep_going)
    labels_of = None if labels is None else labels_from(labels, data)
    figures, missing = plots.draw(lineup, paper=paper, labels_of=labels_of)
    missing += [line for line in footer(lineup) if line.startswith("warning")]
    for file in save(figures, output):
        print(file)
    for line in missing:
        print(f"awares: {line}", file=sys.stderr)
    leave(errors)
    if not figures:
        raise typer.Exit(2)
