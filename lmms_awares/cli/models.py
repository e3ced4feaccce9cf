"""`awares models`."""

import typer


def models_list() -> None:
    """Print the models of this package with their --model_args: name, type, default, meaning."""
    from lmms_awares.models.listing import listing

    for line in listing():
        typer.echo(line)
