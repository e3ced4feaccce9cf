"""Fast reading of `samples_*.jsonl`, hundreds of megabytes a second: only the columns that tables and plots need."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from lmms_awares.errors import UserError
from lmms_awares.report.read import turns
from lmms_awares.trace import (
    EXECUTABLE,
    NAMED_SINCE,
    READABLE,
    Conditions,
    Trace,
    TraceError,
    older_fields,
    parse_trace,
)

CONDITIONS = tuple(Conditions.model_fields)
_NUMBERS = {"min_pixels", "max_pixels"}
_TRACE = pa.struct(
    {
        "schema_version": pa.int64(),
        "model": pa.string(),
        "policy": pa.string(),
        "method": pa.string(),
        "nominal": pa.float64(),
        "view": pa.string(),
        "prompt": pa.string(),
        "image_size": pa.list_(pa.int64()),
        "image_digest": pa.string(),
        "crops": pa.list_(pa.struct({"id": pa.string(), "box": pa.list_(pa.float64())})),
        "full_tokens": pa.int64(),
        "visual_tokens": pa.float64(),  # a mean over layers where a pruner acts inside the model
        "rtr": pa.float64(),
        "flops": pa.int64(),
        "kv_bytes": pa.int64(),
        "tool_call": pa.struct({"status": pa.string(), "ids": pa.list_(pa.string()), "forced": pa.bool_()}),
        "turns": pa.list_(turns.FIELDS),
        "preprocess_s": pa.float64(),
        "latency_s": pa.float64(),
        "response_chars": pa.int64(),
        "batch_size": pa.int64(),
        "failed": pa.string(),
        "truncated": pa.bool_(),
        "reused": pa.bool_(),
        "conditions": pa.struct({name: pa.int64() if name in _NUMBERS else pa.string() for name in CONDITIONS}),
    }
)
_ROW = {
    "doc_id": pa.int64(),
    "input": pa.string(),
    "target": pa.string(),
    "token_counts": pa.list_(pa.struct({"input_tokens": pa.int64()})),
    "awares": _TRACE,
    "unscored": pa.string(),
    "pope_f1_score": pa.struct({"prediction": pa.string(), "ground_truth": pa.string()}),
}
_COPIED = (
    *("model", "policy", "prompt", "full_tokens", "visual_tokens", "rtr", "flops", "kv_bytes"),
    *("latency_s", "response_chars"),
)
_TEXTS = ("truth", "model", "policy", "method", "view", "prompt", "status")
_FEW_VALUES = (*_TEXTS, *(name for name in CONDITIONS if name not in _NUMBERS))
# What older traces do not say, because there was nothing else: `family` and `engine`.
_BEFORE = {name: field.default for name, field in Conditions.model_fields.items() if isinstance(field.default, str)}
BOX_PARTS = ("box_left", "box_top", "box_right", "box_bottom")
_BLOCK = 16 << 20  # bytes; a longer line does not fit, and goes through `_line_by_line`


class RunError(UserError):
    """Results that cannot be read; the message names the file."""


def read_samples(file: Path, *, scored: bool, model_args: Mapping[str, str]) -> pd.DataFrame:
    """Read the rows of one samples file.

    Args:
        file: a `*_samples_<task>.jsonl` of lmms-eval.
        scored: the rows carry our numeric `score`.
        model_args: of the run, for what traces before schema `NAMED_SINCE` do not say.

    Returns:
        one row per document, in the file's order: `doc_id`, `asked` (64-bit hash of question and target) and `pixels`
        (likewise of the image), both 0 where unknown, `score` (0..1; NaN where there is none), `failed` (reason
        or null), `no_input` (no token was given), `traced`, POPE's `truth` (`yes` or `no`) and `said_yes`, and of the
        trace: `model`, `policy`, `method`, `nominal`, `view`, `prompt`, `full_tokens`, `visual_tokens`, `rtr`,
        `flops` and `kv_bytes` (null where unknown), `latency_s`, `response_chars`, the sums of `turns.of_turns`,
        `batch_size`, `width`, `height`, `status` (of the tool call), `ids` (joined by commas),
        `BOX_PARTS` (of a call for a box: fractions of the image; null elsewhere), `forced`, `called`,
        `no_image` (the call got an error instead of an image), `truncated` (at the token limit), `reused` (from a
        journal), and the run's `CONDITIONS`.

    Raises:
        RunError: a missing or broken file, a score or RTR that is no finite number, a document that stands twice.
        TraceError: a trace of another schema version.
    """
    _is_there(file)
    schema = pa.schema(_ROW | ({"score": pa.float64()} if scored else {}))
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        read = pyarrow.json.ReadOptions(block_size=_BLOCK)
        table = pyarrow.json.read_json(file, read_options=read, parse_options=options)
    except pa.ArrowInvalid:
        table = _line_by_line(file, schema)
    versions = pc.unique(pc.struct_field(table["awares"], "schema_version").drop_null()).to_pylist()
    if set(versions) - {*READABLE} or table["doc_id"].null_count:
        table = _line_by_line(file, schema)  # names line and version, or the lack of a document
    try:
        frame = _flatten(table.combine_chunks(), model_args)
    except (UnicodeDecodeError, pa.ArrowException):  # its parser takes any bytes
        frame = _flatten(_line_by_line(file, schema), model_args)
    # Rows that all lack a score are a run with --predict_only; NaN is something else.
    has_scores = scored and table["score"].null_count < len(table)
    _check(frame, file, ("score", "rtr") if has_scores else ("rtr",))
    return frame


def _line_by_line(file: Path, schema: pa.Schema) -> pa.Table:
    """Read a file that Arrow's parser refuses, line by line; an error names the wrong line and the reason.

    Raises:
        RunError, TraceError: as in `read_samples`.
    """
    rows = [
        {name: row.get(name) for name in schema.names} | {name: _as_text(row.get(name)) for name in ("input", "target")}
        for row, _ in read_rows(file)
    ]
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RunError(f"{file} is no samples file of lmms-eval: {str(error).splitlines()[0]}") from None


def _as_text(value: object) -> str | None:
    """Return a prompt or target as text.

    Some benchmarks' are lists; half characters, which Arrow does not hold, are spelled out.
    """
    text = value if isinstance(value, str) or value is None else json.dumps(value)
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def read_rows(file: Path) -> Iterator[tuple[dict[str, Any], Trace | None]]:
    """Yield every row of a samples file with its trace, None for rows without; `doc_id` is an integer.

    Raises:
        RunError: a missing file, or a line that is no row; the message names file and line.
        TraceError: a trace that does not fit the schema; likewise.
    """
    _is_there(file)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file} line {number}"
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise RunError(f"{where} is not UTF-8") from None
            except json.JSONDecodeError as error:
                raise RunError(f"{where} is not JSON ({error.msg}); is it truncated?") from None
            if not isinstance(row, dict):
                raise RunError(f"{where} is no row of lmms-eval's samples")
            if type(row.get("doc_id")) is not int:  # True is an int, and no document
                raise RunError(f"{where} has doc_id {row.get('doc_id')!r}; it must be an integer")
            try:
                yield row, parse_trace(row["awares"]) if row.get("awares") else None
            except TraceError as error:
                raise TraceError(f"{where}: {error}") from None


def _is_there(file: Path) -> None:
    if not file.is_file():
        raise RunError(f"{file} is missing; run with --log_samples")


def _flatten(table: pa.Table, model_args: Mapping[str, str]) -> pd.DataFrame:
    trace, count = _whole(table["awares"]), len(table)
    call, size = pc.struct_field(trace, "tool_call"), pc.struct_field(trace, "image_size")
    pope = _whole(table["pope_f1_score"])
    inputs = pc.struct_field(_element(_whole(table["token_counts"]), 0), "input_tokens")
    columns: dict[str, Any] = {
        "doc_id": table["doc_id"],
        "asked": _hash_of(_whole(table["input"]), _whole(table["target"])),
        "pixels": _hash_of(pc.struct_field(trace, "image_digest")),
        "score": table["score"] if "score" in table.column_names else pa.nulls(count, pa.float64()),
        "failed": pc.coalesce(pc.struct_field(trace, "failed"), _whole(table["unscored"])),
        "no_input": pc.fill_null(pc.equal(inputs, 0), False),
        "traced": pc.is_valid(trace),
        "truth": pc.struct_field(pope, "ground_truth"),
        "said_yes": pc.fill_null(pc.equal(pc.struct_field(pope, "prediction"), "yes"), False),
        **{name: pc.struct_field(trace, name) for name in _COPIED},
        **_described(trace, model_args),
        **turns.of_turns(pc.struct_field(trace, "turns"), pc.struct_field(trace, "preprocess_s")),
        "batch_size": pc.struct_field(trace, "batch_size"),
        "width": _element(size, 0),
        "height": _element(size, 1),
        "status": pc.struct_field(call, "status"),
        "ids": pc.binary_join(pc.struct_field(call, "ids"), ","),
        **_parts_of_boxes(_element(pc.struct_field(trace, "crops"), 0), size),
        "no_image": pc.and_(
            pc.fill_null(pc.equal(pc.struct_field(call, "status"), "invalid"), False),
            pc.fill_null(pc.equal(pc.list_value_length(pc.struct_field(trace, "crops")), 0), False),
        ),
        "forced": pc.fill_null(pc.struct_field(call, "forced"), False),
        "truncated": pc.fill_null(pc.struct_field(trace, "truncated"), False),
        "reused": pc.fill_null(pc.struct_field(trace, "reused"), False),
        **{name: pc.struct_field(trace, ["conditions", name]) for name in CONDITIONS},
    }
    for name, before in _BEFORE.items():
        columns[name] = pc.if_else(columns["traced"], pc.fill_null(columns[name], before), columns[name])
    for name in _FEW_VALUES:
        columns[name] = columns[name].dictionary_encode()
    frame = pa.table(columns).to_pandas()
    frame["called"] = frame["status"].isin(EXECUTABLE)
    return frame


def _described(trace: pa.Array, model_args: Mapping[str, str]) -> dict[str, pa.Array]:
    """Return `method`, `nominal` and `view` of each row, filled in where an older trace lacks them."""
    told = {name: pc.struct_field(trace, name) for name in ("method", "nominal", "view")}
    older = pc.less(pc.struct_field(trace, "schema_version"), NAMED_SINCE)  # null where there is no trace
    of_older = trace.filter(older)
    if not len(of_older):
        return told
    first, ratio = of_older[0].as_py(), model_args.get("retain_ratio")
    fields = older_fields(
        first["model"], first["policy"], model_args.get("pruner"), None if ratio is None else float(ratio)
    )
    return {name: pc.if_else(older, pa.scalar(fields[name], told[name].type), told[name]) for name in told}


def _parts_of_boxes(first: pa.Array, size: pa.Array) -> dict[str, pa.Array]:
    """Return the sides of a first crop's box as fractions of the image, 0..1: what lies outside is cut off."""
    box = pc.struct_field(first, "box")
    made = {}
    for place, name in enumerate(BOX_PARTS):
        part = pc.divide(_element(box, place), pc.cast(_element(size, place % 2), pa.float64()))
        made[name] = pc.min_element_wise(pc.max_element_wise(part, 0.0, skip_nulls=False), 1.0, skip_nulls=False)
    return made


