"""An ablation: rows of trainings, each evaluated on tasks, laid out beside the published table.

GRID.yaml ─► each row and seed:  SFT ─► GRPO ─► awares eval ─► results/…/runs/METHOD_seed-N
                                 shared by rows that start alike
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from pydantic import Field, field_validator, model_validator

from lmms_awares.engine.checkpoint import check_checkpoint
from lmms_awares.errors import ConfigError, UserError
from lmms_awares.evaluate import preflight
from lmms_awares.journal import digest
from lmms_awares.plan import plan_of
from lmms_awares.report.curated.read import open_set
from lmms_awares.report.read.resolution_labels import MINI
from lmms_awares.steps import Step, files_digest, finish, is_finished
from lmms_awares.training.parsing import CONFIGS, read_settings
from lmms_awares.yaml_settings import Strict, named_file, read_settings_file

_UNPLAIN = re.compile(r"[^\w.-]+")  # in a method's name; the rest is its folder
TABLES = {3: ("main",), 4: ("main", "cdp"), 7: ("cdp",), 8: ("calls",), 9: ("format",)}
"""Kinds of `awares compare --table` that stand for the paper's ablation tables."""
Values = dict[str, str | int | float | bool]
_SET_BY_THE_GRID = ("pretrained", "curated", "adapter", "output_dir", "seed")


class Evaluate(Strict):
    """How trained policies are evaluated: options of `awares eval`.

    Attributes:
        tasks: tasks or groups, with commas between.
        model_args: of `--model awares`, beside the checkpoint.
        batch_size, device, limit: as lmms-eval's options.
    """

    tasks: str
    model_args: str = ""
    batch_size: int = Field(default=1, ge=1)
    device: str | None = None
    limit: int | None = Field(default=None, ge=1)


class GridRow(Strict):
    """One row of the table.

    Attributes:
        method: its name.
        block: heading that it stands under.
        settings: cells in front of it, by column; the table's switches.
        sft, grpo: settings that differ from the files'; null leaves the stage out.
        seeds: a training each.
    """

    @field_validator("sft", "grpo")
    @classmethod
    def _not_set_here(cls, changes: Values | None) -> Values | None:
        if given := [name for name in changes or {} if name in _SET_BY_THE_GRID]:
            raise ValueError(f"{given[0]} is the grid's to say; leave it out")
        return changes

    method: str
    block: str = ""
    settings: dict[str, str] = Field(default_factory=dict)
    sft: Values | None = None
    grpo: Values | None = None
    seeds: list[int] = Field(default=[1], min_length=1)

    @model_validator(mode="after")
    def _trained(self) -> "GridRow":
        if self.sft is None and self.grpo is None:
            raise ValueError("needs sft or grpo; `sft: {}` takes the file's settings as they are")
        if len(self.seeds) != len(set(self.seeds)):
            raise ValueError("seeds: one is there twice")
        return self


