"""Conditions that make numbers incomparable, per benchmark: the footer under a table, and the marks at averages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lmms_awares.report.read.benchmarks import in_order, suite_of, title_of
from lmms_awares.report.read.content import changed, listed, same_documents
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.results import Run
from lmms_awares.report.read.samples import CONDITIONS
from lmms_awares.report.tables.remarks import remarks

_ARGUMENTS = "arguments"
_DRAWN = {
    "mini": "synthetic suite and tiny checkpoint, a demonstration, not a result",
    "graded": "synthetic suite with faint print and tiny checkpoint, a demonstration, not a result",
}
# Differ between methods on purpose: warned of within one method.
_BY_METHOD = ("revision", "family", "prompt", _ARGUMENTS)
_SERVERS = ("base_url", "concurrency")  # arguments of a run that a server answers
_TIMES = ("device", "batch_size", *_SERVERS)  # matter for latency only
_LATE = ("code", "family", "engine", *_SERVERS)  # some runs lack it, which is no difference
_NOTED = ("code",)  # of these, what is worth a line where it is missing
_TRACED = ("prompt", *CONDITIONS, "batch_size")
# What goes without saying where all rows share it.
_USUAL = ((_ARGUMENTS, "none"), ("family", "qwen2_5_vl"), ("engine", "local"))
_SETTINGS = ("limit", "offset", "gen_kwargs")
_NAMES = (*_TRACED, *_SETTINGS, *_SERVERS, _ARGUMENTS)
# Arguments of our models that the trace or the method's name tell, and those that change no number.
_TOLD = (
    *("pretrained", "adapter", "dtype", "attn_implementation", "min_pixels", "max_pixels", "lowres_base", "prompt"),
    *("policy", "crops", "pruner", "retain_ratio", "device_map", "journal", "rev", "setup", "workers"),
    *(*_SERVERS, "served_model", "api_key_env", "request_timeout"),
)
_STAR_NOTE = "*: an average over what does not compare; the warnings say why"

_Values = tuple[str, ...]  # of one condition in one benchmark: several where a run was resumed, none where unknown
_Cells = dict[str, dict[str, _Values]]  # by row and benchmark


@dataclass(frozen=True)
class Mixtures:
    """Rows that average over conditions that do not compare: of scores and RTR, and of latency (those included)."""

    scores: frozenset[str]
    times: frozenset[str]

    def notes(self) -> list[str]:
        """Explain the mark, if any row has it."""
        return [_STAR_NOTE] if self.times else []


def marked(text: str, *, mixed: bool) -> str:
    """Mark a cell with an average over conditions that do not compare."""
    return f"{text}*" if mixed and text != "-" else text


def conditions_of(source: Source) -> dict[str, dict[str, _Values]]:
    """Return each condition's values in one run, by benchmark."""
    found: dict[str, dict[str, _Values]] = {name: {} for name in _NAMES}
    for task, frame in source.frames.items():
        for name in _TRACED:  # null where there is no trace
            found[name][task] = _texts(frame[name])
        settings = source.run.settings(task)
        for name in _SETTINGS:
            value = settings.get(name) or "none"
            found[name][task] = (f"{value:g}" if isinstance(value, float) else str(value),)
        for name in _SERVERS:
            found[name][task] = _of_server(source.run.of(task), name)
        found[_ARGUMENTS][task] = (_arguments(source.run.of(task), traced=bool(frame["traced"].any())),)
    _largest_batches(source.run, found["batch_size"])
    return found


def _texts(column: pd.Series) -> _Values:
    coded = isinstance(column.dtype, pd.CategoricalDtype)  # texts are: their values need no search
    values = column.cat.categories if coded else column.dropna().unique()
    return tuple(dict.fromkeys(str(int(value)) if isinstance(value, float) else str(value) for value in values))


