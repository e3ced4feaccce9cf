"""The command itself: its subcommands, and what becomes of errors."""

import sys
import warnings
from typing import Annotated

import typer

from lmms_awares import __version__
from lmms_awares.cli import (
    compare,
    curate,
    diagnose,
    doctor,
    eval,
    mini,
    models,
    paper,
    plot,
    prompts,
    regress,
    report,
    suite,
    tasks,
    train,
)
from lmms_awares.errors import UserError
from lmms_awares.quiet import switch_bars_off
from lmms_awares.streams import steady_streams

app = typer.Typer(
    help="Measure how much a vision-language model really needs to see.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs a quarter of a second in imports
)
app.command()(compare.compare)
app.command()(diagnose.diagnose)
app.command()(plot.plot)
# What it does not know is lmms-eval's, and so is its help.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
app.command("eval", context_settings=_PASSED_ON)(eval.evaluate)
app.command("models")(models.models_list)
app.command()(paper.paper)
app.command()(report.report)
app.command()(doctor.doctor)
for _name, _group in {
    "curate": curate,
    "tasks": tasks,
    "prompts": prompts,
    "mini": mini,
    "regress": regress,
    "suite": suite,
    "train": train,
}.items():
    app.add_typer(_group.app, name=_name)


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
