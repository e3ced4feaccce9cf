"""A finished ablation as tables: per benchmark, calls, diagnostics, and means over seeds; the published one behind."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lmms_awares.report.read.lineup import Lineup, collect
from lmms_awares.report.tables import render
from lmms_awares.report.tables.ablation import BLOCK, RUN
from lmms_awares.report.tables.comparison import Request, tables_of
from lmms_awares.report.tables.main import LONG_COLUMNS, long_table
from lmms_awares.report.tables.paper import paper_table
from lmms_awares.report.tables.table import Table, frame_of
from lmms_awares.training.conditions import read_conditions
from lmms_awares.training.sweep import TABLES, Grid, Run

GROUPS = "groups.csv"  # for `awares compare --group`


def write_tables(grid: Grid, runs: Sequence[Run]) -> list[Table]:
    """Make the tables of finished runs and write them to the grid's folder.

    For each of the grid's tables `tableN.md` has what was measured, with averages over seeds, and the published one
    behind it; `tableN.csv` a line per method, seed and benchmark for Tables 3 and 4, else the cells of `tableN.md`;
    `trainingsN.json`, of the first N, by row what it was trained with.

    Args:
        grid: says which tables, and where labels are.
        runs: of `lmms_awares.training.sweep.plan`, all of them finished.

    Returns:
        the tables in the order in which they are written.

    Raises:
        RunError: a run that cannot be read, or labels that do not fit.

    Example:
        tables = write_tables(grid, plan(grid))
    """
    settings = _settings(runs)
    lineup = collect(run.folder for run in runs)
    by_folder = {str(run.folder): run for run in runs}
    of_row = {row: by_folder[source.name] for row, source in lineup.named}
    lineup = lineup.renamed({row: f"{run.row.method} (seed {run.seed})" for row, run in of_row.items()})
    long = _long(lineup, list(of_row.values()))
    settings.to_csv(grid.output / GROUPS, index=False)
    trained = {f"{run.row.method} (seed {run.seed})": conditions_of(run) for run in runs}
    text = json.dumps(trained, indent=1)
    (grid.output / f"trainings{grid.tables[0]}.json").write_text(text + "\n", encoding="utf-8")
    written = []
    for number in grid.tables:
        measured = [
            table
            for kind in TABLES[number]
            for table in tables_of(lineup, Request(kind, settings=settings, labels=_labels(grid, kind)))
        ]
        shown = [*([means(long)] if "main" in TABLES[number] else []), *measured, paper_table(number)]
        text = "\n\n".join(render.markdown(table) for table in shown)
        (grid.output / f"table{number}.md").write_text(text + "\n", encoding="utf-8")
        cells = long.to_csv(index=False) if "main" in TABLES[number] else render.csv(measured[0]) + "\n"
        (grid.output / f"table{number}.csv").write_text(cells, encoding="utf-8")
        written += shown
    return written


def conditions_of(run: Run) -> list[dict[str, Any]]:
    """What a run's trainings were done with, stage by stage."""
    return [conditions for step in run.steps[:-1] for conditions in read_conditions(step.folder)]


def _labels(grid: Grid, kind: str) -> str | None:
    return grid.labels if kind == "cdp" else None


def _settings(runs: Sequence[Run]) -> pd.DataFrame:
    """What `awares compare --group` takes: each run with its block and its settings."""
    names = list(dict.fromkeys(name for run in runs for name in run.row.settings))
    rows = [
        {RUN: str(run.folder), BLOCK: run.row.block} | {name: run.row.settings.get(name, "") for name in names}
        for run in runs
    ]
    frame = pd.DataFrame(rows)
    return frame if frame[BLOCK].any() else frame.drop(columns=BLOCK)


def _long(lineup: Lineup, runs: Sequence[Run]) -> pd.DataFrame:
    """One line a method, seed and benchmark: the columns of `awares compare -o`, and `seed`."""
    parts = []
    for (row, source), run in zip(lineup.named, runs, strict=True):
        table = long_table(source.summary.assign(row=row))
        parts.append(table.assign(method=run.row.method, seed=run.seed))
    return pd.concat(parts, ignore_index=True)[[*LONG_COLUMNS, "seed"]]


def means(long: pd.DataFrame) -> Table:
    """Average over benchmarks, by method: mean and standard deviation over seeds.

    Args:
        long: columns `method`, `seed`, `score` in 0..100, `rtr` and `call_rate` as fractions; a line per benchmark.

    Example:
        means(pd.read_csv("table4/table4.csv"))
    """
    measures = {"score": 2, "rtr": 3, "call_rate": 3}
    by_seed = long.groupby(["method", "seed"], sort=False)[list(measures)].mean()
    rows = []
    for method in dict.fromkeys(long["method"]):
        of_method = by_seed.loc[method]
        row = {("", "method"): str(method), ("", "seeds"): str(len(of_method))}
        for name, digits in measures.items():
            spread = f" ± {of_method[name].std():.{digits}f}" if len(of_method) > 1 else ""
            row["average", name.replace("_", " ")] = f"{of_method[name].mean():.{digits}f}{spread}"
        rows.append(row)
    note = "mean over benchmarks, then over seeds; ± standard deviation over seeds"
    return Table("Averages by method", frame_of(rows), [note])