def _arguments(run: Run, *, traced: bool) -> str:
    told = _TOLD if traced else ()
    return ", ".join(f"{name}={value}" for name, value in sorted(run.model_args.items()) if name not in told) or "none"


def _of_server(run: Run, name: str) -> _Values:
    """An argument of a run that a server answered; nothing of another run."""
    return (str(run.model_args.get(name, "default")),) if "base_url" in run.model_args else ()


def _largest_batches(run: Run, sizes: dict[str, _Values]) -> None:
    """Keep one batch size per evaluation: the last batch of a benchmark is smaller, and so is that of a short one."""
    largest: dict[Path, int] = {}
    for task, values in sizes.items():
        setting = str(run.settings(task).get("batch_size"))
        path = run.of(task).path
        largest[path] = max([largest.get(path, 0), *map(int, values), int(setting) if setting.isdigit() else 0])
    for task, values in sizes.items():
        sizes[task] = (str(largest[run.of(task).path]),) if values else ()


def _by_condition(lineup: Lineup) -> dict[str, _Cells]:
    found: dict[str, _Cells] = {name: {} for name in _NAMES}
    for row, source in lineup.named:
        for name, values in conditions_of(source).items():
            found[name].setdefault(row, {}).update(values)
    return found


def mixtures(lineup: Lineup) -> Mixtures:
    """Find the rows that mix conditions, or whose documents are not those of most other rows."""
    scores: set[str] = set()
    times: set[str] = set()
    for name, cells in _by_condition(lineup).items():
        (times if name in _TIMES else scores).update(_mixed(cells))
    for frames in lineup.frames.values():
        first, *others = same_documents(frames)
        apart = [row for group in others for row in group]
        scores.update(apart if len(first) > len(apart) else frames if apart else ())
    return Mixtures(frozenset(scores), frozenset(times | scores))


def _mixed(cells: _Cells) -> list[str]:
    """Return the rows with more than one value of a condition; benchmarks where it is unknown do not count."""
    return [row for row, values in cells.items() if len(_union(values.values())) > 1]


def _union(values: Iterable[_Values]) -> _Values:
    return tuple(dict.fromkeys(value for several in values for value in several))


def footer(lineup: Lineup) -> list[str]:
    """Return the lines below a table: conditions that all rows share, those that differ, and failures."""
    shared, lines = [], []
    for name, cells in _by_condition(lineup).items():
        values = _union(value for by_task in cells.values() for value in by_task.values())
        nowhere = [row for row, by_task in cells.items() if not _union(by_task.values())]
        unrecorded = _not_recorded(name, cells) if values and name in _NOTED else []
        if len(values) == 1 and (not nowhere or name in _LATE):
            some = unrecorded or (nowhere and name in _SERVERS)  # "in all rows" would say too much
            untold = (name, values[0]) not in _USUAL and not some
            shared += [f"{name} {values[0]}"] if untold else []
        elif values:
            lines += [*_within(name, cells), *_between(name, cells, lineup.methods)]
        elif name not in _LATE:
            shared.append(f"{name} unknown")
        lines += unrecorded
    lines += _documents(lineup)
    for row, source in lineup.named:
        lines += [f"{line} ({row})" for line in remarks(source.summary)]
    drawn = {suite for suite in map(suite_of, lineup.tasks) if suite}
    lines = [f"({suite}): {remark}" for suite, remark in _DRAWN.items() if suite in drawn] + lines
    return [f"same in all rows: {', '.join(shared)}", *lines] if shared else lines


def brief(lines: Iterable[str]) -> list[str]:
    """Return what a caption says of a `footer`: what all rows share, and warnings without the rows behind them."""
    said = [line for line in lines if line.startswith(("same in all rows: ", "warning: ", "("))]
    return [": ".join(line.split(": ")[:2]) for line in said]


