"""Resolution labels: whether the low-res view suffices for a sample, and which crops show the evidence."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow.parquet import read_metadata, read_schema
from pydantic import ValidationError

from lmms_awares import images
from lmms_awares.crops import check_ids
from lmms_awares.labels import EVIDENCE, ORACLE_CROPS, SUFFICES, Label
from lmms_awares.report.read.benchmarks import benchmark_of
from lmms_awares.report.read.content import Content, question_column, seen_by, target_column, target_text
from lmms_awares.report.read.lineup import Source
from lmms_awares.report.read.samples import BOX_PARTS, RunError

MINI = "mini"


def read_labels(file: Path) -> pd.DataFrame:
    """Read the labels of a curated set: JSON lines or parquet with the fields of `Label`.

    Returns:
        `task`, `doc_id`, `hr` (bool), `targets` (ids joined by commas).

    Raises:
        RunError: a missing or unreadable file, a line that is no label, a document labelled twice.
    """
    rows = []
    for number, row in enumerate(label_rows(file), 1):
        try:
            label = Label.model_validate(row)
            targets = check_ids(label.targets) if label.targets else ()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RunError(f"{file} line {number}: {where}: {first['msg']}") from None
        except ValueError as error:
            raise RunError(f"{file} line {number}: {error}") from None
        rows.append((label.task, label.doc_id, label.label == "HR", ",".join(targets)))
    labels = pd.DataFrame(rows, columns=["task", "doc_id", "hr", "targets"])
    twice = labels.duplicated(["task", "doc_id"])
    if twice.any():
        first_twice = labels[twice].iloc[0]
        raise RunError(f"{file} labels document {first_twice['doc_id']} of {first_twice['task']} twice")
    return labels


def label_rows(file: Path, columns: list[str] | None = None) -> list[Any]:
    """Read the rows of JSON lines or of a parquet file, whatever they hold.

    Args:
        columns: of a parquet file that are read where it has them all; default: all that it has.

    Raises:
        RunError: a missing or unreadable file.
    """
    if not file.is_file():
        raise RunError(f"{file} is no file; give --labels a .jsonl or .parquet file of labels, or 'mini'")
    if file.suffix == ".parquet":
        try:
            few = columns is not None and set(columns) <= set(read_schema(file).names)
            return pd.read_parquet(file, columns=columns if few else None).to_dict("records")
        except (ValueError, OSError) as error:
            raise RunError(f"{file} is not a readable parquet file: {str(error).splitlines()[0]}") from None
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:  # also text that is not UTF-8
        raise RunError(f"{file} is not JSON lines: {error}") from None


def mini_labels(source: Source, data_root: Path | None = None) -> pd.DataFrame:
    """Read the mini suite's labels, which hold by construction, from the documents that a run was scored on.

    Documents of which nobody can say by construction whether the low-res view suffices have no label.

    Args:
        source: a run of the mini suite, or of the usual tasks on its files.
        data_root: folder with `<benchmark>/*.parquet`; default: the files that the run's results name.

    Returns:
        as `read_labels`.

    Raises:
        RunError: no files, or documents without evidence columns.
    """
    return pd.concat([_labels_of(source, task, data_root) for task in source.frames], ignore_index=True)


def _labels_of(source: Source, task: str, data_root: Path | None) -> pd.DataFrame:
    named = (source.run.config(task).get("dataset_kwargs") or {}).get("data_files") or {}
    if data_root is not None:
        files = sorted((data_root / benchmark_of(task)).glob("*.parquet"))
    else:
        files = [Path(file) for split in named.values() for file in ([split] if isinstance(split, str) else split)]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        place = missing[0] if missing else data_root or f"{source.run.of(task).path}'s data"
        raise RunError(f"the documents of {task} are not at {place}; give --data FOLDER with <benchmark>/*.parquet")
    config = source.run.config(task)
    try:
        columns = [EVIDENCE, SUFFICES, ORACLE_CROPS, question_column(task)]
        target = target_column(config)
        columns += [target] if target and all(target in read_schema(file).names for file in files) else []
        documents = pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{files[0]} carries no labels ({reason}); is it the mini suite's?") from None
    _check_documents(source, task, _contents(task, target, documents, files), files[0].parent)
    known = documents[documents[SUFFICES].notna()]
    hr = known[EVIDENCE].notna() & ~known[SUFFICES].astype(bool)
    targets = known[ORACLE_CROPS].map(lambda ids: "" if ids is None else ",".join(ids)).where(hr, "")
    return pd.DataFrame({"task": task, "doc_id": known.index, "hr": hr, "targets": targets})


def _contents(task: str, target: str | None, documents: pd.DataFrame, files: list[Path]) -> list[Content]:
    """Return the documents' contents, with images where the files have them."""
    images = [image for file in files for image in _image_digests(file)]
    targets = documents[target] if target in documents else [None] * len(documents)
    return [
        Content(question, target_text(answer.tolist() if isinstance(answer, np.ndarray) else answer), digest=digest)
        for question, answer, digest in zip(documents[question_column(task)], targets, images, strict=True)
    ]


@cache
def _image_digests(file: Path) -> list[str | None]:
    """Return each document's image digest; None where no image can be read. Cached per file, for all runs."""
    if "image" not in read_schema(file).names:
        return [None] * int(read_metadata(file).num_rows)
    return [_image_digest(stored) for stored in pd.read_parquet(file, columns=["image"])["image"]]


def _image_digest(stored: bytes | dict[str, bytes] | None) -> str | None:
    encoded = stored["bytes"] if isinstance(stored, dict) else stored
    try:
        return None if encoded is None else images.digest(images.decode(encoded))
    except (OSError, ValueError):
        return None


def _check_documents(source: Source, task: str, documents: list[Content], folder: Path) -> None:
    """Refuse documents other than the run's, whose labels would be others too.

    Raises:
        RunError: question, target or image of a document differs.
    """
    for row, trace in source.run.samples(task):
        index = row["doc_id"]
        other = documents[index].not_asked_by(seen_by(row, trace)) if index < len(documents) else "fewer documents"
        if other is not None:
            raise RunError(
                f"{folder} holds other documents than those that {source.name} was run on (document {index} of {task}: "
                f"{other})"
            )


def labelled(source: Source, labels: pd.DataFrame) -> pd.DataFrame:
    """Return answered samples that have a label: `task`, `called`, `ids`, `BOX_PARTS`, `hr`, `targets`.

    Raises:
        RunError: no sample has one.
    """
    samples = pd.concat([frame.assign(task=task) for task, frame in source.frames.items()], ignore_index=True)
    samples = samples[samples["failed"].isna() & samples["traced"]]
    joined = samples.merge(labels, on=["task", "doc_id"])[["task", "called", "ids", *BOX_PARTS, "hr", "targets"]]
    if joined.empty:
        raise RunError(
            f"no sample of {source.name} has a label; its tasks: {', '.join(source.frames)}; the labels': "
            f"{', '.join(sorted(labels['task'].unique()))}"
        )
    return joined
