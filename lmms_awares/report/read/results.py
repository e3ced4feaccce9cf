"""One evaluation as lmms-eval wrote it: a results file, and the sample files beside it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lmms_awares.report.read.samples import RunError, read_rows, read_samples
from lmms_awares.trace import Trace

RESULTS = "_results.json"


@dataclass(frozen=True)
class Run:
    """One evaluation, or several into one folder, benchmark by benchmark.

    Attributes:
        path: the newest results file.
        results: its content.
        others: tasks whose newest result is in another file.
    """

    path: Path
    results: dict[str, Any]
    others: dict[str, "Run"] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The lmms-eval model id."""
        return str(self.results["config"]["model"])

    @property
    def tasks(self) -> list[str]:
        """Scored tasks, groups left out, in the order of the run; those of other files behind them."""
        own = [task for task in self.results["results"] if task in self.results["configs"]]
        return list(dict.fromkeys([*own, *self.others]))

    @property
    def files(self) -> list[Path]:
        """The results files that count, newest first."""
        return list(dict.fromkeys([self.path, *(run.path for run in self.others.values())]))

    def of(self, task: str) -> "Run":
        """Return the evaluation that a task's result comes from."""
        return self.others.get(task, self)

    def config(self, task: str) -> dict[str, Any]:
        """Return a task's own configuration, as lmms-eval recorded it."""
        config: dict[str, Any] = self.of(task).results["configs"][task]
        return config

    def settings(self, task: str) -> dict[str, Any]:
        """Return the arguments of lmms-eval's run of the task: limit, offset, batch size, ..."""
        settings: dict[str, Any] = self.of(task).results["config"]
        return settings

    @property
    def revision(self) -> str | None:
        """Hash of checkpoint and adapter in the first sample's trace; None where no trace holds one."""
        for task in self.tasks:
            if self.samples_file(task).is_file():
                _, trace = next(self.samples(task), (None, None))
                if trace is not None:
                    return trace.conditions.revision
        return None

    @property
    def retain_ratio(self) -> float | None:
        """`retain_ratio` of the model arguments: the nominal budget of a fixed-budget method."""
        value = self.model_args.get("retain_ratio")
        return None if value is None else float(value)

    @property
    def model_args(self) -> dict[str, str]:
        """`--model_args`, as text."""
        given = self.results["config"].get("model_args") or {}
        if isinstance(given, str):
            given = dict(pair.split("=", 1) for pair in given.split(",") if "=" in pair)
        return {name: str(value) for name, value in given.items()}

    def samples_file(self, task: str) -> Path:
        """Return the file with the rows of one task."""
        path = self.of(task).path
        return path.with_name(f"{path.name.removesuffix(RESULTS)}_samples_{task}.jsonl")

    def is_whole(self, task: str) -> bool:
        """Return True where the samples file exists and has as many lines as lmms-eval counted, if it did count."""
        try:
            with self.samples_file(task).open("rb") as lines:
                self.check_count(task, sum(1 for _ in lines))
        except (OSError, RunError):
            return False
        return True

    def frame(self, task: str) -> pd.DataFrame:
        """Read the rows of one task as a table, see `lmms_awares.report.read.samples.read_samples`.

        Raises:
            RunError, TraceError: as there.
        """
        frame = read_samples(self.samples_file(task), scored=self.is_ours(task), model_args=self.of(task).model_args)
        self.check_count(task, len(frame))
        return frame

    def check_count(self, task: str, rows: int) -> None:
        """Compare the number of rows with lmms-eval's own count in the results, if there is one.

        Raises:
            RunError: there are more or fewer.
        """
        counts = self.of(task).results.get("n-samples", {}).get(task)
        if counts is None:
            return
        # lmms-eval does not count --offset in.
        expected = min(counts["effective"], counts["original"] - int(self.settings(task).get("offset") or 0))
        if rows != expected:
            raise RunError(f"{self.samples_file(task)} holds {rows} of {expected} rows; is it truncated?")

    def is_ours(self, task: str) -> bool:
        """Return True for tasks of this package: samples have a `score` of 0..1, and a trace if the model sent one."""
        metadata = self.config(task).get("metadata")
        return isinstance(metadata, dict) and bool(metadata.get("awares_envelope"))

    def samples(self, task: str) -> Iterator[tuple[dict[str, Any], Trace | None]]:
        """Yield the whole rows of one task with their traces, see `lmms_awares.report.read.samples.read_rows`.

        Raises:
            RunError, TraceError: as there.
        """
        return read_rows(self.samples_file(task))


def read(file: Path) -> Run:
    """Read one results file.

    Raises:
        RunError: the file is no results file.
    """
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise RunError(f"{file} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{file} is not JSON ({error.msg}); is it truncated?") from None
    parts = [results.get(name) for name in ("config", "configs", "results")] if isinstance(results, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{file} is no results file of lmms-eval")
    if "model" not in results["config"]:
        raise RunError(f"{file} does not say which model it is of (config has no model)")
    return Run(file, results)
