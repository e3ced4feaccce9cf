"""The `awares` command. Subcommands import what they need when they run, so that `--help` stays quick."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from lmms_awares import __version__, cli_regress
from lmms_awares.errors import UserError
from lmms_awares.quiet import switch_bars_off
from lmms_awares.report import commands
from lmms_awares.streams import steady_streams

app = typer.Typer(
    help="Measure how much a vision-language model really needs to see.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs a quarter of a second in imports
)
tasks_app = typer.Typer(help="The tasks that this package adds to lmms-eval.", no_args_is_help=True)
prompts_app = typer.Typer(help="System prompts, own and published.", no_args_is_help=True)
app.add_typer(tasks_app, name="tasks")
mini_app = typer.Typer(help="The mini suite: six small synthetic benchmarks.", no_args_is_help=True)
app.add_typer(prompts_app, name="prompts")
app.add_typer(mini_app, name="mini")
for _command in (commands.compare, commands.diagnose, commands.plot):
    app.command()(_command)
app.add_typer(cli_regress.app, name="regress")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lmms-awares {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Measure how much a vision-language model really needs to see."""


@app.command(
    "eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def evaluate(context: typer.Context) -> None:
    """Run lmms-eval with our tasks: preflight, resume, real exit codes, a summary.

    Takes lmms-eval's arguments, e.g. `awares eval --model awares --model_args pretrained=DIR --tasks awares_suite`.
    """
    if {"--help", "-h"} & set(context.args):
        typer.echo(EVAL_HELP)
        return
    from lmms_awares.evaluate import run

    raise typer.Exit(run(context.args))


@app.command("models")
def models_list() -> None:
    """Print the models of this package with their --model_args: name, type, default, meaning."""
    from lmms_awares.models.listing import listing

    for line in listing():
        typer.echo(line)


@tasks_app.command("path")
def tasks_path() -> None:
    """Print the folder for lmms-eval's --include_path."""
    from lmms_awares.plugin import tasks_dir

    typer.echo(tasks_dir())


@tasks_app.command("list")
def tasks_list() -> None:
    """Print each task with its split, metric and the columns that local data must have."""
    from lmms_awares.tasks.data import BENCHMARKS, SUITES, TASKS

    for task, benchmark in TASKS.items():
        facts = BENCHMARKS[benchmark]
        typer.echo(f"{task:<21} {facts.split:<11} {facts.headline:<18} columns: {', '.join(facts.columns)}")
    for group, tasks in SUITES.items():
        typer.echo(f"{group:<21} all of {', '.join(tasks)}")


@prompts_app.command("list")
def prompts_list() -> None:
    """Print the prompts that `--model_args prompt=NAME` takes."""
    from lmms_awares.protocol.prompts import list_prompts

    for name, status, origin in list_prompts():
        typer.echo(f"{name:<16} {status:<13} {origin}")


@prompts_app.command("import")
def prompts_import(
    name: Annotated[str, typer.Argument(help="a name from `awares prompts list`")],
    source: Annotated[str | None, typer.Option("--from", help="file or URL instead of the authors' own")] = None,
) -> None:
    """Take a published prompt out of its authors' file, without running it, and check its sha256."""
    from lmms_awares.protocol.prompts import import_prompts

    typer.echo(import_prompts(name, source))


@mini_app.command("build")
def mini_build(
    root: Annotated[Path, typer.Argument(help="folder to write; AWARES_DATA_ROOT=FOLDER/test then evaluates on it")],
) -> None:
    """Draw the train, validation and test sets of the mini suite as parquet files; always the same bytes."""
    from lmms_awares.mini.suite import build

    for file in build(root):
        typer.echo(file)


@mini_app.command("train")
def mini_train(
    root: Annotated[Path, typer.Argument(help="folder for the checkpoint")],
    seed: Annotated[int, typer.Option(help="of weights and pictures; 1 made the one that ships")] = 1,
) -> None:
    """Train the tiny checkpoint from nothing; one to two hours on two CPU cores."""
    from lmms_awares.mini.training.recipe import train

    for report in train(root, seed=seed):
        typer.echo(
            "  ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in report.items()
            )
        )


@mini_app.command("run")
def mini_run(
    root: Annotated[Path, typer.Argument(help="folder for runs, logs, table.md and table.csv")],
    pretrained: Annotated[Path | None, typer.Option(help="checkpoint folder (the one that ships)")] = None,
) -> None:
    """Run every registered method on the mini suite, on the CPU, and compare them."""
    from lmms_awares.mini.demo import checkpoint, run_all

    commands.compare(run_all(pretrained or checkpoint(), root), output=root)
    typer.echo("Synthetic pictures and a tiny checkpoint: a demonstration, not a result.")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="result folders; each task's newest results count")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write, new or an earlier report")],
) -> None:
    """Write a static site that shows runs sample by sample: pictures, crops, transcripts, tokens, times."""
    from lmms_awares.report.explorer.site import build, short_names
    from lmms_awares.report.runs import newest_run

    for warning in build({name: newest_run(folder) for name, folder in short_names(runs).items()}, output):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(output / "index.html")


@app.command()
def doctor(
    pretrained: Annotated[str | None, typer.Option(help="checkpoint folder or hub id to check")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter to check with it")] = None,
) -> None:
    """Check this machine: versions, torch and torchvision, device, hub, tasks, data, a checkpoint."""
    from lmms_awares.doctor import run

    raise typer.Exit(run(pretrained, adapter))


EVAL_HELP = """Usage: awares eval [lmms-eval's arguments]

Runs lmms-eval in this process, plus:
  - our tasks are found (--include_path is set; yours is kept beside it)
  - a preflight fails before the model loads: arguments, checkpoint, prompt, tasks, data, folders
  - a journal (<output_path>/journal.jsonl unless --model_args journal=FILE) resumes a run that died
  - --log_samples is on; --output_path defaults to results/runs
  - exit code 0 fine, 1 the run failed, 2 bad input
  - off a terminal: no colours, no progress bars, and warnings and errors only, on stderr
  - a summary from the written files

Example:
  awares eval --model awares --model_args pretrained=Kimhi/AWARES-Qwen2.5-VL-7B,prompt=awares-adapter \\
      --tasks awares_suite --batch_size 1

All models and their --model_args: awares models
All arguments of lmms-eval: lmms-eval eval --help"""


def main() -> None:
    """Entry point: what the user can mend becomes one line and exit code 2."""
    steady_streams()
    # torchvision's compiled parts are absent beside a CPU-only torch (see doctor.py) and not needed here.
    warnings.filterwarnings("ignore", message="Failed to load image Python extension")
    switch_bars_off()
    try:
        app()
    except UserError as error:
        print(f"awares: error: {error}", file=sys.stderr)
        sys.exit(2)
