"""`awares suite`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmms_awares.cli.compare import compare
from lmms_awares.cli.plot import plot
from lmms_awares.cli.report import report

if TYPE_CHECKING:
    from lmms_awares.suites.planning import Job
    from lmms_awares.suites.suite import Suite

app = typer.Typer(help="Many methods on the same tasks: one file, one table.", no_args_is_help=True)


@app.command("run")
def suite_run(
    suite: Annotated[Path, typer.Argument(help="SUITE.yaml, or the name of one that ships: paper, mini")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for runs, logs, tables, figures, report")],
    row: Annotated[list[str] | None, typer.Option(help="only this row (can be given again)")] = None,
    shard: Annotated[str | None, typer.Option(help="i/n: one part of the rows, without tables; for clusters")] = None,
    checkpoint: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER in the place of the file's")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="documents of each task, the first ones")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="rows at a time (the file's)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and print the plan, run nothing")] = False,
) -> None:
    """Run every row, and make the table, the figures and the report; goes on where it ended.

    All rows are checked before the first model loads. A row that fails leaves the others running, and exits with 1.
    """
    from lmms_awares.suites.planning import due, named, plan, with_checkpoints
    from lmms_awares.suites.planning import shard as part_of
    from lmms_awares.suites.running import carry_out
    from lmms_awares.suites.suite import read_suite

    changes = {"limit": limit, "jobs": jobs}
    read = read_suite(suite).model_copy(update={name: value for name, value in changes.items() if value is not None})
    all_jobs = plan(with_checkpoints(read, checkpoint or []), output)
    chosen = named(all_jobs, row or [])
    chosen = part_of(chosen, shard) if shard else chosen
    waiting = due(chosen)
    _print_plan(chosen, waiting)
    if dry_run:
        return
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for outcome in carry_out(waiting, at_once=read.jobs):
        failed += bool(outcome.problem)
        log = outcome.job.step.beside(".log")
        said = f"failed: {outcome.problem}; its log is {log}" if outcome.problem else f"{outcome.seconds:.0f} s"
        print(f"{outcome.job.row.name}  {said}", flush=True, file=sys.stderr if outcome.problem else sys.stdout)
    if shard is None:
        _show(read, all_jobs, output)
    else:
        print("the tables are made without --shard, when all rows are finished")
    if failed:
        raise typer.Exit(1)


def _print_plan(jobs: Sequence["Job"], waiting: Sequence["Job"]) -> None:
    from tabulate import tabulate

    left = {job.row.name for job in waiting}
    rows = [
        [
            job.row.name,
            job.row.checkpoint,
            _count(job.documents),
            "to do" if job.row.name in left else "done",
            _time(job),
        ]
        for job in jobs
    ]
    print(tabulate(rows, ["row", "checkpoint", "documents", "state", "estimate"], disable_numparse=True))
    known = [job.seconds for job in waiting if job.seconds is not None]
    total = sum(job.documents or 0 for job in waiting)
    print(f"\n{len(waiting)} of {len(jobs)} rows to do, {total} answers", end="")
    if len(known) < len(waiting):
        print("; no time is known of rows that never ran here: --limit 8 first measures it, and its answers are kept")
    elif waiting:
        print(f", {_hours(sum(known))} one after the other, by their last runs here")
    else:
        print()
    print(flush=True)


def _count(documents: int | None) -> str:
    return "?" if documents is None else str(documents)


def _time(job: "Job") -> str:
    return "?" if job.seconds is None else _hours(job.seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _show(suite: "Suite", jobs: Sequence["Job"], output: Path) -> None:
    """Tables, figures and report of the rows that are finished."""
    from lmms_awares.steps import is_finished

    finished = {job.row.name: job.step.folder for job in jobs if is_finished(job.step)}
    if not finished:
        return
    folders = list(finished.values())
    compare(folders, paper=suite.paper, output=output)
    plot(folders, output=output, paper=suite.paper, labels=suite.labels)
    shown = [finished[name] for name in suite.report or finished if name in finished]
    report(shown, output=output.with_name(f"{output.name}-report"))  # not inside, where DIR/*/ are the rows
    if missing := [job.row.name for job in jobs if job.row.name not in finished]:
        print(f"not in the tables, since not finished: {', '.join(missing)}", file=sys.stderr)