def _hash_of(*texts: pa.Array) -> np.ndarray[Any, Any]:
    """Hash each row's texts together to 64 bits; 0 where all of them are null."""
    joined = pc.binary_join_element_wise(*(pc.fill_null(text, "") for text in texts), "\0")
    hashes = pd.util.hash_array(joined.to_numpy(zero_copy_only=False), categorize=False)
    unknown = np.logical_and.reduce([text.is_null().to_numpy(zero_copy_only=False) for text in texts])
    return np.where(unknown, np.uint64(0), hashes)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Combine a chunked column to one array."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _element(lists: pa.Array, index: int) -> pa.Array:
    """Return element `index` of each list; null where the list is shorter."""
    long_enough = pc.greater(pc.list_value_length(lists), index)
    padded = pc.if_else(pc.fill_null(long_enough, False), lists, pa.scalar([None] * (index + 1), lists.type))
    return pc.list_element(padded, index)


def answered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of samples that did not fail."""
    return frame[frame["failed"].isna()]


def _check(frame: pd.DataFrame, file: Path, finite: tuple[str, ...]) -> None:
    """Refuse values that would distort a mean unnoticed.

    Raises:
        RunError: names file and document.
    """
    twice = frame["doc_id"].duplicated()
    if twice.any():
        raise RunError(f"{file} holds document {frame['doc_id'][twice].iloc[0]} twice; were two runs written into it?")
    answered = frame[frame["failed"].isna()]
    for name in finite:
        rows = answered[answered["traced"]] if name == "rtr" else answered
        wrong = rows[~np.isfinite(rows[name].to_numpy(dtype=float))]
        if len(wrong):
            raise RunError(f"{file}: document {wrong['doc_id'].iloc[0]} has {name} {wrong[name].iloc[0]}, no number")


__all__ = ["CONDITIONS", "RunError", "TraceError", "answered", "read_rows", "read_samples"]
