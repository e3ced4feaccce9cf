"""What a suite is going to do: a step per row, checked before the first model loads."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmms_awares.engine.checkpoint import setup_hash
from lmms_awares.errors import ConfigError, UserError
from lmms_awares.evaluate import preflight
from lmms_awares.host_arguments import pairs
from lmms_awares.journal import digest
from lmms_awares.mini.demo import checkpoint as shipped
from lmms_awares.models import MODELS
from lmms_awares.models.config import CommonArgs, parse_args
from lmms_awares.plan import plan_of
from lmms_awares.steps import Step, files_digest, is_finished, last_finished
from lmms_awares.suites.suite import Row, Suite
from lmms_awares.tasks import benchmarks, data

MINI = "mini"


@dataclass(frozen=True)
class Job:
    """A row and how it is carried out.

    Attributes:
        step: its command, without `awares`, and its folder.
        loads: what a process has to load for it; rows that need the same can share it.
        served: a server answers; this machine waits.
        documents: of all its tasks; None where that is not known before it runs.
    """

    row: Row
    step: Step
    loads: str
    served: bool
    documents: int | None

    @property
    def seconds(self) -> float | None:
        """What it may take by its last run here, of whatever length; None before the first one."""
        last = last_finished(self.step)
        if not last.get("documents") or self.documents is None:
            return None
        return float(last["seconds"]) / float(last["documents"]) * self.documents


def with_checkpoints(suite: Suite, given: Sequence[str]) -> Suite:
    """Replace checkpoints.

    Args:
        given: `NAME=FOLDER` or `NAME=HUB_ID`.

    Raises:
        ConfigError: another form, or a name that the suite does not have.
    """
    found = dict(suite.checkpoints)
    for pair in given:
        name, equals, place = pair.partition("=")
        if not equals or name not in found:
            raise ConfigError(f"--checkpoint {pair}: give NAME=FOLDER with one of the names {', '.join(found)}")
        found[name] = place
    return suite.model_copy(update={"checkpoints": found})


def plan(suite: Suite, output: Path) -> list[Job]:
    """Make each row's command, and check what can be checked: all rows, before anything heavy loads.

    Args:
        output: the rows' folders are in it.

    Raises:
        ConfigError: a row that would fail; one line that names the row and what is wrong.

    Example:
        for job in plan(read_suite(Path("mini")), Path("runs")):
            print(job.row.name, job.documents)
    """
    return [_job(suite, row, output) for row in suite.rows]


def _job(suite: Suite, row: Row, output: Path) -> Job:
    folder = output / row.name
    command = tuple(_command(suite, row, folder))
    try:
        asked, rest = plan_of(command)
        with _as_it_was(output), _as_it_was(folder):
            preflight(asked, rest)
    except UserError as error:
        raise ConfigError(f"row {row.name}: {error}") from None
    args = parse_args(row.model, pairs(asked.model_args, "--model_args")) if row.model in MODELS else None
    return Job(
        row=row,
        step=Step(folder, ("eval", *command), made_of=_made_of(args)),
        loads=_loads(args) if args else row.name,
        served=args is not None and args.base_url is not None,
        documents=_documents(asked.own_tasks, suite),
    )


@contextmanager
def _as_it_was(folder: Path) -> Iterator[None]:
    """Take away again what a check, which tries to write there, has made."""
    was_there = folder.exists()
    try:
        yield
    finally:
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)


def _command(suite: Suite, row: Row, folder: Path) -> Iterator[str]:
    pretrained = _place(suite.checkpoints[row.checkpoint])
    named = {"pretrained": pretrained}
    if row.adapter:
        inside = Path(pretrained) / row.adapter
        named["adapter"] = suite.checkpoints.get(row.adapter) or str(inside if inside.is_dir() else row.adapter)
    arguments = named | suite.args | row.args
    yield from ("--model", row.model)
    yield from ("--model_args", ",".join(f"{name}={value}" for name, value in arguments.items()))
    batch_size = 1 if "base_url" in arguments else suite.batch_size  # a server makes its own batches
    yield from ("--tasks", suite.tasks, "--batch_size", str(batch_size), "--output_path", str(folder))
    if suite.device is not None:
        yield from ("--device", suite.device)
    if suite.limit is not None:
        yield from ("--limit", str(suite.limit))


def _place(checkpoint: str) -> str:
    return str(shipped()) if checkpoint == MINI else checkpoint


def _made_of(args: CommonArgs | None) -> str:
    """What decides a row's answers besides its command, by the files' times; empty for models that are not ours.

    A time that changed alone costs little: the journal looks at the content, and answers.
    """
    if args is None:
        return ""
    places = [Path(place) for place in (args.pretrained, args.adapter) if place]
    return digest(files_digest(*places), setup_hash(args.load_prompts()))[:16]


def _loads(args: CommonArgs) -> str:
    wanted = ("pretrained", "adapter", "dtype", "device_map", "attn_implementation", "base_url")
    return repr(args.model_dump(include=set(wanted)))


def _documents(tasks: Sequence[str], suite: Suite) -> int | None:
    """Documents of our own tasks; None where others are among them."""
    named = {name.strip() for name in suite.tasks.split(",")}
    if not tasks or not named <= {*benchmarks.OWN_TASKS, *benchmarks.SUITES}:
        return None
    counts = []
    for task in tasks:
        files = data.task_files(task)
        count = data.count_rows(files) if files else benchmarks.BENCHMARKS[benchmarks.OWN_TASKS[task]].documents
        if count is None:
            return None
        counts.append(count if suite.limit is None else min(count, suite.limit))
    return sum(counts)


def due(jobs: Sequence[Job]) -> list[Job]:
    """Rows that are not finished, those that load the same model beside each other."""
    waiting = [job for job in jobs if not is_finished(job.step)]
    order = {loads: place for place, loads in reversed(list(enumerate(job.loads for job in waiting)))}
    return sorted(waiting, key=lambda job: order[job.loads])


def shard(jobs: Sequence[Job], which: str) -> list[Job]:
    """Take one part of the rows, for a cluster.

    Args:
        which: `i/n`, i from 1 to n.

    Raises:
        ConfigError: another form, or numbers out of range.

    Example:
        shard(jobs, "1/2")  # rows 1, 3, 5, ...
    """
    first, _, parts = which.partition("/")
    if not (first.isdecimal() and parts.isdecimal() and 1 <= int(first) <= int(parts)):
        raise ConfigError(f"--shard {which}: give i/n with i from 1 to n, such as 1/4")
    return list(jobs[int(first) - 1 :: int(parts)])


def named(jobs: Sequence[Job], names: Sequence[str]) -> list[Job]:
    """Take the rows of these names; all of them where none is given. Raises ConfigError for one that is not there."""
    known = [job.row.name for job in jobs]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--row {unknown[0]}: no such row; there are: {', '.join(known)}")
    return [job for job in jobs if not names or job.row.name in names]
