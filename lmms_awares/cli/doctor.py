"""`awares doctor`."""

from typing import Annotated

import typer


def doctor(
    pretrained: Annotated[str | None, typer.Option(help="checkpoint folder or hub id to check")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter to check with it")] = None,
) -> None:
    """Check this machine: versions, torch and torchvision, device, hub, tasks, data, a checkpoint."""
    from lmms_awares.doctor import run

    raise typer.Exit(run(pretrained, adapter))