def _within(name: str, cells: _Cells) -> list[str]:
    """Warn of rows that have more than one value, with the benchmarks of each."""
    groups: dict[str, list[str]] = {}
    for row in _mixed(cells):
        benchmarks: dict[str, list[str]] = {}
        for task in in_order(cells[row]):
            if cells[row][task]:
                benchmarks.setdefault(" and ".join(cells[row][task]), []).append(title_of(task))
        groups.setdefault(_listing(benchmarks), []).append(row)
    what = "average latency does" if name in _TIMES else "averages do"
    return [
        f"warning: {name} differs within {', '.join(rows)}, whose {what} not compare: {listing}"
        for listing, rows in groups.items()
    ]


def _between(name: str, cells: _Cells, methods: Mapping[str, str]) -> list[str]:
    """Describe the differences between rows; per benchmark where one row alone has several values."""
    if not _mixed(cells):
        whole = {row: _union(values.values()) for row, values in cells.items()}
        return _difference(name, whole, methods, "")
    benchmarks: dict[tuple[tuple[str, _Values], ...], list[str]] = {}
    for task in in_order(task for values in cells.values() for task in values):
        having = tuple((row, values[task]) for row, values in cells.items() if values.get(task))
        benchmarks.setdefault(having, []).append(title_of(task))
    return [
        line
        for having, titles in benchmarks.items()
        for line in _difference(name, dict(having), methods, f" on {', '.join(titles)}")
    ]


def _difference(name: str, values: dict[str, _Values], methods: Mapping[str, str], where: str) -> list[str]:
    known = {row: found for row, found in values.items() if found or name not in _LATE}
    if len(set(known.values())) < 2:
        return []
    groups: dict[str, list[str]] = {}
    for row, found in known.items():
        groups.setdefault(" and ".join(found) or "unknown", []).append(row)
    if name in _BY_METHOD and not _within_a_method(known, methods):
        return [f"{name}{where}: {_listing(groups)}"]
    what = "latency does not compare" if name in _TIMES else "scores and RTR do not compare"
    return [f"warning: rows differ in {name}{where}, so {what}: {_listing(groups)}"]


def _within_a_method(values: dict[str, _Values], methods: Mapping[str, str]) -> bool:
    found: dict[str, set[_Values]] = {}
    for row, own in values.items():
        found.setdefault(methods[row], set()).add(own)
    return any(len(several) > 1 for several in found.values())


def _not_recorded(name: str, cells: _Cells) -> list[str]:
    """Return one quiet line on conditions that older traces do not hold."""
    rows = [row for row, values in cells.items() if not all(values.values())]
    return [f"{name}: not recorded in all traces of {', '.join(rows)}"] if rows else []


def _listing(groups: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(dict.fromkeys(names))})" for value, names in groups.items())


def _documents(lineup: Lineup) -> Iterable[str]:
    """Warn of tasks whose rows were not run on the same documents."""
    for task, frames in lineup.frames.items():
        first, *others = same_documents(frames)
        if others:
            counts = ", ".join(f"{row} {len(frame)}" for row, frame in frames.items())
            details = "".join(_details(frames, first[0], group) for group in others)
            yield f"warning: rows differ in the documents of {task}, so they do not compare: {counts}{details}"
        elif all((frame.loc[frame["failed"].isna(), "pixels"] != 0).all() for frame in frames.values()):
            continue  # known to be equal, wherever they were read from
        data = {str(_data(source, task)) for source in lineup.sources if task in source.frames}
        if len(data) > 1:
            yield f"warning: rows differ in the data of {task}: {'; '.join(sorted(data))}"


def _details(frames: Mapping[str, pd.DataFrame], reference: str, group: list[str]) -> str:
    other = changed(frames[reference], frames[group[0]])
    if not other:
        return ""
    return f"; {', '.join(group)}: {listed(other)} with another question, target or image than {reference}"


def _data(source: Source, task: str) -> object:
    config = source.run.config(task)
    return (config.get("dataset_kwargs") or {}).get("data_files") or config.get("dataset_path")
