"""Table of what offering the tool changes: the score gap and its four terms."""

import numpy as np

from lmms_awares.report.gate.gain import TERMS, bounds, gains
from lmms_awares.report.gate.paired import Values
from lmms_awares.report.read.benchmarks import in_order, title_of
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.tables.conditions import footer
from lmms_awares.report.tables.intervals import RESAMPLES
from lmms_awares.report.tables.table import Table, cell, frame_of

_NOTES = [
    "gap: score with the tool offered minus score without; it is the sum of the four terms",
    "call: documents whose reply called; schema: the others; gain: score that rose; harm: score that fell",
    f"[low, high]: 95 % bootstrap interval over the documents, {RESAMPLES} resamples",
]


def gain_table(offered: Source, without: Source) -> Table:
    """Make a table of score gap, call and schema gain, call and schema harm, per benchmark and their average.

    Args:
        offered: a run with the tool.
        without: one of the same checkpoint and documents without it.

    Raises:
        RunError: as `lmms_awares.report.gate.gain.gains`.
    """
    paired = gains(offered, without)
    rows = []
    tasks = in_order(paired)
    for name, frames in [*((title_of(task), [paired[task]]) for task in tasks), ("average", list(paired.values()))]:
        columns = {column: [frame[column].to_numpy(dtype=float) for frame in frames] for column in frames[0]}
        gap = [after - before for after, before in zip(columns["offered"], columns["without"], strict=True)]
        rows.append(
            {
                ("", "benchmark"): name,
                ("", "n"): str(sum(map(len, frames))),
                ("score", "without"): cell(_points(columns["without"]), 2),
                ("score", "offered"): cell(_points(columns["offered"]), 2),
                ("", "calls"): cell(float(np.mean([values.mean() for values in columns["called"]])), 3),
                ("", "gap"): _with_bounds(gap),
                **{(term.split()[0], term.split()[1]): _with_bounds(columns[term]) for term in TERMS},
            }
        )
    title = f"What the tool changes: {offered.method} against {without.method}, points of score"
    return Table(title, frame_of(rows), [*_NOTES, *footer(Lineup.of([offered, without]))])


def _points(columns: list[Values]) -> float:
    """Mean over benchmarks of each one's mean, 0..100."""
    return 100 * float(np.mean([values.mean() for values in columns]))


def _with_bounds(columns: list[Values]) -> str:
    found = bounds(columns)
    text = cell(_points(columns), 2)
    return text if found is None else f"{text} [{found[0]:.2f}, {found[1]:.2f}]"
