"""`awares tasks`."""

import typer

app = typer.Typer(help="The tasks that this package adds to lmms-eval.", no_args_is_help=True)


@app.command("path")
def tasks_path() -> None:
    """Print the folder for lmms-eval's --include_path."""
    from lmms_awares.plugin import tasks_dir

    typer.echo(tasks_dir())


@app.command("list")
def tasks_list() -> None:
    """Print each task with its split, metric and the columns that local data must have."""
    from lmms_awares.tasks.benchmarks import BENCHMARKS, SUITES, TASKS

    for task, benchmark in TASKS.items():
        facts = BENCHMARKS[benchmark]
        typer.echo(f"{task:<21} {facts.split:<11} {facts.headline:<18} columns: {', '.join(facts.required)}")
    for group, tasks in SUITES.items():
        typer.echo(f"{group:<21} all of {', '.join(tasks)}")
