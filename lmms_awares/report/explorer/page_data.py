"""The data of a sample that the site's pages show."""

from dataclasses import asdict
from typing import Any

from lmms_awares.crops import CROPS, FreeBox
from lmms_awares.report.explorer.documents import Document
from lmms_awares.report.explorer.pictures import Picture
from lmms_awares.report.read.content import Content, seen_by
from lmms_awares.trace import CropTrace, Trace, parse_trace

RIGHT = 0.5  # a score from here on counts as right; most metrics know 0 and 1 only
STATUSES = ("none", "valid", "recovered", "invalid", "failed")
_DIGITS = 4

Sample = dict[str, Any]  # a row of samples_*.jsonl
Record = dict[str, Any]


def trace_of(sample: Sample) -> Trace | None:
    """Return the row's trace; None for models and tasks without traces."""
    return parse_trace(sample["awares"]) if sample.get("awares") else None


def status(trace: Trace | None, sample: Sample) -> str:
    """Return `valid`, `recovered` or `invalid` for an attempted call, `failed` for a failed sample, else `none`."""
    if trace is None:
        return "failed" if sample.get("failed") else "none"
    if trace.failed is not None:
        return "failed"
    return "none" if trace.tool_call is None else trace.tool_call.status


def score(sample: Sample) -> float | None:
    """Return the score, 0..1; None where the sample was not scored."""
    value = sample.get("score")
    return round(value, _DIGITS) if isinstance(value, int | float) else None


def answer_record(sample: Sample) -> Record:
    """Return one run's answer to a document: everything that the page prints."""
    trace = trace_of(sample)
    record: Record = {"score": score(sample), "status": status(trace, sample)}
    if trace is None:
        return record | {"answer": _last_response(sample)}
    record |= {"answer": sample.get("answer", ""), "trace": trace.model_dump(mode="json", exclude={"conditions"})}
    for shown, crop in zip(record["trace"]["crops"], trace.crops, strict=True):
        shown["id"] = _name(crop)
    for name in ("preprocess_s", "latency_s", "rtr"):
        if record["trace"][name] is not None:
            record["trace"][name] = round(record["trace"][name], _DIGITS)
    return record


def document_record(task: str, doc_id: int, samples: list[Sample | None]) -> Record:
    """Return a document and every run's answer to it; None for a run that has none.

    A run with another document under that number is marked `other`, with its own `question` and `target`.
    """
    first = next(sample for sample in samples if sample is not None)
    known = seen_by(first, trace_of(first))
    runs = [None if sample is None else answer_record(sample) | _unlike(known, sample) for sample in samples]
    asked = {"question": first.get("input", ""), "target": _text(first.get("target"))}
    return {"task": task, "doc": doc_id, **asked, "runs": runs}


def _unlike(known: Content, sample: Sample) -> Record:
    seen = seen_by(sample, trace_of(sample))
    other = known.other_than(seen)
    return {} if other is None else {"question": seen.question or "", "target": seen.target or "", "other": other}


def view_record(document: Document, picture: Picture, traces: list[Trace]) -> Record:
    """Return pictures and boxes; all boxes are fractions [left, top, width, height] of the image."""
    oracle = document.target(picture.size)
    width, height = picture.size
    asked = {_name(crop): crop.box or CROPS[crop.id].box(width, height) for trace in traces for crop in trace.crops}
    asked |= {id: CROPS[id].box(width, height) for id in oracle}
    record: Record = asdict(picture) | {
        "scale": round(picture.scale, 3),
        "oracle": list(oracle),
        "suffices": document.suffices,
        "boxes": {name: _fractions(asked[name], picture.size) for name in sorted(asked)},
    }
    if document.evidence is not None:
        record["evidence"] = _fractions(document.evidence, picture.size)
    return record


def _name(crop: CropTrace) -> str:
    """Name a crop by its id, a box by its px, which tell it from those of other runs."""
    return crop.id if crop.box is None else f"[{', '.join(str(round(side)) for side in crop.box)}]"


def _fractions(box: FreeBox, size: tuple[int, int]) -> list[float]:
    left, top, right, bottom = box
    parts = (left / size[0], top / size[1], (right - left) / size[0], (bottom - top) / size[1])
    return [round(part, _DIGITS) for part in parts]


def _last_response(sample: Sample) -> str:
    responses = sample.get("filtered_resps", "")
    return _text(responses[-1] if isinstance(responses, list) and responses else responses)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
