"""`awares compare`: from the request to its tables."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lmms_awares.errors import ConfigError
from lmms_awares.report.curated.labels import set_labels
from lmms_awares.report.read.benchmarks import is_mini
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.resolution_labels import MINI, mini_labels, read_labels
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables import calls, per_benchmark
from lmms_awares.report.tables.ablation import lay_out
from lmms_awares.report.tables.columns import average_first, chosen, transposed
from lmms_awares.report.tables.conditions import footer
from lmms_awares.report.tables.cost import cost_table
from lmms_awares.report.tables.main import main_table
from lmms_awares.report.tables.paper import NUMBERS, paper_table, with_published
from lmms_awares.report.tables.table import Table

KINDS = ("main", "latency", "length", "cost", "cdp", "calls", "format", "hard", "split")


@dataclass(frozen=True)
class Request:
    """A request for a comparison.

    Attributes:
        kind: one of `KINDS`.
        intervals: bootstrap intervals in the main table.
        paper: the published rows too.
        settings: of an ablation, see `lmms_awares.report.tables.ablation.read_settings`.
        labels: file of labels or `mini`, for `cdp` and `split`.
        data: folder with the mini suite's documents.
        columns: which columns, in which order, see `lmms_awares.report.tables.columns.chosen`; all where empty.
        transposed: a row per column, and a column per row.
    """

    kind: str = "main"
    intervals: bool = False
    paper: bool = False
    settings: pd.DataFrame | None = None
    labels: str | None = None
    data: Path | None = None
    columns: tuple[str, ...] = ()
    transposed: bool = False


def tables_of(lineup: Lineup, request: Request) -> list[Table]:
    """Make the requested table, conditions in its notes, and the published one behind it where rows cannot be mixed.

    Raises:
        RunError: what the table needs is missing.
        ConfigError: a column that the table does not have, or an ablation to transpose.
    """
    if request.settings is not None and request.transposed:
        raise ConfigError("--transpose and --group exclude each other; leave one out")
    table = replace(average_first(_measured(lineup, request)), conditions=footer(lineup), label=request.kind)
    extra = []
    if request.paper:
        if request.kind == "main" and not any(map(is_mini, lineup.tasks)):
            table = with_published(table)
        elif request.kind in NUMBERS:
            extra = [paper_table(NUMBERS[request.kind])]
    if request.settings is not None:
        if request.kind == "length":
            raise RunError("--group needs a table with a row per method; --table length has a row per benchmark")
        table = lay_out(table, lineup, request.settings)
    shown = [chosen(table, list(request.columns)) if request.columns else table, *extra]
    return [transposed(table) for table in shown] if request.transposed else shown


def _measured(lineup: Lineup, request: Request) -> Table:
    plain: dict[str, Callable[[Lineup], Table]] = {
        "latency": per_benchmark.latency_table,
        "length": per_benchmark.length_table,
        "cost": cost_table,
        "calls": calls.calls_table,
        "format": calls.format_table,
        "hard": per_benchmark.hard_table,
    }
    if request.kind == "main":
        return main_table(lineup, intervals=request.intervals)
    if request.kind == "cdp":
        return calls.cdp_table(lineup, labels_from(request.labels, request.data))
    if request.kind == "split":
        return per_benchmark.split_table(lineup, labels_from(request.labels, request.data))
    return plain[request.kind](lineup)


def labels_from(given: str | None, data: Path | None) -> Callable[[Source], pd.DataFrame]:
    """Return a function that gives a run's labels.

    They come from a file for all runs, from a curated set by the ids of its rows, or, for `mini`, from the run's own
    documents.

    Raises:
        RunError: no labels, documents without need, or a file that cannot be read.
    """
    if given is None:
        raise RunError(
            "CDP diagnostics and scores by label need --labels FILE (.jsonl or .parquet), a curated set, or mini"
        )
    if given != MINI and data is not None:
        raise RunError(f"--data goes with --labels mini, and has no effect with --labels {given}; leave it out")
    if given == MINI:
        return lambda source: mini_labels(source, data)
    if Path(given).is_dir():
        return lambda source: set_labels(source, Path(given))
    found = read_labels(Path(given))
    return lambda source: found