class Grid(Strict):
    """An ablation.

    Attributes:
        tables: the published ones that it is laid out like, of `TABLES`.
        pretrained, curated: the base, and the curated set.
        output: folder of runs and tables.
        trainings: folder of the trainings; grids with the same one share those that are equal.
        sft, grpo: files of settings; those that ship by name.
        labels: for the CDP columns, as `awares diagnose --labels`.
    """

    tables: list[int] = Field(min_length=1)
    pretrained: str
    curated: Path
    output: Path
    trainings: Path
    sft: str | None = None
    grpo: str | None = None
    evaluate: Evaluate
    labels: str | None = None
    rows: list[GridRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _files(self) -> "Grid":
        for stage in ("sft", "grpo"):
            if any(vars(row)[stage] is not None for row in self.rows) and vars(self)[stage] is None:
                raise ValueError(f"{stage}: name the file of its settings")
        names = [row.method for row in self.rows]
        if len(names) != len(set(names)):
            raise ValueError("two rows have the same method")
        by_folder = {_plain(name): name for name in reversed(names)}
        for name in names:
            if by_folder[_plain(name)] != name:
                raise ValueError(f"methods {by_folder[_plain(name)]} and {name} would share a folder; rename one")
        if not set(self.tables) <= TABLES.keys():
            raise ValueError(f"tables: an ablation can be laid out as {', '.join(map(str, TABLES))}")
        if self.labels is None and any("cdp" in TABLES[number] for number in self.tables):
            raise ValueError("labels: the tables' diagnostics need them")
        return self


@dataclass(frozen=True)
class Run:
    """One row with one seed: its trainings in order, then its evaluation."""

    row: GridRow
    seed: int
    steps: tuple[Step, ...]

    @property
    def folder(self) -> Path:
        """Of the evaluation."""
        return self.steps[-1].folder


def read_grid(file: Path) -> Grid:
    """Read a grid: a file, or one that ships, by name.

    Raises:
        ConfigError: no file, no YAML, or a setting that is unknown or cannot work; one line that names it.

    Example:
        grid = read_grid(Path("table4_mini"))
    """
    return read_settings_file(named_file(file, CONFIGS), Grid)


def check(grid: Grid, runs: list[Run]) -> None:
    """Find before hours of training what a later step or the tables would not take.

    Raises:
        ConfigError: a base, a set or labels that are not there; settings of a stage or an evaluation that cannot work.
        DataError: a set that is not finished, or documents of the tasks.
    """
    from lmms_awares.training.grpo_config import CropGRPOConfig
    from lmms_awares.training.sft import WeightedSFTConfig

    check_checkpoint(grid.pretrained)
    open_set(grid.curated, finished=True)
    for _, stage, *options in dict.fromkeys(step.command for run in runs for step in run.steps[:-1]):
        if stage == "sft":
            read_settings(WeightedSFTConfig, options).check()
        else:
            read_settings(CropGRPOConfig, options).check()
    with TemporaryDirectory() as folder:  # without an adapter, which is not there yet
        preflight(*plan_of(tuple(_evaluation(grid, None, Path(folder)))[1:]))
    if grid.labels not in (None, MINI) and not Path(grid.labels).exists():
        raise ConfigError(f"labels: {grid.labels} is not there; `awares curate run` makes them")


def plan(grid: Grid) -> list[Run]:
    """Return the runs of a grid; trainings that start alike share their folders.

    Example:
        for run in plan(grid):
            print(run.row.method, run.seed, [step.folder for step in run.steps])
    """
    return [_run(grid, row, seed) for row in grid.rows for seed in row.seeds]


def _run(grid: Grid, row: GridRow, seed: int) -> Run:
    steps: list[Step] = []
    adapter: Path | None = None
    made_of = files_digest(Path(grid.pretrained), grid.curated)
    for stage in ("sft", "grpo"):
        changes: Values | None = vars(row)[stage]
        if changes is None:
            continue
        settings = {"pretrained": grid.pretrained, "curated": str(grid.curated), **changes, "seed": seed}
        if stage == "grpo":
            settings["adapter"] = str(adapter or "")
        config = _config(vars(grid)[stage])
        before = [step.folder.name for step in steps]
        known = digest(yaml.safe_load(config.read_text(encoding="utf-8")), settings, made_of, *before)
        folder = grid.trainings / f"{stage}-{known[:10]}"
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        command = ("train", stage, "--config", str(config), *options, "--output_dir", str(folder))
        steps.append(Step(folder, command, made_of))
        adapter = folder
    assert adapter is not None
    folder = grid.output / "runs" / f"{_plain(row.method)}_seed-{seed}"
    evaluation = tuple(_evaluation(grid, adapter, folder))
    plan_of(evaluation[1:])  # what it refuses shall not wait for the trainings
    return Run(row, seed, (*steps, Step(folder, evaluation, made_of)))


def _plain(method: str) -> str:
    return _UNPLAIN.sub("_", method)


def _config(name: str) -> Path:
    file = named_file(Path(name), CONFIGS)
    if not file.is_file():
        raise ConfigError(f"{name}: no such file of settings; those that ship are {', '.join(_shipped())}")
    return file


def _shipped() -> list[str]:
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def _evaluation(grid: Grid, adapter: Path | None, folder: Path) -> Iterator[str]:
    how = grid.evaluate
    trained = "" if adapter is None else f"adapter={adapter}"
    arguments = ",".join(filter(None, (f"pretrained={grid.pretrained}", trained, how.model_args)))
    yield from ("eval", "--model", "awares", "--model_args", arguments, "--tasks", how.tasks)
    yield from ("--batch_size", str(how.batch_size), "--output_path", str(folder))
    if how.device is not None:
        yield from ("--device", how.device)
    if how.limit is not None:
        yield from ("--limit", str(how.limit))


def carry_out(runs: list[Run], *, jobs: int) -> Iterator[str]:
    """Do every step that is not finished yet, as soon as the step before it is; yield a line for each one.

    Args:
        runs: of `plan`.
        jobs: steps at a time.

    Raises:
        UserError: a step failed; the message names its log. Others that are under way are finished first.
    """
    steps = {step.folder: step for run in runs for step in run.steps}
    needs = {after.folder: before.folder for run in runs for before, after in pairwise(run.steps)}
    waiting = [folder for folder, step in steps.items() if not is_finished(step)]
    running: dict[Future[str], Path] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            unfinished = {*waiting, *running.values()}
            ready = [folder for folder in waiting if needs.get(folder) not in unfinished]
            for folder in ready[: jobs - len(running)]:
                waiting.remove(folder)
                running[pool.submit(_done, steps[folder])] = folder
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                yield future.result()


def _done(step: Step) -> str:
    step.folder.mkdir(parents=True, exist_ok=True)
    log = step.beside(".log")
    started = time.perf_counter()
    with log.open("a", encoding="utf-8") as file:
        code = subprocess.run(  # a process of its own: what one step leaves behind does not reach the next
            [sys.executable, "-m", "lmms_awares", *step.command], stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        raise UserError(f"{step.folder.name} failed; the whole log is {log}; run again: finished steps are kept")
    seconds = round(time.perf_counter() - started)
    finish(step, seconds=seconds)
    return f"{step.folder.name}  {seconds} s"
