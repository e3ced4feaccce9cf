"""`awares diagnose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmms_awares.cli.options import Data, Format, FormatOption, Labels
from lmms_awares.errors import ConfigError

if TYPE_CHECKING:
    from lmms_awares.report.tables.table import Table

_RUN = "result folder (each task's newest results count) or *_results.json"


def diagnose(
    run: Annotated[Path | None, typer.Argument(help=_RUN)] = None,
    *,
    gain: Annotated[Path | None, typer.Option(help="a run with the tool, to hold against --without")] = None,
    without: Annotated[Path | None, typer.Option(help="the same checkpoint and documents without the tool")] = None,
    labels: Labels = None,
    data: Data = None,
    form: FormatOption = Format.terminal,
) -> None:
    """What the crop policy does: when it calls, where it looks, how its calls are written, per benchmark.

    With --labels also whether it calls when it must (Supp. 9.1). A line of a labels file:
    {"task": "awares_chartqa", "doc_id": 0, "label": "HR", "targets": ["0", "7"]}

    --gain RUN --without RUN instead splits what offering the tool changes: gain and harm of calls, and of the offer
    alone.
    """
    from lmms_awares.report.tables import render

    if gain is None and without is None:
        tables = _policy(run, labels, data)
    else:
        for given, what in ((run, f"the run {run}"), (labels, "--labels"), (data, "--data")):
            if given is not None:
                raise ConfigError(f"--gain and --without compare two runs by themselves; leave out {what}")
        tables = [_gain(gain, without)]
    print(render.document(tables, form))


def _policy(run: Path | None, labels: str | None, data: Path | None) -> "list[Table]":
    from lmms_awares.report.read.lineup import read_source
    from lmms_awares.report.tables import calls
    from lmms_awares.report.tables.comparison import labels_from

    if run is None:
        raise ConfigError("give a result folder, or two with --gain RUN --without RUN")
    source = read_source(run)
    tables = [calls.policy_table(source), calls.form_by_benchmark(source)]
    if labels is not None:
        tables.insert(0, calls.cdp_by_benchmark(source, labels_from(labels, data)(source)))
    return tables


def _gain(gain: Path | None, without: Path | None) -> "Table":
    from lmms_awares.report.read.lineup import read_source
    from lmms_awares.report.tables.gain import gain_table

    if gain is None or without is None:
        raise ConfigError("--gain RUN and --without RUN go together; one is missing")
    return gain_table(read_source(gain), read_source(without))
