"""`awares plot`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.cli.options import Data, KeepGoing, Labels, Runs, leave, read_runs
from lmms_awares.errors import ConfigError


def plot(
    runs: Runs = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write the figures to")],
    paper: Annotated[bool, typer.Option("--paper", help="the published averages in the Pareto plot")] = False,
    labels: Labels = None,
    data: Data = None,
    sample: Annotated[
        list[str] | None, typer.Option("--sample", metavar="TASK/ID", help="this document instead; may be repeated")
    ] = None,
    keep_going: KeepGoing = False,
) -> None:
    """Draw pareto, latency, crops and resolutions, each as PNG, SVG and PDF.

    With --labels the crop distribution is of labelled samples only, the oracle's targets first. The published averages
    are drawn where the runs are over all six benchmarks. With --sample, documents as the runs answered them: question,
    call, low-res view, crops, answers.
    """
    from lmms_awares.report.figures import plots
    from lmms_awares.report.figures.looks import save
    from lmms_awares.report.tables.comparison import labels_from
    from lmms_awares.report.tables.conditions import footer

    if sample and (paper or labels):
        raise ConfigError("--sample draws documents alone; leave out --paper and --labels")
    lineup, errors = read_runs(runs, keep_going=keep_going)
    if sample:
        from lmms_awares.report.figures.sample import address, draw_sample

        asked = [address(text, lineup) for text in sample]
        drawn = {f"sample_{task}_{doc_id}": draw_sample(lineup, task, doc_id) for task, doc_id in asked}
        for file in save(drawn, output):
            print(file)
        leave(errors)
        return
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
