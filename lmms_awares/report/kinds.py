"""The tables beside the main one: latency, response length, CDP, calls, form of calls, and the hard split."""

from collections.abc import Callable

import pandas as pd

from lmms_awares.crops import CROPS
from lmms_awares.report.cdp import CDP_COLUMNS, diagnose, formatting
from lmms_awares.report.collect import Lineup, Source, in_order, title_of
from lmms_awares.report.conditions import Mixtures, marked, mixtures
from lmms_awares.report.content import changed
from lmms_awares.report.labels import labelled
from lmms_awares.report.runs import RunError, areas
from lmms_awares.report.tables import Table, cell, frame_of

Frames = dict[str, dict[str, pd.DataFrame]]
_LATENCY = "latency s"
_CDP_NOTE = "positive: label HR, and a call that could be executed; IoU: of calls on HR samples; area: of all calls"
_FORM_NOTE = "of the calls that the model itself attempted; recoverable: known ids could be taken out"
_WRONG = 0.5  # a score below it; only DocVQA's ANLS is graded, and it is 0 where it would be below


def latency_table(lineup: Lineup) -> Table:
    """Table 5: score and mean wall clock per sample."""
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
    note = "latency: start of the first turn to the end of the last, mean; compares on one machine, at one batch size"
    return Table("Score (0-100) and latency per benchmark", frame, [note, *mixed.notes()])


def length_table(lineup: Lineup) -> Table:
    """Table 6: characters of all assistant text, mean and standard deviation; new tokens beside them."""
    rows, table = lineup.rows, []
    for task in lineup.tasks:
        found = {row: answered(frames[task]) for row, frames in rows.items() if task in frames}
        cells = {("", "benchmark"): title_of(task), ("", "samples"): str(max(map(len, found.values())))}
        for row in rows:
            chars = found[row]["response_chars"] if row in found else pd.Series(dtype=float)
            cells[row, "chars"] = f"{cell(chars.mean(), 1)} ± {cell(chars.std(), 1)}"
            cells[row, "tokens"] = cell(found[row]["new_tokens"].mean(), 1) if row in found else "-"
        if len(rows) == 2:
            first, second = (found[row]["response_chars"].mean() if row in found else float("nan") for row in rows)
            cells["", "ratio"] = cell(first / second if second else float("nan"), 1)
        table.append(cells)
    return Table("Response length, characters and tokens of all turns", frame_of(table), ["mean ± standard deviation"])


def calls_table(lineup: Lineup) -> Table:
    """Table 8's measures: averages over benchmarks, call rate, mean area of the calls."""
    table, tasks, mixed = [], lineup.tasks, mixtures(lineup)
    for row, frames in lineup.rows.items():
        star = row in mixed.scores
        kept = {task: answered(frame) for task, frame in frames.items()}
        complete = len(kept) == len(tasks)
        calls = pd.concat([frame.loc[frame["called"], "ids"] for frame in kept.values()])
        called = {task: frame["called"].astype(float).where(frame["traced"]) for task, frame in kept.items()}
        parts = [frame[["score", "rtr"]].assign(called=called[task]).mean() for task, frame in kept.items()]
        means = pd.DataFrame(parts).mean(skipna=False)
        table.append(
            {
                ("", "method"): row,
                ("average", "score"): marked(cell(100 * means["score"] if complete else None, 2), mixed=star),
                ("average", "RTR"): marked(cell(means["rtr"] if complete else None, 3), mixed=star),
                ("average", "call rate"): marked(cell(means["called"] if complete else None, 3), mixed=star),
                ("", "area"): marked(cell(areas(calls).mean() if len(calls) else None, 3), mixed=star),
            }
        )
    note = "area: mean fraction of the image that a call asks for, over all calls"
    return Table("Calls", frame_of(table), [note, *mixed.notes()])


def cdp_table(lineup: Lineup, labels_of: Callable[[Source], pd.DataFrame]) -> Table:
    """Table 7, over all labelled samples of a row; shares in %, area as a fraction.

    Args:
        lineup: the runs.
        labels_of: the labels for a run's samples, as `lmms_awares.report.labels.read_labels` gives them.
    """
    samples: dict[str, list[pd.DataFrame]] = {}
    for row, source in lineup.named:
        samples.setdefault(row, []).append(labelled(source, labels_of(source)))
    table = [{("", "method"): row, **cdp_cells(pd.concat(parts))} for row, parts in samples.items()]
    return Table("CDP diagnostics, shares in %", frame_of(table), [_CDP_NOTE])


