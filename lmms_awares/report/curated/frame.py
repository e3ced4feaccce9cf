"""What tables and figures need to know of each row of a curated set, as a frame without pixels."""

from typing import Any

import pandas as pd

from lmms_awares.crops import CROPS, union_area
from lmms_awares.report.curated.read import CuratedSet, Row, size_of

LR, HR = "LR", "HR"
NO_CALL = "no crop"
_COLUMNS = ("image", "lowres_answer", "fullres_answer", "label", "judge", "targets", "rule")


def frame_of(given: CuratedSet) -> pd.DataFrame:
    """Read every row once; only the headers of images are looked at.

    Returns:
        `id, source, split, stage, label, targets` (tuple of ids), `rule`, `verdict`, `swapped`, `same` (both answers
        are the same text), `width`, `height` (px), `aside` (the stage that set the row aside, else None), `reason`,
        `detail`. What a row did not get to is None.

    Raises:
        DataError: a file that cannot be read.
    """
    return pd.DataFrame([facts(row) for row in given.rows(_COLUMNS)])


def facts(row: Row) -> dict[str, Any]:
    """Return what `frame_of` keeps of a row."""
    judge, rejected = row["judge"] or {}, row["rejected"] or {}
    answers = row["lowres_answer"], row["fullres_answer"]
    width, height = size_of(row["image"]) or (None, None)
    return {
        **{name: row[name] for name in ("id", "source", "split", "stage", "label", "rule")},
        "targets": tuple(row["targets"] or ()),
        "verdict": judge.get("verdict"),
        "swapped": judge.get("swapped"),
        "same": None if None in answers else answers[0].strip() == answers[1].strip(),
        "width": width,
        "height": height,
        "aside": rejected.get("stage"),
        "reason": rejected.get("reason"),
        "detail": rejected.get("detail"),
    }


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows that have a label and were not set aside later."""
    return frame[frame["label"].notna() & frame["aside"].isna()]


def placed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose targets are known: labelled ones that are LR, or HR with targets."""
    rows = labelled(frame)
    return rows[(rows["label"] == LR) | (rows["targets"].map(len) > 0)]


def smallest(targets: tuple[str, ...]) -> str:
    """Return the target of the smallest region; of equal ones the first in the order of `CROPS`.

    Example:
        >>> smallest(("all", "5", "1"))
        '1'
    """
    return min(targets, key=lambda id: (union_area([id]), list(CROPS).index(id)))


def crop_distribution(rows: pd.DataFrame, *, each: bool = False) -> dict[str, float]:
    """Return the share (0..1) of rows by crop name, `no crop` for LR rows first (Fig. 5 left).

    Args:
        rows: of `placed`.
        each: count every target of a row, so that the shares may sum to more than 1; else only its smallest.
    """
    hard = rows[rows["label"] == HR]["targets"]
    counted = hard.explode() if each else hard.map(smallest)
    counts = counted.value_counts()
    shares = {NO_CALL: int((rows["label"] == LR).sum())}
    shares |= {crop.name: int(counts.get(crop.id, 0)) for crop in CROPS.values()}
    return {name: count / len(rows) if len(rows) else float("nan") for name, count in shares.items()}
