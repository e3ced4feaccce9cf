"""The data of a curated set's row that the site's page shows."""

from dataclasses import asdict
from hashlib import blake2b
from typing import Any

from lmms_awares import images
from lmms_awares.crops import CROPS
from lmms_awares.report.curated.frame import HR, LR
from lmms_awares.report.curated.read import STAGES, Row
from lmms_awares.report.explorer.pictures import Gallery
from lmms_awares.views import ViewPlan, plan_views

Record = dict[str, Any]
LABELS = (LR, HR)
STATES = ("kept", "set aside", "open")
COLUMNS = (
    *("question", "answers", "evidence_box", "image"),
    *(column for adds in STAGES.values() for column in adds),
)
_DIGITS = 4


def state_of(row: Row) -> str:
    """Return one of `STATES`: `kept` for a row with a transcript."""
    if row["rejected"] is not None:
        return "set aside"
    return "kept" if row["stage"] == "build" else "open"


def reason_of(row: Row) -> str | None:
    """Return stage and reason in one text; None for a row that was not set aside."""
    rejected = row["rejected"]
    return None if rejected is None else f"{rejected['stage']}: {rejected['reason']}"


def record_of(row: Row, gallery: Gallery, limits: dict[str, Any]) -> Record:
    """Return everything that the page prints of a row.

    Args:
        row: with `COLUMNS`.
        gallery: to which the picture is added.
        limits: of the views, as `lmms_awares.views.plan_views` takes them.
    """
    shown = {name: value for name, value in row.items() if name not in ("image", "evidence_box", "messages", "stage")}
    shown |= {"question": row["question"] or "", "answers": row["answers"] or []}
    shown["messages"] = None if row["messages"] is None else [_turn(message) for message in row["messages"]]
    return shown | {"view": _view(row, gallery, limits)}


def _turn(message: Row) -> Record:
    """A message; of its parts the texts, None for an image."""
    parts = [None if part["type"] == "image" else part["text"] for part in message["content"]]
    return {"role": message["role"], "parts": parts}


def _view(row: Row, gallery: Gallery, limits: dict[str, Any]) -> Record:
    """Pictures and boxes, or why there are none; all boxes are fractions [left, top, width, height] of the image."""
    encoded = (row["image"] or {}).get("bytes")
    if encoded is None:
        return {"missing": "the set does not hold the image"}
    try:
        image = images.decode(encoded)
        plan = plan_views(*image.size, **limits)
        picture = gallery.add(blake2b(encoded, digest_size=8).hexdigest(), image, limits)
    except (OSError, ValueError) as error:  # an image that cannot be read, or has no views
        return {"missing": str(error).splitlines()[0]}
    targets = [id for id in row["targets"] or () if id in CROPS]
    boxes = row["boxes"] or {}
    record = asdict(picture) | {
        "scale": round(picture.scale, 3),
        "targets": targets,
        "question": [_parts(box, (1000, 1000)) for box in boxes.get("question") or ()],
        "answer": [_parts(box, (1000, 1000)) for box in boxes.get("answer") or ()],
        "seen": _seen(plan, targets),
    }
    record["boxes"] = {id: _parts(plan.crop_box(id), image.size) for id in {*targets, *_ids(record["seen"])}}
    if row["evidence_box"]:
        record["evidence"] = _parts(row["evidence_box"], image.size)
    return record


def _seen(plan: ViewPlan, targets: list[str]) -> list[Record]:
    """The crops that answer a call for the targets, as the model gets them."""
    ids = plan.requested(tuple(targets)) if targets else ()
    return [{"id": id, "tokens": plan.crop_tokens(id)} for id in ids]


def _ids(seen: list[Record]) -> list[str]:
    return [crop["id"] for crop in seen]


def _parts(box: list[float] | tuple[float, ...], size: tuple[int, int]) -> list[float]:
    left, top, right, bottom = box
    sides = (left / size[0], top / size[1], (right - left) / size[0], (bottom - top) / size[1])
    return [round(side, _DIGITS) for side in sides]
