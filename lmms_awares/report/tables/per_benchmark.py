"""Tables with a measure per benchmark: latency, response length, the hard split, scores by label."""

from collections.abc import Callable

import pandas as pd

from lmms_awares.report.read.benchmarks import in_order, title_of
from lmms_awares.report.read.content import changed
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.samples import RunError, answered
from lmms_awares.report.tables.conditions import Mixtures, marked, mixtures
from lmms_awares.report.tables.table import Table, cell, frame_of, rounded

Frames = dict[str, dict[str, pd.DataFrame]]
_LATENCY = "latency s"
_PARTS, _SPEED = ("preprocess_s", "vision_s", "prefill_s", "decode_s"), "tokens/s"
_WRONG = 0.5  # a score below it; only DocVQA's ANLS is graded, and it is 0 where it would be below


def latency_table(lineup: Lineup) -> Table:
    """Make Table 5: score and mean wall clock per sample in seconds, its parts, and the speed of decoding."""
    mixed = mixtures(lineup)
    frame = _per_benchmark(
        lineup.rows,
        lineup.tasks,
        mixed,
        {
            "score": (lambda frame: 100 * frame["score"].mean(), 2),
            _LATENCY: (lambda frame: frame["latency_s"].mean(), 3),
        },
    )
    parts = {row: _parts(frames, lineup.tasks) for row, frames in lineup.rows.items()}
    for name in (*_PARTS, _SPEED):
        cells = [marked(own[name], mixed=row in mixed.times) for row, own in parts.items()]
        frame["of the average", name.replace("_s", " s")] = cells
    notes = [
        "latency: start of the first turn to the end of the last, mean; compares on one machine, at one batch size",
        "of the average, all turns: preprocess, of which the first turn's is before the latency; vision: the tower and "
        "a pruner behind it; prefill: the language model up to the first token; decode: from there to the last",
        "tokens/s: tokens behind each turn's first by their decode s, of one sample in its batch",
    ]
    return Table("Score (0-100) and latency per benchmark", frame, [*notes, *mixed.notes()])


def _parts(frames: dict[str, pd.DataFrame], tasks: list[str]) -> dict[str, str]:
    """Cells of one row: means over benchmarks, `-` where a benchmark is missing or a sample does not say."""
    own = [answered(frames[task]) for task in tasks if task in frames]
    complete = len(own) == len(tasks)
    cells = {}
    for name in _PARTS:
        means = pd.Series([frame[name].mean(skipna=False) for frame in own], dtype=float)
        cells[name] = cell(means.mean(skipna=False) if complete else None, 3)
    sums = [frame[["tokens_after_first", "decode_s"]].sum(skipna=False) for frame in own]
    tokens, seconds = (sum(each[name] for each in sums) for name in ("tokens_after_first", "decode_s"))
    cells[_SPEED] = cell(tokens / seconds if complete and seconds else None, 1)
    return cells


def length_table(lineup: Lineup) -> Table:
    """Make Table 6: characters of all assistant text and new tokens, mean and standard deviation.

    With several rows each but the reference has the ratio of its mean characters to the reference's: the row of
    `awares`, or where there is none the last one.
    """
    rows, table = lineup.rows, []
    reference = "awares" if "awares" in rows else list(rows)[-1]
    for task in lineup.tasks:
        found = {row: answered(frames[task]) for row, frames in rows.items() if task in frames}
        cells = {("", "benchmark"): title_of(task), ("", "samples"): str(max(map(len, found.values())))}
        means = {row: frame["response_chars"].mean() for row, frame in found.items()}
        for row in rows:
            for name, column in (("chars", "response_chars"), ("tokens", "new_tokens")):
                cells[row, name] = _spread(found[row][column]) if row in found else "-"
            if row != reference:
                known = row in means and means.get(reference)
                cells[row, "ratio"] = rounded(means[row] / means[reference] if known else None)
        table.append(cells)
    notes = ["mean ± standard deviation over samples", f"ratio: of mean characters to those of {reference}"]
    return Table(
        "Response length, characters and tokens of all turns", frame_of(table), notes if len(rows) > 1 else notes[:1]
    )


def _spread(values: pd.Series) -> str:
    return f"{cell(values.mean(), 1)} ± {cell(values.std(), 1)}"


