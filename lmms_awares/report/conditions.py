"""What makes numbers incomparable: the footer under a table, and warnings where its rows differ."""

from collections.abc import Iterable

import pandas as pd

from lmms_awares.report.collect import Source, in_order, is_mini
from lmms_awares.report.samples import CONDITIONS
from lmms_awares.report.terminal import remarks

_BY_METHOD = ("revision", "prompt")  # differ between methods on purpose: shown, and warned of within one method
_TIMES = ("device", "batch_size")  # matter for latency only
_TRACED = ("prompt", *CONDITIONS, "batch_size")
_SETTINGS = ("limit", "offset", "gen_kwargs")
_Values = dict[str, tuple[str, ...]]


def conditions_of(source: Source) -> _Values:
    """Each condition's values in one run; more than one where it was resumed under other conditions."""
    found: dict[str, dict[str, None]] = {name: {} for name in (*_TRACED, *_SETTINGS)}
    for frame in source.frames.values():
        for name in _TRACED:  # null where there is no trace
            column = frame[name]
            coded = isinstance(column.dtype, pd.CategoricalDtype)  # texts are: their values need no search
            values = column.cat.categories if coded else column.dropna().unique()
            found[name].update(
                dict.fromkeys(str(int(value)) if isinstance(value, float) else str(value) for value in values)
            )
    sizes = [int(size) for size in found["batch_size"]]
    found["batch_size"] = {str(max(sizes)): None} if sizes else {}  # the last batch of a task is smaller
    for name in _SETTINGS:
        value = source.run.results["config"].get(name) or "none"
        found[name][f"{value:g}" if isinstance(value, float) else str(value)] = None
    return {name: tuple(values) or ("unknown",) for name, values in found.items()}


def footer(sources: list[Source], rows: list[str]) -> list[str]:
    """Lines for below a table: what all rows share, what differs, what failed.

    Args:
        sources: the runs.
        rows: each one's row name.
    """
    by_row = list(zip(rows, map(conditions_of, sources), strict=True))
    shared, lines = [], []
    for name in (*_TRACED, *_SETTINGS):
        values = {row: found[name] for row, found in by_row}
        distinct = set(values.values())
        if len(distinct) == 1 and len(next(iter(distinct))) == 1:
            shared.append(f"{name} {next(iter(distinct))[0]}")
        else:
            lines.append(_difference(name, by_row, _same_method(name, sources)))
    lines += _documents(sources, rows)
    for row, source in zip(rows, sources, strict=True):
        lines += [f"{line} ({row})" for line in remarks(source.summary)]
    if any(is_mini(task) for source in sources for task in source.frames):
        lines.insert(0, "(mini): synthetic suite and tiny checkpoint, a demonstration, not a result")
    return [f"same in all rows: {', '.join(shared)}", *lines] if shared else lines


def _same_method(name: str, sources: list[Source]) -> bool:
    """True where runs of one method differ in `name`."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for source in sources:
        found.setdefault(source.method, set()).add(conditions_of(source)[name])
    return any(len(values) > 1 or len(next(iter(values))) > 1 for values in found.values())


def _difference(name: str, by_row: list[tuple[str, _Values]], within_method: bool) -> str:
    groups: dict[str, list[str]] = {}
    for row, found in by_row:
        groups.setdefault(" and ".join(found[name]), []).append(row)
    listed = "; ".join(f"{value} ({', '.join(dict.fromkeys(names))})" for value, names in groups.items())
    if name in _BY_METHOD and not within_method:
        return f"{name}: {listed}"
    what = "latency does not compare" if name in _TIMES else "scores and RTR do not compare"
    how = f"{name} changed within" if len(groups) == 1 else f"rows differ in {name}, so {what}"
    return f"warning: {how}: {listed}"


def _documents(sources: list[Source], rows: list[str]) -> Iterable[str]:
    """Warnings for tasks whose rows were not run on the same documents."""
    for task in in_order(task for source in sources for task in source.frames):
        having = [(row, source) for row, source in zip(rows, sources, strict=True) if task in source.frames]
        if len({tuple(sorted(source.frames[task]["doc_id"])) for _, source in having}) > 1:
            counts = ", ".join(f"{row} {len(source.frames[task])}" for row, source in having)
            yield f"warning: rows differ in the documents of {task}, so they do not compare: {counts}"
        data = {str(_data(source, task)) for _, source in having}
        if len(data) > 1:
            yield f"warning: rows differ in the data of {task}: {'; '.join(sorted(data))}"


def _data(source: Source, task: str) -> object:
    config = source.run.results["configs"][task]
    return (config.get("dataset_kwargs") or {}).get("data_files") or config.get("dataset_path")
