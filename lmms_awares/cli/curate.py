"""`awares curate`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmms_awares.cli.curate_agree import agree
from lmms_awares.cli.curate_export import export
from lmms_awares.cli.curate_hashes import hashes
from lmms_awares.cli.curate_stats import stats

if TYPE_CHECKING:
    from lmms_awares.curation.config import Config

app = typer.Typer(help="Make training data: when to crop, where, and the transcripts.", no_args_is_help=True)
for _command in (stats, agree, export, hashes):
    app.command()(_command)

ConfigFile = Annotated[Path, typer.Argument(help="YAML file, see docs/curation.md")]
Output = Annotated[Path, typer.Option("--output", "-o", help="folder of the set; what is finished there is kept")]
MaxReject = Annotated[float, typer.Option(min=0, max=1, help="share of a stage's rows that may be rejected")]
Swap = Annotated[bool, typer.Option("--swap", help="the judge is asked twice, with the answers exchanged")]


class Engine(StrEnum):
    """Where the stages run."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[Engine, typer.Option(help="this process, or a Ray cluster (extra `ray`)")]


@app.command()
def run(  # noqa: PLR0917  # a command's options
    config: ConfigFile,
    output: Output,
    engine: EngineOption = Engine.local,
    max_reject: MaxReject = 0.2,
    swap: Swap = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it would take")] = False,
) -> None:
    """Make a curated set, or what is missing of it."""
    if dry_run:
        from lmms_awares.curation.estimate import estimate

        typer.echo(estimate(_config(config, swap), output))
        return
    _run(config, output, engine=engine, max_reject=max_reject, swap=swap)


@app.command()
def answer(
    config: ConfigFile, output: Output, engine: EngineOption = Engine.local, max_reject: MaxReject = 0.2
) -> None:
    """Sample the sources, and let the base model answer on the low-res and the full view."""
    _run(config, output, "answer", engine=engine, max_reject=max_reject)


@app.command()
def judge(
    config: ConfigFile,
    output: Output,
    engine: EngineOption = Engine.local,
    max_reject: MaxReject = 0.2,
    swap: Swap = False,
) -> None:
    """Label rows: does the full view give the better answer?"""
    _run(config, output, "judge", engine=engine, max_reject=max_reject, swap=swap)


@app.command()
def ground(
    config: ConfigFile, output: Output, engine: EngineOption = Engine.local, max_reject: MaxReject = 0.2
) -> None:
    """Find the evidence of rows that need it, and the crops that show it."""
    _run(config, output, "ground", engine=engine, max_reject=max_reject)


@app.command()
def build(config: ConfigFile, output: Output, engine: EngineOption = Engine.local, max_reject: MaxReject = 0.2) -> None:
    """Write the transcripts and the set's own files."""
    _run(config, output, "build", engine=engine, max_reject=max_reject)


def _config(file: Path, swap: bool) -> "Config":
    from lmms_awares.curation.config import LlmJudge, read_config
    from lmms_awares.errors import ConfigError

    config = read_config(file)
    if not swap:
        return config
    if not isinstance(config.judge, LlmJudge):
        raise ConfigError(f"--swap exchanges the answers for an LLM; judge.kind={config.judge.kind} has no order")
    return config.model_copy(update={"judge": config.judge.model_copy(update={"swap": True})})


def _run(file: Path, output: Path, *stages: str, engine: Engine, max_reject: float, swap: bool = False) -> None:
    config = _config(file, swap)
    from lmms_awares.cli.curate_progress import Display, summary
    from lmms_awares.curation.run import run as make
    from lmms_awares.curation.shards import STAGES

    with Display() as display:
        counts = make(
            config, output, stages=stages or tuple(STAGES), engine=engine, max_reject=max_reject, told=display
        )
    typer.echo(summary(counts))
