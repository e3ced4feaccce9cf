"""`awares tasks`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The tasks that this package adds to lmms-eval.", no_args_is_help=True)


@app.command("path")
def tasks_path() -> None:
    """Print the folder for lmms-eval's --include_path."""
    from lmms_awares.plugin import tasks_dir

    typer.echo(tasks_dir())


@app.command("list")
def tasks_list(
    host: Annotated[
        bool, typer.Option("--host", help="lmms-eval's own tasks: which can be run as awares:NAME, and why others not.")
    ] = False,
) -> None:
    """Print each task with its split, metric and the columns that local data must have."""
    if host:
        _list_host()
        return
    from lmms_awares.tasks.benchmarks import BENCHMARKS, SUITES, TASKS

    for task, benchmark in TASKS.items():
        facts = BENCHMARKS[benchmark]
        typer.echo(f"{task:<21} {facts.split:<11} {facts.headline:<18} columns: {', '.join(facts.required)}")
    for group, tasks in SUITES.items():
        typer.echo(f"{group:<21} all of {', '.join(tasks)}")


@app.command("wrap")
def tasks_wrap(
    names: Annotated[list[str], typer.Argument(help="Tasks, groups or tags of lmms-eval.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for the files.", show_default=False)],
) -> None:
    """Write task files of awares:NAME, for lmms-eval's own command or to set `headline` and `scale`.

    `lmms-eval --include_path DIR --tasks awares:NAME` runs them. A file may say `headline: METRIC`, another metric of
    the task, and `scale: N`, the highest value of that metric for one document.
    """
    from lmms_awares.host_tasks import write
    from lmms_awares.tasks.host_survey import wrapped

    for file in write([facts.name for name in names for facts in wrapped(name)], out):
        typer.echo(file)


def _list_host() -> None:
    from lmms_awares.tasks.host_index import HOST_PREFIX, installed
    from lmms_awares.tasks.host_survey import survey

    found = {name: survey(name) for name in sorted(installed().settings)}
    count = 0
    for name, facts in found.items():
        if not isinstance(facts, str):
            count += 1
            images = "one image" if facts.one_image else "where a document has one image"
            typer.echo(f"{HOST_PREFIX}{name:<40} {facts.split:<12} {facts.scored:<40} {images}")
    for name, reason in found.items():
        if isinstance(reason, str):
            typer.echo(f"{name:<47} no: {reason}")
    typer.echo(f"{count} of {len(found)} tasks can be run as {HOST_PREFIX}NAME")
