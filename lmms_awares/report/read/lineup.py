"""Several runs for one table: read once, every row with a name of its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from lmms_awares.report.read.benchmarks import in_order
from lmms_awares.report.read.folders import newest_run
from lmms_awares.report.read.results import Run
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.read.summary import summarize_frames
from lmms_awares.trace import TraceError


@dataclass(frozen=True, eq=False)
class Source:
    """One run on the command line.

    Attributes:
        name: the path as it was given.
        run: its newest results.
        frames: the rows by task, as `Run.frame` gives them.
        summary: as `summarize` gives it.
    """

    name: str
    run: Run
    frames: dict[str, pd.DataFrame]
    summary: pd.DataFrame

    @property
    def method(self) -> str:
        """The method's name, as its traces hold it."""
        return str(self.summary["method"].iloc[0])

    @property
    def full_only(self) -> bool:
        """True for the full-resolution baseline: every answer from the whole image in one turn, and nothing pruned."""
        traced = next((frame[frame["traced"]] for frame in self.frames.values() if frame["traced"].any()), None)
        if traced is None or traced["view"].iloc[0] != "full":
            return False
        return bool(self.summary["nominal"].iloc[0] == 1) and "@" not in self.method

    @property
    def lowres_only(self) -> bool:
        """True where every answer comes from the low-res view and nothing else: nothing can call or is pruned."""
        traced = next((frame[frame["traced"]] for frame in self.frames.values() if frame["traced"].any()), None)
        if traced is None or traced["view"].iloc[0] != "lowres":
            return False
        policy, fixed = traced["policy"].iloc[0], pd.notna(self.summary["nominal"].iloc[0])
        return bool(fixed if pd.isna(policy) else policy == "never" and not fixed)


@dataclass(frozen=True, eq=False)
class Lineup:
    """The runs of one table: each read once, each row named once.

    Runs of one method over different tasks share a name, and so a row.

    Attributes:
        named: each run with the name of its row, in the order of the command line.
    """

    named: tuple[tuple[str, Source], ...]

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "Lineup":
        """Name each run's row: the method, with the folder where the same method comes twice for one task."""
        seen = Counter((source.method, task) for source in sources for task in source.summary["task"])
        twice = {method for (method, _), count in seen.items() if count > 1}
        names = [f"{source.method} ({source.name})" if source.method in twice else source.method for source in sources]
        return cls(tuple(zip(names, sources, strict=True)))

    def renamed(self, names: Mapping[str, str]) -> "Lineup":
        """Return the same runs under other row names; `names`: by the present one."""
        return Lineup(tuple((names[row], source) for row, source in self.named))

    @cached_property
    def sources(self) -> list[Source]:
        """The runs."""
        return [source for _, source in self.named]

    @cached_property
    def rows(self) -> dict[str, dict[str, pd.DataFrame]]:
        """The samples by row and task."""
        rows: dict[str, dict[str, pd.DataFrame]] = {}
        for row, source in self.named:
            rows.setdefault(row, {}).update(source.frames)
        return rows

    @cached_property
    def methods(self) -> dict[str, str]:
        """Each row's method."""
        return {row: source.method for row, source in self.named}

    @cached_property
    def tasks(self) -> list[str]:
        """The tasks of all runs, in the paper's order."""
        return in_order(task for source in self.sources for task in source.frames)

    @cached_property
    def frames(self) -> dict[str, dict[str, pd.DataFrame]]:
        """The samples by task and row."""
        found: dict[str, dict[str, pd.DataFrame]] = {task: {} for task in self.tasks}
        for row, source in self.named:
            for task, frame in source.frames.items():
                found[task][row] = frame
        return found

    @cached_property
    def summary(self) -> pd.DataFrame:
        """`summarize` of all runs, with the row's name in a column `row`."""
        return pd.concat([source.summary.assign(row=row) for row, source in self.named], ignore_index=True)


def collect(paths: Iterable[Path], report: Callable[[str], None] | None = None) -> Lineup:
    """Read runs.

    Args:
        paths: result folders, whose newest results count, or results files.
        report: takes the message of a run that cannot be read or shares no task with the others; that run is then left
            out. Without `report` the first such run raises.

    Returns:
        the runs in this order; empty where none could be read.

    Raises:
        RunError: a run that cannot be read, that is given twice, or that shares no task with the others.
        TraceError: a trace of another schema version.
    """
    return _collected(((str(path), partial(newest_run, path)) for path in paths), report)


def collect_runs(runs: Mapping[str, Run]) -> Lineup:
    """Read runs that were found already, by name; errors as `collect`."""
    return _collected(((name, partial(_itself, run)) for name, run in runs.items()), None)


def _itself(run: Run) -> Run:
    return run


def _collected(found: Iterable[tuple[str, Callable[[], Run]]], report: Callable[[str], None] | None) -> Lineup:
    sources: list[Source] = []
    taken: set[Path] = set()
    for name, find in found:
        try:
            source = _read(name, find())
            files = {source.run.samples_file(task).resolve() for task in source.frames}
            if files & taken:
                raise RunError(f"{name} is given twice")
            taken |= files
            sources.append(source)
        except (RunError, TraceError) as error:
            if report is None:
                raise
            report(str(error))
    strangers = _strangers(Lineup.of(sources))
    for source in strangers:
        message = f"{source.name} shares no task with the other runs; its tasks: {', '.join(source.frames)}"
        if report is None:
            raise RunError(message)
        report(message)
    return Lineup.of([source for source in sources if source not in strangers])


def _strangers(lineup: Lineup) -> list[Source]:
    """Return the runs whose row shares no task with any other row; if those are all rows, the first row is exempt."""
    rows = lineup.rows
    alone = [row for row in rows if not any(rows[row].keys() & rows[other].keys() for other in rows if other != row)]
    if len(alone) == len(rows):
        alone = alone[1:]
    return [source for row, source in lineup.named if row in alone]


def read_source(path: Path) -> Source:
    """Read one run.

    Raises:
        RunError, TraceError: as in `collect`.
    """
    return _read(str(path), newest_run(path))


def _read(name: str, run: Run) -> Source:
    frames = {task: run.frame(task) for task in run.tasks}
    if not frames:
        raise RunError(f"{run.path} holds no task")
    return Source(name, run, frames, summarize_frames(run, frames))
