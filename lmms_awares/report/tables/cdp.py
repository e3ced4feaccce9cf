"""Diagnostics of the coupled-decision policy (Supp. 9.1) and of the tool calls' form (Supp. 9.4)."""

from collections.abc import Iterable

import pandas as pd

from lmms_awares.crops import CROPS, region_box_iou, region_iou
from lmms_awares.protocol.boxes import BOX
from lmms_awares.report.read.samples import BOX_PARTS
from lmms_awares.report.read.summary import areas

RELAXED_IOU = 0.25
CDP_COLUMNS = ("precision", "recall", "F1", "FPR", "IoU=1", "IoU>=0.25", "area", "call rate")


def diagnose(samples: pd.DataFrame) -> dict[str, float]:
    """Compute Supp. 9.1 over labelled samples (`labelled`); keys `CDP_COLUMNS`, NaN where the denominator is 0.

    Positive class: HR; positive prediction: an executable call. Region measures are over calls on HR samples with a
    target: the request matches exactly where its region equals that of an oracle target crop or of all of them
    together, and relaxed where the IoU with one of these is at least 0.25. `area` is over all calls.
    """
    called, hr = samples["called"].astype(bool), samples["hr"].astype(bool)
    hits = int((called & hr).sum())
    precision, recall = _share(hits, called.sum()), _share(hits, hr.sum())
    aimed = samples[called & hr & (samples["targets"] != "")]
    ious = _ious(aimed)
    values = (
        precision,
        recall,
        _share(2 * hits, called.sum() + hr.sum()),
        _share(int((called & ~hr).sum()), (~hr).sum()),
        _share(int((ious == 1).sum()), len(ious)),
        _share(int((ious >= RELAXED_IOU).sum()), len(ious)),
        float(areas(samples[called]).mean()) if called.any() else float("nan"),
        _share(int(called.sum()), len(samples)),
    )
    return dict(zip(CDP_COLUMNS, values, strict=True))


def _ious(aimed: pd.DataFrame) -> pd.Series:
    """The overlap of each call with its targets, of a box with its part of the image."""
    of_box = aimed["ids"] == BOX
    pairs = aimed[~of_box].groupby(["ids", "targets"]).size()  # few different pairs, many samples
    overlaps = {pair: overlap(*(side.split(",") for side in pair)) for pair in pairs.index}
    found = [overlaps[pair] for pair in zip(aimed["ids"][~of_box], aimed["targets"][~of_box], strict=True)]
    for row in aimed[of_box].to_dict("records"):
        box, targets = tuple(row[name] for name in BOX_PARTS), row["targets"].split(",")
        found.append(max(region_box_iou(target, box) for target in _alone_and_together(targets)))
    return pd.Series(found, dtype=float)


def _alone_and_together(targets: list[str]) -> list[list[str]]:
    return [[target] for target in targets] + [targets]


def overlap(ids: list[str], targets: list[str]) -> float:
    """Return the highest IoU, 0..1, of a request's region with a target crop's, or with that of all targets together.

    Example:
        >>> overlap(["5"], ["0", "1"])  # the top half is both targets together
        1.0
    """
    return max(region_iou(ids, target) for target in _alone_and_together(targets))


def formatting(frames: Iterable[pd.DataFrame]) -> dict[str, float]:
    """Compute Supp. 9.4: the shares (0..1) by parse status of the calls that the model attempted itself.

    Keys: `calls` (their number), `valid`, `corrupt`, `recoverable`, `incorrect`; NaN where there is no call.
    """
    statuses = pd.concat([frame.loc[frame["traced"] & ~frame["forced"], "status"] for frame in frames]).dropna()
    counts, total = statuses.value_counts(), len(statuses)
    recovered, invalid = int(counts.get("recovered", 0)), int(counts.get("invalid", 0))
    return {
        "calls": total,
        "valid": _share(int(counts.get("valid", 0)), total),
        "corrupt": _share(recovered + invalid, total),
        "recoverable": _share(recovered, total),
        "incorrect": _share(invalid, total),
    }


def crop_shares(traced: pd.DataFrame) -> dict[str, float]:
    """Return the share (0..1) of samples that ask for nothing (`no crop`), and for each crop, by name.

    A call for several crops counts for each. A call that names no crop gets the whole image and counts as `no crop`. A
    call for a box counts for none of these.
    """
    counts = traced.loc[traced["called"], "ids"].value_counts()
    shares = {"no crop": float((~traced["called"]).mean())}
    for crop in CROPS.values():
        asking = sum(count for ids, count in counts.items() if crop.id in str(ids).split(","))
        shares[crop.name] = asking / len(traced) if len(traced) else float("nan")
    return shares


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
