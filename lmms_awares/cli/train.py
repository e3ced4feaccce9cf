"""`awares train`."""

import contextlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"training needs the extra ({error}): pip install 'lmms-awares[train]'") from None
