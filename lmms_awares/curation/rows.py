"""Rows of a curated set: their columns by stage, and the parquet shards that hold them.

    sources ─► answer ─► judge ─► ground ─► build
     image     answers   label    boxes     messages
     question            judge    targets   images
     answers ...                  rule

A row is a plain dict. A stage adds its columns to a row, or rejects it with a reason. Each stage's shard
`DIR/<stage>/<split>-00000.parquet` holds what it added to the rows of the shard of the same name in `DIR/sources`.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value

from lmms_awares.errors import DataError

Row = dict[str, Any]
TEXT, TEXTS = Value("string"), List(Value("string"))
BOXES = List(List(Value("float64")))
MODEL = {"name": TEXT, "revision": TEXT, "prompt": TEXT}  # who took part; `prompt`: hash of what it was asked

SOURCE = Features(
    {
        "id": TEXT,  # <source>/<own id or number>, unique in the set
        "source": TEXT,
        "split": TEXT,  # train | validation
        "image": Image(),  # RGB where it was re-encoded, else the source's own bytes; at most `max_side` px a side
        "question": TEXT,  # all that the user says
        "answers": TEXTS,  # right ones, the best first
        "evidence_box": List(Value("float64")),  # left, top, right, bottom in px of `image`; null where not known
        "metric": TEXT,  # how a judge without a model compares: exact | relaxed | anls
    }
)
ANSWER = Features({"lowres_answer": TEXT, "fullres_answer": TEXT, "base_model": MODEL})
JUDGE = Features(
    {
        "label": TEXT,  # HR | LR
        # `verdict`: 0 equal, 1 low-res better, 2 full-res better; `swapped`: with the answers exchanged, in the same
        # terms; `replies`: as they came.
        "judge": {
            "verdict": Value("int64"),
            "swapped": Value("int64"),
            "replies": TEXTS,
            "scores": List(Value("float64")),
        },
        "judge_model": MODEL,
    }
)
GROUND = Features(
    {
        "boxes": {"question": BOXES, "answer": BOXES},  # normalised to 0..1000; empty for LR rows
        "targets": TEXTS,  # crop ids; empty for LR rows
        "rule": TEXT,  # of `crops.target_crops`; null for LR rows
        "grounding": TEXT,  # the oracle's reply; null where none was asked
        "oracle_model": MODEL,
    }
)
BUILD = Features(
    {
        # As TRL takes them: parts of type image stand for `images`, in order.
        "messages": List({"role": TEXT, "content": List({"type": TEXT, "text": TEXT})}),
        "images": List(Image()),
    }
)
REJECTED = Features({"id": TEXT, "source": TEXT, "split": TEXT, "stage": TEXT, "reason": TEXT, "detail": TEXT})
_GROUP = 32  # rows that a reader must hold at a time; images make them heavy
_VERDICT = {"reason": TEXT, "detail": TEXT}  # null where the stage has no complaint


@dataclass(frozen=True)
class Rejected:
    """A row that is set aside.

    Attributes:
        reason: a few words, the same for all rows of its kind, so that they can be counted.
        detail: what is wrong with this one.
        final: False where asking again may help, so that the next run does: a server that gave no reply.
    """

    reason: str
    detail: str
    final: bool = True


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], features: Features, stamp: str | None = None) -> None:
    """Write rows as parquet, as a whole or not at all; the same rows give the same bytes.

    Args:
        rows: images as Pillow images or as `{"bytes": ..., "path": None}`.
        stamp: what the rows depend on; see `stamp_of`.

    Raises:
        DataError: the file cannot be written.
    """
    schema = features.arrow_schema
    if stamp is not None:
        schema = schema.with_metadata({**(schema.metadata or {}), b"awares_stamp": stamp.encode()})
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([features.encode_example(dict(row)) for row in rows], schema)
        pq.write_table(table, unfinished, row_group_size=_GROUP)
        unfinished.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):  # a file stands where its folder should be
            unfinished.unlink(missing_ok=True)
        raise DataError(
            f"{file} cannot be written: {error.strerror or error}; make room or give another folder"
        ) from None


def read_rows(file: Path) -> list[Row]:
    """Read a shard; images stay encoded, as `{"bytes": ..., "path": ...}`."""
    rows: list[Row] = pq.read_table(file).to_pylist()
    return rows


def stamp_of(file: Path) -> str | None:
    """What a shard's rows depend on; None where there is no whole shard.

    Raises:
        DataError: the file is no parquet file.
    """
    if not file.is_file():
        return None
    try:
        found = (pq.read_schema(file).metadata or {}).get(b"awares_stamp")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read ({error}); remove it, and it is made again") from None
    return None if found is None else found.decode()


def with_verdict(features: Features) -> Features:
    """A stage's columns as its shards hold them, with `id`, and why a row was rejected."""
    return Features({"id": TEXT, **features, **_VERDICT})
