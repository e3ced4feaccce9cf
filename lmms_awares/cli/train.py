"""`awares train`."""

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
    try:
        from lmms_awares.training.sft import main
    except ImportError as error:
        raise ConfigError(f"training needs the extra ({error}): pip install 'lmms-awares[train]'") from None
    main(context.args)


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
