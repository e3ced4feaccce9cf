"""`awares train`."""

import contextlib
import io
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lmms_awares.errors import ConfigError

app = typer.Typer(help="Train the policy on a curated set.", no_args_is_help=True)
# Its options are TRL's and ours; its own parser knows them all.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command("sft", context_settings=_PASSED_ON)
def sft(context: typer.Context) -> None:
    """Supervised fine-tuning with a weight per turn: --config FILE, and any of its settings as an option."""
    with _extra():
        from lmms_awares.training.sft import main
    main(context.args)


@app.command("grpo", context_settings=_PASSED_ON)
def grpo(context: typer.Context) -> None:
    """Multi-turn GRPO with the tool: --config FILE, and any of its settings as an option."""
    with _extra():
        from lmms_awares.training.grpo import main
    main(context.args)


@app.command("sweep")
def sweep(
    grid: Annotated[Path, typer.Argument(help="GRID.yaml, or the name of one that ships")],
    jobs: Annotated[int, typer.Option(min=1, help="trainings and evaluations at a time")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the commands that are due, and do nothing")] = False,
) -> None:
    """Train and evaluate the rows of an ablation, and lay them out beside the published table; goes on where it ended.

    The folder `output` of the grid gets tableN.md and tableN.csv, and groups.csv for `awares compare --group`.
    """
    with _extra():
        from lmms_awares.training.sweep import carry_out, check, plan, read_grid
        from lmms_awares.training.sweep_tables import write_tables
    from lmms_awares.report.tables.terminal import terminal
    from lmms_awares.steps import is_finished

    read = read_grid(grid)
    runs = plan(read)
    check(read, runs)
    if dry_run:
        due = {step.folder: step for run in runs for step in run.steps if not is_finished(step)}
        print("\n".join(f"awares {shlex.join(step.command)}" for step in due.values()))
        return
    for done in carry_out(runs, jobs=jobs):
        print(done, flush=True)
    print("\n\n".join(terminal(table) for table in write_tables(read, runs)))


@app.command("export")
def export(
    run: Annotated[Path, typer.Argument(help="output_dir of a finished training, or its best", metavar="RUN_DIR")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="a new or empty folder")],
    curated: Annotated[Path | None, typer.Option(help="the set that it was trained on, for the model card")] = None,
) -> None:
    """Merge a training into its base: a plain Hugging Face folder with a model card."""
    from lmms_awares.training.export import export as write

    print(write(run, output, curated))


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Import what the extra brings; what a training prints shall be seen at once, in a file too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"training needs the extra ({error}): pip install 'lmms-awares[train]'") from None
