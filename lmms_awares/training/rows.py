"""Rows of a curated set for training: read, held against the checkpoint, and laid out as a recipe wants them.

whole    system, user │ call*  │ crops │ answer*     trained: *
call     system, user │ call*
answer   system, user │ call   │ crops │ answer*
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc
from datasets import Dataset
from datasets.exceptions import DatasetsError

from lmms_awares.engine.checkpoint import format_fingerprint
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.journal import digest
from lmms_awares.protocol import GetCrops
from lmms_awares.report.curated.read import PROVENANCE, open_set

Part = Literal["whole", "call", "answer"]
_COLUMNS = ("id", "label", "targets", "messages", "images")


def read_rows(folder: Path, split: str) -> Dataset:
    """Read one part of a curated set.

    Args:
        folder: the set's.
        split: `train` or `validation`.

    Raises:
        DataError: no such part, a file that is no parquet, a column that is missing, or a row without image, label or
            crops where its label says HR.

    Example:
        rows = read_rows(Path("set"), "train")
    """
    parts = open_set(folder, finished=True).splits
    if split not in parts:
        raise DataError(f"{folder} has no split {split}; there are {', '.join(parts)}")
    part = parts[split]
    part.check(_COLUMNS)
    try:
        rows = Dataset.from_parquet([str(file) for file in part.files]).select_columns(list(_COLUMNS))
    except DatasetsError as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{folder}, {split}: cannot be read ({reason}); run `awares curate build` again") from None
    images = pc.list_value_length(rows.data.column("images")).to_pylist()  # of the files' index: none is decoded
    for about in zip(rows["id"], rows["label"], rows["targets"], images, strict=True):
        _check_row(*about)
    return rows


def _check_row(id: str, label: str | None, targets: Sequence[str] | None, images: int) -> None:
    if label not in ("HR", "LR"):
        raise DataError(f"row {id} has the label {label!r}, which is neither HR nor LR; leave it out")
    if label == "HR" and not targets:
        raise DataError(f"row {id} is HR and has no target crops; leave it out")
    if images < (2 if label == "HR" else 1):
        raise DataError(f"row {id} is {label} and has {images} images; leave it out")


def check_set(folder: Path, pretrained: str) -> None:
    """Hold a set against the checkpoint that is trained on it.

    Raises:
        ConfigError: its transcripts have another prompt, or views for another processor or other pixel limits.
        DataError: no set, or its `provenance.json` says nothing of them.
    """
    try:
        built = open_set(folder, finished=True).provenance["stages"]["build"]
        prompt, processor = built["prompt"], built["format"]
    except (LookupError, TypeError):
        raise DataError(
            f"{folder / PROVENANCE} does not say how the transcripts were made; `awares curate build` writes it"
        ) from None
    mend = "run `awares curate build` again"
    if prompt != digest(GetCrops.own["system"]):
        raise ConfigError(f"{folder} was made with another system prompt than this version's; {mend}")
    if processor != format_fingerprint(pretrained):
        raise ConfigError(
            f"{folder} was made for another processor, tokenizer or chat template than {pretrained}'s; {mend} with "
            f"base.pretrained: {pretrained}"
        )
    own = {"min_pixels": None, "max_pixels": None, "lowres_base": "processed"}
    told = [f"{name}={built.get(name)}" for name, value in own.items() if built.get(name) != value]
    if told:
        raise ConfigError(f"{folder} was made with {', '.join(told)}, which training does not set; {mend} without")


def lay_out(labels: Sequence[str], *, per_message: bool = False, hr_repeat: int = 1) -> list[tuple[int, Part]]:
    """Return which part of which row is one training example (Tables 3 and 8).

    Args:
        labels: of the rows.
        per_message: each assistant turn is an example of its own, as in plain SFT; else a whole dialogue is one.
        hr_repeat: how often a row with the label HR comes.

    Example:
        >>> lay_out(["LR", "HR"])
        [(0, 'whole'), (1, 'whole')]
        >>> lay_out(["LR", "HR"], per_message=True)
        [(0, 'whole'), (1, 'call'), (1, 'answer')]
    """
    of_call: tuple[Part, ...] = ("call", "answer") if per_message else ("whole",)
    return [
        (number, part)
        for number, label in enumerate(labels)
        for _ in range(hr_repeat if label == "HR" else 1)
        for part in (of_call if label == "HR" else ("whole",))
    ]


def lay_out_calls(labels: Sequence[str]) -> list[tuple[int, Part]]:
    """Return the first phase of phased training: the call turns alone (Table 3).

    Example:
        >>> lay_out_calls(["LR", "HR"])
        [(1, 'call')]
    """
    return [(number, "call") for number, label in enumerate(labels) if label == "HR"]


def examples(rows: Dataset, layout: Sequence[tuple[int, Part]]) -> Dataset:
    """Return the rows of a layout, each with a column `part`; no image is copied."""
    chosen = rows.select([number for number, _ in layout])
    return chosen.add_column("part", [part for _, part in layout])