def cdp_cells(samples: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Cells of one row of diagnostics."""
    found = diagnose(samples)
    text = {
        name: cell(found[name] if name == "area" else 100 * found[name], 3 if name == "area" else 2) for name in found
    }
    counts = {("samples", "all"): str(len(samples)), ("samples", "HR"): str(int(samples["hr"].sum()))}
    groups = dict.fromkeys(CDP_COLUMNS[:4], "call decision") | dict.fromkeys(CDP_COLUMNS[4:7], "region decision")
    return counts | {(groups.get(name, ""), name): text[name] for name in CDP_COLUMNS}


def format_table(lineup: Lineup) -> Table:
    """Table 9: how the calls that a model attempted itself were written, in %."""
    table = [{("", "method"): row, **format_cells(frames)} for row, frames in lineup.rows.items()]
    return Table("Form of the tool calls, %", frame_of(table), [_FORM_NOTE])


def format_cells(frames: dict[str, pd.DataFrame]) -> dict[tuple[str, str], str]:
    """Cells of one row of formatting reliability."""
    found = formatting(frames.values())
    groups = {"calls": "", "valid": ""}
    return {
        (groups.get(name, "corrupt outputs"), "total" if name == "corrupt" else name): str(int(value))
        if name == "calls"
        else cell(100 * value, 2)
        for name, value in found.items()
    }


def cdp_by_benchmark(source: Source, labels: pd.DataFrame) -> Table:
    """Table 7's measures of one run, per benchmark and over all labelled samples."""
    samples = labelled(source, labels)
    parts = {title_of(task): samples[samples["task"] == task] for task in in_order(samples["task"])}
    rows = [{("", "benchmark"): name, **cdp_cells(part)} for name, part in [*parts.items(), ("all", samples)]]
    return Table(f"CDP diagnostics of {source.method}, shares in %", frame_of(rows), [_CDP_NOTE])


def form_by_benchmark(source: Source) -> Table:
    """Table 9's measures of one run, per benchmark and over all samples."""
    frames = {title_of(task): {task: source.frames[task]} for task in in_order(source.frames)}
    rows = [{("", "benchmark"): name, **format_cells(part)} for name, part in [*frames.items(), ("all", source.frames)]]
    return Table(f"Form of the tool calls of {source.method}, %", frame_of(rows), [_FORM_NOTE])


def policy_table(source: Source) -> Table:
    """Call rate, area and crop distribution (Fig. 5) of one run, per benchmark and over all samples."""
    frames = {title_of(task): answered(source.frames[task]) for task in in_order(source.frames)}
    rows = []
    for name, frame in [*frames.items(), ("all", pd.concat(frames.values()))]:
        traced = frame[frame["traced"]]
        calls = traced.loc[traced["called"], "ids"]
        shares = crop_shares(traced)
        cells = {("", "benchmark"): name, ("", "samples"): str(len(frame))}
        cells["", "call rate"] = cell(100 * traced["called"].mean(), 2)
        cells["", "area"] = cell(areas(calls).mean() if len(calls) else None, 3)
        rows.append(cells | {("asked for", crop): cell(100 * share, 2) for crop, share in shares.items()})
    notes = ["% of the answered samples; a call for several crops counts for each; area: mean over calls"]
    return Table(f"Crop policy of {source.method}", frame_of(rows), notes)


def crop_shares(traced: pd.DataFrame) -> dict[str, float]:
    """Share (0..1) of samples that ask for nothing (`no crop`), and for each crop, by name.

    A call for several crops counts for each; one that names no crop is shown the whole image and counts as `no crop`.
    """
    counts = traced.loc[traced["called"], "ids"].value_counts()
    shares = {"no crop": float((~traced["called"]).mean())}
    for crop in CROPS.values():
        asking = sum(count for ids, count in counts.items() if crop.id in str(ids).split(","))
        shares[crop.name] = asking / len(traced) if len(traced) else float("nan")
    return shares


def hard_table(lineup: Lineup) -> Table:
    """Scores on the samples alone that the low-res view gets wrong.

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
        """Numbers of documents say nothing where the documents are others."""
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
    """Scores on the samples for which the low-res view is said to suffice (LR), and on the others (HR).

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


def answered(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of samples that did not fail."""
    return frame[frame["failed"].isna()]


def _per_benchmark(
    rows: Frames, tasks: list[str], mixed: Mixtures, measures: dict[str, tuple[Callable[[pd.DataFrame], float], int]]
) -> pd.DataFrame:
    """Each measure (function and digits) per benchmark, and its average where a row has all benchmarks.

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
