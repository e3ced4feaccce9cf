"""Tables of tool calls: how often, whether needed, for which crops, and in which form."""

from collections.abc import Callable

import pandas as pd

from lmms_awares.report.read.benchmarks import in_order, title_of
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.resolution_labels import labelled
from lmms_awares.report.read.samples import answered
from lmms_awares.report.read.summary import areas
from lmms_awares.report.tables.cdp import CDP_COLUMNS, crop_shares, diagnose, formatting
from lmms_awares.report.tables.conditions import marked, mixtures
from lmms_awares.report.tables.table import Table, cell, frame_of

_CDP_NOTE = "positive: label HR, and a call that could be executed; IoU: of calls on HR samples; area: of all calls"
_FORM_NOTE = "of the calls that the model itself attempted; recoverable: known ids could be taken out"


def calls_table(lineup: Lineup) -> Table:
    """Make a table of Table 8's measures: averages over benchmarks, call rate, mean area of the calls."""
    table, tasks, mixed = [], lineup.tasks, mixtures(lineup)
    for row, frames in lineup.rows.items():
        star = row in mixed.scores
        kept = {task: answered(frame) for task, frame in frames.items()}
        complete = len(kept) == len(tasks)
        calls = pd.concat([frame[frame["called"]] for frame in kept.values()])
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
    """Make Table 7, over all labelled samples of a row; shares in %, area as a fraction.

    Args:
        lineup: the runs.
        labels_of: the labels of a run's samples, as `lmms_awares.report.read.resolution_labels.read_labels` gives them.
    """
    samples: dict[str, list[pd.DataFrame]] = {}
    for row, source in lineup.named:
        samples.setdefault(row, []).append(labelled(source, labels_of(source)))
    table = [{("", "method"): row, **cdp_cells(pd.concat(parts))} for row, parts in samples.items()]
    return Table("CDP diagnostics, shares in %", frame_of(table), [_CDP_NOTE])


def cdp_cells(samples: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return the cells of one row of diagnostics."""
    found = diagnose(samples)
    text = {
        name: cell(found[name] if name == "area" else 100 * found[name], 3 if name == "area" else 2) for name in found
    }
    counts = {("samples", "all"): str(len(samples)), ("samples", "HR"): str(int(samples["hr"].sum()))}
    groups = dict.fromkeys(CDP_COLUMNS[:4], "call decision") | dict.fromkeys(CDP_COLUMNS[4:7], "region decision")
    return counts | {(groups.get(name, ""), name): text[name] for name in CDP_COLUMNS}


def format_table(lineup: Lineup) -> Table:
    """Make Table 9: the form of the calls that a model attempted itself, in %."""
    table = [{("", "method"): row, **format_cells(frames)} for row, frames in lineup.rows.items()]
    return Table("Form of the tool calls, %", frame_of(table), [_FORM_NOTE])


def format_cells(frames: dict[str, pd.DataFrame]) -> dict[tuple[str, str], str]:
    """Return the cells of one row of formatting reliability."""
    found = formatting(frames.values())
    groups = {"calls": "", "valid": ""}
    return {
        (groups.get(name, "corrupt outputs"), "total" if name == "corrupt" else name): str(int(value))
        if name == "calls"
        else cell(100 * value, 2)
        for name, value in found.items()
    }


def cdp_by_benchmark(source: Source, labels: pd.DataFrame) -> Table:
    """Make a table of Table 7's measures of one run, per benchmark and over all labelled samples."""
    samples = labelled(source, labels)
    parts = {title_of(task): samples[samples["task"] == task] for task in in_order(samples["task"])}
    rows = [{("", "benchmark"): name, **cdp_cells(part)} for name, part in [*parts.items(), ("all", samples)]]
    return Table(f"CDP diagnostics of {source.method}, shares in %", frame_of(rows), [_CDP_NOTE])


def form_by_benchmark(source: Source) -> Table:
    """Make a table of Table 9's measures of one run, per benchmark and over all samples."""
    frames = {title_of(task): {task: source.frames[task]} for task in in_order(source.frames)}
    rows = [{("", "benchmark"): name, **format_cells(part)} for name, part in [*frames.items(), ("all", source.frames)]]
    return Table(f"Form of the tool calls of {source.method}, %", frame_of(rows), [_FORM_NOTE])


def policy_table(source: Source) -> Table:
    """Make a table of call rate, area and crop distribution (Fig. 5) of one run, per benchmark and over all samples."""
    frames = {title_of(task): answered(source.frames[task]) for task in in_order(source.frames)}
    rows = []
    for name, frame in [*frames.items(), ("all", pd.concat(frames.values()))]:
        traced = frame[frame["traced"]]
        calls = traced[traced["called"]]
        shares = crop_shares(traced)
        cells = {("", "benchmark"): name, ("", "samples"): str(len(frame))}
        cells["", "call rate"] = cell(100 * traced["called"].mean(), 2)
        cells["", "area"] = cell(areas(calls).mean() if len(calls) else None, 3)
        rows.append(cells | {("asked for", crop): cell(100 * share, 2) for crop, share in shares.items()})
    notes = ["% of the answered samples; a call for several crops counts for each; area: mean over calls"]
    return Table(f"Crop policy of {source.method}", frame_of(rows), notes)
