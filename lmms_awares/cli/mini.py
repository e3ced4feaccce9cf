"""`awares mini`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The mini suite: six small synthetic benchmarks.", no_args_is_help=True)


@app.command("build")
def mini_build(
    root: Annotated[Path, typer.Argument(help="folder to write; AWARES_DATA_ROOT=FOLDER/test then evaluates on it")],
) -> None:
    """Draw the train, validation and test sets of the mini suite as parquet files; always the same bytes."""
    from lmms_awares.mini.suite import build

    for file in build(root):
        typer.echo(file)


@app.command("train")
def mini_train(
    root: Annotated[Path, typer.Argument(help="folder for the checkpoint")],
    seed: Annotated[int, typer.Option(help="of weights and pictures; 1 made the one that ships")] = 1,
) -> None:
    """Train the tiny base from nothing, which answers and does not call; an hour or two on two CPU cores."""
    from lmms_awares.mini.training.recipe import train

    for report in train(root, seed=seed):
        typer.echo(_line(report))


@app.command("adapter")
def mini_adapter(
    root: Annotated[Path, typer.Argument(help="folder of a checkpoint; gets the folder visionthink")],
    seed: Annotated[int, typer.Option(help="of weights and pictures; 1 made the one that ships")] = 1,
) -> None:
    """Train an adapter that follows VisionThink's protocol, on a finished checkpoint; some minutes on a CPU."""
    from lmms_awares.mini.training.recipe import train_adapter

    for report in train_adapter(root, seed=seed):
        typer.echo(_line(report))


def _line(report: dict[str, float | str]) -> str:
    return "  ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in report.items()
    )
