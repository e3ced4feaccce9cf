"""Tables of a curated set: labels, target crops, resolutions, rules, what was set aside, the judge, requests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmms_awares.report.curated.frame import HR, NO_CALL, crop_distribution, labelled, placed
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.render import FORMATS
from lmms_awares.report.tables.table import Table, cell, frame_of

Cells = dict[tuple[str, str], str]
ALL = "all"
RULES = ("iou", "contains", "nearest")  # of `crops.target_crops`
# How a reason's detail begins where no reply could be read (`lmms_awares.curation.asking`).
_UNREADABLE = r"^\d+ replies, the last one: "


def tables_of(frame: pd.DataFrame, provenance: dict[str, Any]) -> dict[str, Table]:
    """Make every table for which the set has something to show, by a name that serves as a file's.

    Args:
        frame: of `lmms_awares.report.curated.frame.frame_of`.
        provenance: of the set.
    """
    makers: dict[str, Callable[[pd.DataFrame], Table | None]] = {
        "labels": label_table,
        "crops": crop_table,
        "resolutions": resolution_table,
        "rules": rule_table,
        "rejected": rejected_table,
        "judge": judge_table,
    }
    made = {name: make(frame) for name, make in makers.items()} | {"requests": request_table(provenance)}
    return {name: table for name, table in made.items() if table is not None}


def _by_source(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from ((str(name), rows) for name, rows in frame.groupby("source"))
    if frame["source"].nunique() > 1:
        yield ALL, frame


def _percent(part: float, whole: float) -> str:
    return cell(100 * part / whole if whole else None, 1)


def label_table(frame: pd.DataFrame) -> Table:
    """Count rows by source, split and label."""
    groups = [(source, split, rows) for source, of in _by_source(frame) for split, rows in _splits(of)]
    lines: list[Cells] = []
    for source, split, rows in groups:
        known = labelled(rows)
        hard = int((known["label"] == HR).sum())
        aside = int(rows["aside"].notna().sum())
        counts = {
            "all": len(rows),
            "LR": len(known) - hard,
            "HR": hard,
            "set aside": aside,
            "open": len(rows) - len(known) - aside,
        }
        named = {("", "source"): source, ("", "split"): split}
        lines.append(
            named
            | {("rows", name): str(count) for name, count in counts.items()}
            | {("% of labelled", HR): _percent(hard, len(known))}
        )
    note = "HR: the low-res view does not suffice. Open: no label yet. Rows set aside are in no other column but all."
    return Table("Labels by source and split", frame_of(lines), [note])


def _splits(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from ((str(name), part) for name, part in rows.groupby("split"))
    if rows["split"].nunique() > 1:
        yield ALL, rows


def crop_table(frame: pd.DataFrame) -> Table | None:
    """Share of rows by target crop (Fig. 5 left); None before any row has a label."""
    known = placed(frame)
    if known.empty:
        return None
    lines: list[Cells] = []
    for source, rows in _by_source(known):
        for counted, each in (("smallest", False), ("every", True)):
            shares = crop_distribution(rows, each=each)
            line = {("", "source"): source, ("", "target"): counted, ("", "rows"): str(len(rows))}
            lines.append(line | {("% of rows", name): cell(100 * share, 1) for name, share in shares.items()})
    several = int((known["targets"].map(len) > 1).sum())
    waiting = len(labelled(frame)) - len(known)
    notes = [
        f"{NO_CALL}: LR rows. smallest: of each HR row the target with the smallest region, of equal ones the first in "
        f"the order of the columns; every: each target counts, so that a line may sum to more than 100.",
        f"Rows with several targets: {several}.",
    ]
    if waiting:
        notes.append(f"HR rows without targets yet, which are left out: {waiting}.")
    return Table("Target crops (Fig. 5 left)", frame_of(lines), notes)


def resolution_table(frame: pd.DataFrame) -> Table | None:
    """Widths and heights by source (Fig. 8); None where no image is at hand."""
    sized = frame[frame["width"].notna()]
    if sized.empty:
        return None
    lines: list[Cells] = []
    for source, rows in _by_source(sized):
        line = {("", "source"): source, ("", "rows"): str(len(rows))}
        for side in ("width", "height"):
            values = rows[side].quantile([0, 0.5, 1])
            line |= {
                (f"{side}, px", name): cell(value, 0)
                for name, value in zip(("least", "median", "most"), values, strict=True)
            }
        line["", "megapixels, median"] = cell((rows["width"] * rows["height"]).median() / 1e6, 2)
        lines.append(line)
    missing = len(frame) - len(sized)
    notes = [f"Rows without an image that can be read: {missing}."] if missing else []
    return Table("Resolutions by source (Fig. 8)", frame_of(lines), notes)


def rule_table(frame: pd.DataFrame) -> Table | None:
    """Share of rows by the rule that chose their targets; None where none were chosen."""
    hard = placed(frame)
    hard = hard[hard["rule"].notna()]
    if hard.empty:
        return None
    lines: list[Cells] = []
    for source, rows in _by_source(hard):
        counts = rows["rule"].value_counts()
        line = {("", "source"): source, ("", "HR rows"): str(len(rows))}
        line |= {("% by rule", rule): _percent(int(counts.get(rule, 0)), len(rows)) for rule in RULES}
        fallback = len(rows) - int(counts.get("iou", 0))
        lines.append(line | {("% by rule", "fallback"): _percent(fallback, len(rows))})
    note = (
        "iou: Eq. 3. Fallback is the rest: contains, the smallest crop that holds the box; nearest, the highest IoU, "
        "where no crop holds it."
    )
    return Table("How targets were chosen", frame_of(lines), [note])


def rejected_table(frame: pd.DataFrame) -> Table | None:
    """Count rows that were set aside, by stage and reason; None where none was."""
    aside = frame[frame["aside"].notna()]
    if aside.empty:
        return None
    lines: list[Cells] = []
    counts = aside.groupby(["aside", "reason"], sort=False).size().sort_values(ascending=False, kind="stable")
    for key, count in zip(counts.index.to_flat_index(), counts, strict=True):
        stage, reason = key
        line = {("", "stage"): str(stage), ("", "reason"): str(reason), ("", "rows"): str(count)}
        lines.append(line | {("", "% of all"): _percent(count, len(frame))})
    unreadable = int(aside["detail"].fillna("").str.contains(_UNREADABLE).sum())
    notes = [
        f"{len(aside)} of {len(frame)} rows are set aside ({_percent(len(aside), len(frame))} %), {unreadable} of them "
        f"because no reply could be read."
    ]
    return Table("Rows that were set aside", frame_of(lines), notes)


def judge_table(frame: pd.DataFrame) -> Table | None:
    """Verdicts, agreement with exchanged answers, position bias; None where no row was judged."""
    judged = frame[frame["verdict"].notna()]
    if judged.empty:
        return None
    lines = [_judge_line(source, rows) for source, rows in _by_source(judged)]
    notes = [
        "Verdicts: equal, low-res answer better, full-res answer better, as asked first.",
        "Swapped: rows that were asked again with the answers exchanged, and the share with the same verdict. First "
        "named: of all verdicts of these rows for one answer, the share for the one that stood first; 50 without bias.",
        "Identical: both answers are the same text. Rows that the judge set aside are in no column.",
    ]
    return Table("The judge", frame_of(lines), notes)


def _judge_line(source: str, rows: pd.DataFrame) -> Cells:
    line = {("", "source"): source, ("", "rows"): str(len(rows))}
    for verdict, name in enumerate(("equal", "low-res", "full-res")):
        line["% by verdict", name] = _percent(int((rows["verdict"] == verdict).sum()), len(rows))
    twice = rows[rows["swapped"].notna()]
    first, second = twice["verdict"], twice["swapped"]
    # The low-res answer stands first when asked first, the full-res answer when asked again.
    named_first = int((first == 1).sum() + (second == 2).sum())
    decided = int(first.isin([1, 2]).sum() + second.isin([1, 2]).sum())
    line["swapped", "rows"] = str(len(twice))
    line["swapped", "% agree"] = _percent(int((first == second).sum()), len(twice))
    line["swapped", "% first named"] = _percent(named_first, decided)
    line["answers", "% identical"] = _percent(int(rows["same"].fillna(False).astype(bool).sum()), len(rows))
    return line


def request_table(provenance: dict[str, Any]) -> Table | None:
    """Finished requests and their tokens by stage; None where the set has none."""
    known = provenance.get("requests")
    if not isinstance(known, dict) or not known:
        return None
    lines: list[Cells] = []
    for stage, counts in known.items():
        names = ("requests", "input_tokens", "output_tokens")
        line = {("", "stage"): str(stage)}
        lines.append(line | {("", name.replace("_", " ")): cell(counts.get(name), 0) for name in names})
    note = "All that `requests.sqlite` holds, what other settings asked among it. Tokens: where servers count them."
    return Table("Requests", frame_of(lines), [note])


FILES = {"markdown": "stats.md", "latex": "stats.tex", "html": "stats.html"}


def write(tables: dict[str, Table], folder: Path) -> None:
    """Write all tables as `FILES`, and each as `<name>.csv`, into `folder`, which is made where missing.

    Raises:
        RunError: the folder or a file cannot be written.
    """
    texts = {file: [FORMATS[form](table) for table in tables.values()] for form, file in FILES.items()}
    texts |= {f"{name}.csv": [FORMATS["csv"](table)] for name, table in tables.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, parts in texts.items():
            (folder / file).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}; give another folder") from None
