"""What answers cost beside what they are worth: FLOPs, KV cache, visual tokens per correct answer."""

import pandas as pd

from lmms_awares.report.read.benchmarks import title_of
from lmms_awares.report.read.content import changed
from lmms_awares.report.read.lineup import Lineup
from lmms_awares.report.read.samples import answered
from lmms_awares.report.tables.conditions import marked, mixtures
from lmms_awares.report.tables.table import Table, cell, frame_of, rounded

_NOTE = (
    "TFLOPs: 10^12 operations per sample by the cost model, not measured; KV: 10^6 bytes of cache at the end; tokens: "
    "visual tokens of all samples over the sum of their scores (0-1)"
)
_TFLOPS, _SHARE, _KV, _TOKENS = "TFLOPs", "of full", "KV MB", "tokens per correct"


def cost_table(lineup: Lineup) -> Table:
    """FLOPs per sample, their share of the full-resolution row's, KV cache, visual tokens per correct answer.

    The share is a ratio of sums over the documents that both rows answered; the row is the full-resolution one of the
    same family. Averages are over benchmarks, where a row has all of them.
    """
    full, mixed, table, lacking = _full_rows(lineup), mixtures(lineup), [], []
    for row, frames in lineup.rows.items():
        reference = lineup.rows.get(full.get(_family(frames), ""), {})
        values = {
            task: _measures(frames[task], reference.get(task)) if task in frames else _measures(None, None)
            for task in lineup.tasks
        }
        cells = {("", "method"): row}
        for task, found in values.items():
            cells |= {(title_of(task), name): _text(name, value) for name, value in found.items()}
        for name in (_TFLOPS, _SHARE, _KV, _TOKENS):
            mean = pd.Series([found[name] for found in values.values()], dtype=float).mean(skipna=False)
            cells["average", name] = marked(_text(name, mean), mixed=row in mixed.scores)
        table.append(cells)
        if any(_unknown(frame) for frame in frames.values()):
            lacking.append(row)
    notes = [_NOTE, *(f"of full: share of {name}'s TFLOPs, on the documents of both" for name in full.values())]
    notes += [] if full else ["of full: no full-resolution run is among these"]
    if lacking:
        notes.append(f"TFLOPs and KV are not in all traces of {', '.join(lacking)}: older ones, or a cost not known")
    return Table("What answers cost", frame_of(table), [*notes, *mixed.notes()])


def _full_rows(lineup: Lineup) -> dict[str, str]:
    """The first full-resolution row of each family."""
    found: dict[str, str] = {}
    for row, source in lineup.named:
        if source.full_only:
            found.setdefault(_family(source.frames), row)
    return found


def _family(frames: dict[str, pd.DataFrame]) -> str:
    """What a row's first trace says; empty where none does."""
    told = pd.concat([frame["family"].dropna().astype(str) for frame in frames.values()])
    return "" if told.empty else str(told.iloc[0])


def _unknown(frame: pd.DataFrame) -> bool:
    kept = answered(frame)
    return bool(kept[["flops", "kv_bytes"]].isna().any(axis=None))


def _measures(frame: pd.DataFrame | None, full: pd.DataFrame | None) -> dict[str, float]:
    """NaN where something is not known of any sample: a mean over the others would be of other documents."""
    nothing = float("nan")
    if frame is None:
        return dict.fromkeys((_TFLOPS, _SHARE, _KV, _TOKENS), nothing)
    kept = answered(frame)
    right = kept["score"].sum(skipna=False)
    return {
        _TFLOPS: kept["flops"].astype(float).mean(skipna=False) / 1e12,
        _SHARE: nothing if full is None else _share(frame, full),
        _KV: kept["kv_bytes"].astype(float).mean(skipna=False) / 1e6,
        _TOKENS: kept["visual_tokens"].astype(float).sum(skipna=False) / right if right else nothing,
    }


def _share(frame: pd.DataFrame, full: pd.DataFrame) -> float:
    """FLOPs over those of `full`, on the same documents; NaN where there are none."""
    other = set(changed(full, frame))
    flops = [answered(rows).set_index("doc_id")["flops"].astype(float) for rows in (frame, full)]
    pairs = pd.concat(flops, axis="columns", join="inner", keys=["own", "full"])
    sums = pairs[~pairs.index.isin(other)].sum(skipna=False, min_count=1)
    return float(sums["own"] / sums["full"])


def _text(name: str, value: float) -> str:
    return cell(value, 3) if name == _SHARE else rounded(value)
