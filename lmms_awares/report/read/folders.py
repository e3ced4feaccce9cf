"""Search for runs in lmms-eval's result folders."""

import sys
from pathlib import Path

from lmms_awares.report.read.results import RESULTS, Run, read
from lmms_awares.report.read.samples import RunError


def find_runs(folder: Path, newer_than: float = 0.0) -> list[Run]:
    """Read every results file below `folder` that was written after `newer_than` (seconds since 1970), oldest first.

    lmms-eval's own date goes before the file's, which a copy may have lost.

    Raises:
        RunError: a results file that is not JSON.

    Example:
        for run in find_runs(Path("results/runs")):
            print(run.model, run.tasks)
    """
    files = [file for file in folder.rglob(f"*{RESULTS}") if file.stat().st_mtime >= newer_than]
    runs = [read(file) for file in files]
    return sorted(runs, key=lambda run: (str(run.results.get("date", "")), run.path.stat().st_mtime_ns, run.path))


def newest_run(folder: Path) -> Run:
    """Return the latest result of every task below `folder`, or the run of one results file.

    Results of one method and checkpoint that lie side by side belong together, as runs of one benchmark after the other
    leave them. Other results there are named on stderr and left out: those of other methods or checkpoints, and those
    of other folders, which hardly continue the same run.

    Raises:
        RunError: there is none.

    Example:
        summarize(newest_run(Path("results/runs")))
    """
    if folder.is_file():
        return read(folder)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; give an --output_path")
    runs = find_runs(folder)
    if not runs:
        raise RunError(f"{folder} holds no results (*{RESULTS}); is it an --output_path, or a curated set?")
    newest = runs[-1]
    if len({run.path.parent for run in runs}) > 1:
        _warn(
            f"{len(runs)} runs lie below {folder}; only the newest is taken, {newest.path}. {folder}/*/ gives them all"
        )
    beside = [run for run in reversed(runs) if run.path.parent == newest.path.parent]
    parts = [run for run in beside if _same_method(run, newest)]
    strangers = [str(run.path) for run in beside if run not in parts]
    if strangers:
        _warn(
            f"{newest.path.parent} holds several methods or checkpoints; those of {newest.path} count; left out: "
            f"{', '.join(strangers)}. A results file can be given as a run of its own"
        )
    return _merged(parts)


def _merged(parts: list[Run]) -> Run:
    """Merge runs: each task from the newest file that has whole samples of it. `parts`: newest first."""
    newest, others = parts[0], {}
    for task in dict.fromkeys(task for run in parts for task in run.tasks):
        holders = [run for run in parts if task in run.tasks]
        # With one file there is nothing to choose: what is wrong with it is said when it is read.
        whole = next((run for run in holders if run.is_whole(task)), None) if len(parts) > 1 else newest
        if whole is None and holders[0] is not newest:
            if holders[0].samples_file(task).is_file():
                others[task] = holders[0]  # what is wrong with it is said when it is read
            else:
                _warn(f"{task} of {holders[0].path} is left out: it has no samples file")
        elif whole is not None and whole is not newest:
            others[task] = whole
            if whole is not holders[0]:
                _warn(f"{holders[0].samples_file(task)} is not whole; {whole.path} counts")
    return Run(newest.path, newest.results, others)


def _same_method(run: Run, other: Run) -> bool:
    """Return True for one model, policy, pruner and ratio, and one checkpoint, however its path is spelled."""
    (method, checkpoint), (other_method, other_checkpoint) = map(_identity, (run, other))
    if method != other_method:
        return False
    if run.revision and other.revision:
        return run.revision == other.revision
    return checkpoint == other_checkpoint


def _identity(run: Run) -> tuple[tuple[object, ...], tuple[str | None, ...]]:
    given = run.model_args
    controls = given.get("policy", "model"), given.get("crops", "true").lower()
    method = run.model, *controls, given.get("pruner"), run.retain_ratio
    return method, (given.get("pretrained"), given.get("adapter"))


def _warn(text: str) -> None:
    print(f"awares: warning: {text}", file=sys.stderr)