def hard_table(lineup: Lineup) -> Table:
    """Make a table of scores on those samples alone that the low-res view gets wrong.

    Raises:
        RunError: no low-res run among the sources.
    """
    rows = lineup.rows
    named = [(row, source) for row, source in lineup.named if source.lowres_only]
    if not named:
        raise RunError("the hard split needs a low-res run beside the others: qwen2_5_vl_lowres or awares:never")
    # A baseline of its own goes before a control policy, which has no nominal budget.
    lowres, _ = min(named, key=lambda pair: bool(pd.isna(pair[1].summary["nominal"].iloc[0])))
    reference = rows[lowres]  # of all its benchmarks, also where each has a run of its own
    hard = {task: _wrong(frame) for task, frame in reference.items()}

    def _shares(task: str, frame: pd.DataFrame) -> bool:
        """Return True where a row has the low-res run's documents; their numbers alone would not tell."""
        return task in hard and not changed(reference[task], frame)

    kept: Frames = {
        row: {task: frame[frame["doc_id"].isin(hard[task])] for task, frame in frames.items() if _shares(task, frame)}
        for row, frames in rows.items()
    }
    mixed = mixtures(lineup)
    frame = _per_benchmark(
        kept,
        in_order(hard),
        mixed,
        {"score": (lambda frame: 100 * frame["score"].mean(), 2), "RTR": (lambda frame: frame["rtr"].mean(), 3)},
    )
    counts = [f"{title_of(task)} {len(hard[task])} of {len(reference[task])}" for task in in_order(hard)]
    notes = [f"hard samples, where {lowres} scores below {_WRONG}: {', '.join(counts)}"]
    apart = [
        f"{title_of(task)} of {row}"
        for row, frames in rows.items()
        for task in hard
        if task in frames.keys() - kept[row].keys()
    ]
    notes += [f"no cell where the documents are others than those of {lowres}: {', '.join(apart)}"] if apart else []
    return Table(
        "Hard split: score (0-100) and RTR on the samples that low-res gets wrong", frame, [*notes, *mixed.notes()]
    )


def split_table(lineup: Lineup, labels_of: Callable[[Source], pd.DataFrame]) -> Table:
    """Make a table of scores on samples for which the low-res view suffices by label (LR), and on the others (HR).

    Args:
        lineup, labels_of: as for `cdp_table`.
    """
    rows: Frames = {}
    for row, source in lineup.named:
        known = labels_of(source)
        for task, frame in source.frames.items():
            rows.setdefault(row, {})[task] = frame.merge(known[known["task"] == task], on="doc_id")
    measures: dict[str, tuple[Callable[[pd.DataFrame], float], int]] = {
        "LR": (lambda frame: 100 * frame.loc[~frame["hr"].astype(bool), "score"].mean(), 2),
        "HR": (lambda frame: 100 * frame.loc[frame["hr"].astype(bool), "score"].mean(), 2),
    }
    note = "LR: samples whose label says that the low-res view suffices; HR: the others; unlabelled ones are left out"
    mixed = mixtures(lineup)
    frame = _per_benchmark(rows, lineup.tasks, mixed, measures)
    return Table("Score (0-100) by label", frame, [note, *mixed.notes()])


def _wrong(frame: pd.DataFrame) -> pd.Series:
    return frame.loc[frame["failed"].isna() & (frame["score"] < _WRONG), "doc_id"]


def _per_benchmark(
    rows: Frames, tasks: list[str], mixed: Mixtures, measures: dict[str, tuple[Callable[[pd.DataFrame], float], int]]
) -> pd.DataFrame:
    """Return each measure (function and digits) per benchmark, and its average where a row has all benchmarks.

    The average of a row in `mixed` is marked.
    """
    table = []
    for row, frames in rows.items():
        values = {
            (task, name): measure(answered(frames[task])) if task in frames else float("nan")
            for task in tasks
            for name, (measure, _) in measures.items()
        }
        cells = {("", "method"): row}
        cells |= {(title_of(task), name): cell(value, measures[name][1]) for (task, name), value in values.items()}
        for name, (_, digits) in measures.items():
            column = pd.Series([values[task, name] for task in tasks])
            star = row in (mixed.times if name == _LATENCY else mixed.scores)
            cells["average", name] = marked(cell(column.mean(skipna=False), digits), mixed=star)
        table.append(cells)
    return frame_of(table)
