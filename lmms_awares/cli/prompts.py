"""`awares prompts`."""

from typing import Annotated

import typer

app = typer.Typer(help="System prompts, own and published.", no_args_is_help=True)


@app.command("list")
def prompts_list() -> None:
    """Print the prompts that `--model_args prompt=NAME` takes."""
    from lmms_awares.protocol.prompts import list_prompts

    for name, status, origin in list_prompts():
        typer.echo(f"{name:<16} {status:<13} {origin}")


@app.command("import")
def prompts_import(
    name: Annotated[str, typer.Argument(help="a name from `awares prompts list`")],
    source: Annotated[str | None, typer.Option("--from", help="file or URL instead of the authors' own")] = None,
) -> None:
    """Take a published prompt out of its authors' file, without running it, and check its sha256."""
    from lmms_awares.protocol.prompts import import_prompts

    typer.echo(import_prompts(name, source))
