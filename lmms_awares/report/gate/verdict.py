"""The regression gate: did a candidate get worse than a baseline on any benchmark? The tests are in `paired.py`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lmms_awares.report.gate.baseline import Baseline, TaskSamples
from lmms_awares.report.gate.comparable import notes, obstacles, same_machine
from lmms_awares.report.gate.paired import Effect, Values, compare_pairs

Outcome = Literal["pass", "regression", "undecided", "not comparable"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "regression": 1, "undecided": 1, "not comparable": 2}
POINTS = 100
ALL = "all benchmarks"  # the row of all documents together


@dataclass(frozen=True)
class Rules:
    """Limits of the gate.

    Attributes:
        max_drop: margin in points of score (0..100): a row passes that is shown to lose less. A row that loses less may
            still fail, where its loss is beyond chance and not shown to be within the margin.
        max_rtr_rise: the same for RTR, in its own unit.
        alpha: chance that any row fails where nothing got worse, once for scores and once for RTR; no bound where
            something did get worse, by however little.
        strict: `undecided` fails too: each row must then be `ok`, shown to be worse by less than the margin, or `same`.
    """

    max_drop: float = 1.0
    max_rtr_rise: float = 0.02
    alpha: float = 0.05
    strict: bool = False


@dataclass(frozen=True)
class Row:
    """One benchmark, or `ALL` of them.

    Attributes:
        n: documents that were compared.
        left_out: documents that failed in both runs.
        score: in points.
        answers_differ: documents whose answer differs; None where one side does not hold the answers.
        rtr: None without traces.
        latency_ratio: mean of the candidate over mean of the baseline; None where the runs' devices or batches differ,
            and for `ALL`.
    """

    task: str
    metric: str
    n: int
    left_out: int
    answers_differ: int | None
    score: Effect
    rtr: Effect | None
    latency_ratio: float | None


@dataclass(frozen=True)
class Report:
    """The gate's findings. `reasons`: why the runs do not compare. `notes`: other differences."""

    baseline: str
    candidate: str
    rules: Rules
    rows: list[Row] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """`pass`, or what goes before it: `not comparable`, then `regression`, then `undecided` (where `strict`)."""
        if self.reasons:
            return "not comparable"
        failing = {effect.verdict for _, _, effect in self.effects() if self.fails(effect)}
        return "regression" if "worse" in failing else "undecided" if failing else "pass"

    def fails(self, effect: Effect) -> bool:
        """Return True where an effect makes the gate fail."""
        return effect.verdict == "worse" or (self.rules.strict and effect.verdict == "undecided")

    def effects(self) -> Iterator[tuple[str, str, Effect]]:
        """Yield (task, `score` or `rtr`, effect) of every test."""
        for row in self.rows:
            yield row.task, "score", row.score
            if row.rtr is not None:
                yield row.task, "rtr", row.rtr


def compare_runs(baseline: Baseline, candidate: Baseline, rules: Rules, names: tuple[str, str]) -> Report:
    """Compare two runs on every benchmark of the baseline, and on all documents of those together.

    Benchmarks that do not compare are named in `reasons`; the others are compared all the same.

    Args:
        baseline, candidate: of `load` or `reduce_run`.
        rules: limits of the gate.
        names: of the two runs in the report.
    """
    reasons: dict[str, list[str]] = {}  # what is wrong -> tasks
    pairs = []
    for task, before in baseline.tasks.items():
        after = candidate.tasks.get(task)
        found = ["missing in the candidate"] if after is None else obstacles(before, after)
        if not found and all(score is None for score in before.scores):
            found = ["every sample failed in both runs"]
        for reason in found:
            reasons.setdefault(reason, []).append(task)
        if after is not None and not found:
            pairs.append((task, before, after))
    timed = same_machine(baseline, candidate)
    lines = [f"{', '.join(tasks)}: {reason}" for reason, tasks in reasons.items()]
    return Report(*names, rules, _rows(pairs, rules, timed=timed), lines, notes(baseline, candidate))


def _rows(pairs: list[tuple[str, TaskSamples, TaskSamples]], rules: Rules, *, timed: bool) -> list[Row]:
    answers = [_answers_differ(before, after) for _, before, after in pairs]
    scores = compare_pairs(
        [(_array(before.scores), _array(after.scores)) for _, before, after in pairs],
        scale=POINTS,
        lower_is_worse=True,
        margin=rules.max_drop,
        alpha=rules.alpha,
        changed=[bool(differ) for differ in answers],
    )
    traced = [pair for pair in pairs if _complete(pair[1]) and _complete(pair[2])]
    rises = compare_pairs(
        [(_array(before.rtr), _array(after.rtr)) for _, before, after in traced],
        scale=1,
        lower_is_worse=False,
        margin=rules.max_rtr_rise,
        alpha=rules.alpha,
    )
    rtr = dict(zip([*(task for task, _, _ in traced), ALL], rises, strict=False))
    rows = []
    for (task, before, after), effect, differ in zip(pairs, scores, answers, strict=False):
        n = len(_array(before.scores))
        ratio = _ratio(before, after) if timed and task in rtr else None
        rows.append(Row(task, before.metric, n, len(before.scores) - n, differ, effect, rtr.get(task), ratio))
    if len(pairs) > 1:
        known = [differ for differ in answers if differ is not None]
        differ = sum(known) if len(known) == len(answers) else None
        rows.append(Row(ALL, "pooled", sum(row.n for row in rows), 0, differ, scores[-1], rtr.get(ALL), None))
    return rows


def _answers_differ(before: TaskSamples, after: TaskSamples) -> int | None:
    """Count the documents with another answer; None where a side does not hold the answers."""
    if before.answers is None or after.answers is None:
        return None
    return sum(old != new for old, new in zip(before.answers, after.answers, strict=True))


def _array(values: list[float | None]) -> Values:
    """Return the values of the samples that did not fail, in the order of the documents."""
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _complete(samples: TaskSamples) -> bool:
    """Return True where every answered sample has a trace."""
    return [value is None for value in samples.rtr] == [score is None for score in samples.scores]


def _ratio(before: TaskSamples, after: TaskSamples) -> float | None:
    old, new = _array(before.latency_s).mean(), _array(after.latency_s).mean()
    return float(new / old) if old > 0 else None
