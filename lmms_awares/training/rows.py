"""Rows of a curated set for training: read, held against the checkpoint, and laid out as a recipe wants them.

whole    system, user │ call*  │ crops │ answer*     trained: *
call     system, user │ call*
answer   system, user │ call   │ crops │ answer*
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc
from datasets import Dataset, Image
from datasets.exceptions import DatasetsError

from lmms_awares.crops import CROPS
from lmms_awares.engine.checkpoint import format_fingerprint
from lmms_awares.errors import ConfigError, DataError
from lmms_awares.journal import digest
from lmms_awares.protocol import GetCrops
from lmms_awares.report.curated.read import PROVENANCE, open_set, size_of
from lmms_awares.training.environment import ViewLimits

_AROUND_IMAGE, _AROUND_TURN = 2, 64  # tokens: an image's marks; the crop turn's header and end, byte by byte
Part = Literal["whole", "call", "answer"]
_COLUMNS = ("id", "source", "label", "targets", "messages", "images")
_PROMPT_COLUMNS = ("id", "source", "label", "targets", "question", "answers", "image")


def read_rows(folder: Path, split: str, rows_per_source: int = 0) -> Dataset:
    """Read one part of a curated set: its dialogues.

    Args:
        folder: the set's.
        split: `train` or `validation`.
        rows_per_source: the first rows of each source; 0 for all.

    Raises:
        DataError: no such part, a file that is no parquet, a column that is missing, or a row without image, label or
            crops where its label says HR.

    Example:
        rows = read_rows(Path("set"), "train")
    """
    rows = _read(folder, split, _COLUMNS)
    chosen = _first(rows["source"], rows_per_source)
    images = pc.list_value_length(rows.data.column("images")).to_pylist()  # of the files' index: none is decoded
    about = [rows[name] for name in ("id", "label", "targets")]
    for number in chosen:
        id, label, targets = (column[number] for column in about)
        _check_label(id, label, targets)
        if images[number] < (2 if label == "HR" else 1):
            raise DataError(f"row {id} is {label} and has {images[number]} images; leave it out")
    return rows.select(chosen)


def read_prompts(folder: Path, split: str, rows_per_source: int = 0) -> Dataset:
    """Read one part of a curated set for rollouts: what `environment.CropEnvironment` and the rewards need.

    Args:
        folder, split, rows_per_source: see `read_rows`.

    Returns:
        rows with the columns `id, source, label, targets, question, answers`, `original` (the encoded image) and
        `prompt` (the system turn, and a user turn that the environment fills).

    Raises:
        DataError: as `read_rows`, and for a row without a right answer.

    Example:
        rows = read_prompts(Path("set"), "train")
    """
    rows = _read(folder, split, _PROMPT_COLUMNS).cast_column("image", Image(decode=False))
    chosen = _first(rows["source"], rows_per_source)
    shown = rows.data.column("image").is_valid().to_pylist()
    about = [rows[name] for name in ("id", "label", "targets", "answers")]
    for number in chosen:
        id, label, targets, answers = (column[number] for column in about)
        _check_label(id, label, targets)
        if not shown[number] or not answers:
            raise DataError(f"row {id} has no {'right answer' if shown[number] else 'image'}; leave it out")
    system = [{"type": "text", "text": GetCrops.own["system"]}]
    prompt = [{"role": "system", "content": system}, {"role": "user", "content": []}]
    rows = rows.select(chosen).rename_column("image", "original")  # a column `image` would be shown by the trainer
    return rows.add_column("prompt", [prompt] * len(rows))


def _read(folder: Path, split: str, columns: Sequence[str]) -> Dataset:
    parts = open_set(folder, finished=True).splits
    if split not in parts:
        raise DataError(f"{folder} has no split {split}; there are {', '.join(parts)}")
    part = parts[split]
    part.check(columns)
    try:
        return Dataset.from_parquet([str(file) for file in part.files]).select_columns(list(columns))
    except DatasetsError as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{folder}, {split}: cannot be read ({reason}); run `awares curate build` again") from None


def _first(sources: Sequence[str], count: int) -> list[int]:
    """The rows' numbers; of each source the first `count`, or all for 0."""
    seen: Counter[str] = Counter()
    chosen = []
    for number, source in enumerate(sources):
        seen[source] += 1
        if not count or seen[source] <= count:
            chosen.append(number)
    return chosen


def _check_label(id: str, label: str | None, targets: Sequence[str] | None) -> None:
    if label not in ("HR", "LR"):
        raise DataError(f"row {id} has the label {label!r}, which is neither HR nor LR; leave it out")
    if label == "HR" and not targets:
        raise DataError(f"row {id} is HR and has no target crops; leave it out")


def longest_rollout(rows: Dataset, limits: ViewLimits, max_new_tokens: int) -> int:
    """Return the tokens that a rollout has at most behind its prompt: two turns, and every crop of an image between.

    Args:
        rows: of `read_prompts`.
        limits: of the checkpoint.
        max_new_tokens: of one turn.

    Raises:
        DataError: an image that is none.
    """
    longest = 0
    for id, image in zip(rows["id"], rows["original"], strict=True):
        size = size_of(image)
        if size is None:
            raise DataError(f"row {id} has an image that cannot be read; leave it out")
        plan = limits.plan(*size)
        crops = plan.requested(tuple(CROPS))
        longest = max(longest, sum(plan.crop_tokens(crop) + _AROUND_IMAGE for crop in crops))
    return longest + _AROUND_TURN + 2 * max_new_tokens


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
