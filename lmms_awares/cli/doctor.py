"""`awares doctor`."""

from typing import Annotated

import typer


def doctor(
    pretrained: Annotated[str | None, typer.Option(help="checkpoint folder or hub id to check")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter to check with it")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="server of that checkpoint to check: http://HOST:PORT/v1")
    ] = None,
    served_model: Annotated[str | None, typer.Option(help="the checkpoint's name there")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="environment variable that holds the server's key")] = None,
) -> None:
    """Check this machine: versions, torch and torchvision, device, hub, tasks, data, a checkpoint, a server."""
    from lmms_awares.doctor import run

    server = {"base_url": base_url, "served_model": served_model, "api_key_env": api_key_env}
    raise typer.Exit(run(pretrained, adapter, **server))
