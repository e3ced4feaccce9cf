"""Labels of a curated set for the samples of a run: rows whose ids name the run's documents."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lmms_awares import images
from lmms_awares.report.curated.frame import HR, LR
from lmms_awares.report.curated.read import Row, open_set
from lmms_awares.report.read.content import Content, seen_by
from lmms_awares.report.read.lineup import Source
from lmms_awares.report.read.samples import RunError

_COLUMNS = ("question", "image", "label", "targets")
_PREFIX = "awares_"


def set_labels(source: Source, folder: Path) -> pd.DataFrame:
    """Read the labels of a curated set of a benchmark's own documents.

    A row belongs to a run's document where its `id` is `<task>/<doc_id>`, with or without the task's `awares_`, and its
    question and image are those that the run saw. Images that curation made smaller are known by the question alone.

    Args:
        source: the run.
        folder: of the set, finished or not.

    Returns:
        `task`, `doc_id`, `hr` (bool), `targets` (ids joined by commas), as
        `lmms_awares.report.read.resolution_labels.read_labels`.

    Raises:
        RunError: no row's id names a document of the run, or one that does is about something else.
        DataError: no set, or a file that cannot be read.
    """
    found: dict[tuple[str, int], Row] = {}
    for place, row in _named(source, folder):
        if place in found:
            raise RunError(f"{folder} labels document {place[1]} of {place[0]} twice")
        found[place] = row
    if not found:
        tasks = ", ".join(source.frames)
        raise RunError(
            f"no row of {folder} can be matched to {source.name}: ids must be <task>/<doc_id>, with its tasks ({tasks})"
        )
    _check(source, found, folder)
    rows = [(task, doc, row["label"] == HR, ",".join(row["targets"] or ())) for (task, doc), row in found.items()]
    return pd.DataFrame(rows, columns=["task", "doc_id", "hr", "targets"])


def _named(source: Source, folder: Path) -> Iterator[tuple[tuple[str, int], Row]]:
    """Yield labelled rows whose ids name a document of the run; of images their content alone is kept."""
    tasks = {name: task for task in source.frames for name in (task, task.removeprefix(_PREFIX))}
    documents = {task: set(frame["doc_id"]) for task, frame in source.frames.items()}
    for row in open_set(folder).rows(_COLUMNS):
        task, _, number = row["id"].rpartition("/")
        if row["rejected"] is not None or row["label"] not in (LR, HR) or task not in tasks or not number.isdecimal():
            continue
        if int(number) in documents[tasks[task]]:
            yield (tasks[task], int(number)), row | {"image": None, "content": _content(row)}


def _content(row: Row) -> Content:
    try:
        image = images.decode((row["image"] or {}).get("bytes") or b"")
    except (OSError, ValueError):
        return Content(row["question"])
    return Content(row["question"], None, image.size, images.digest(image))


def _check(source: Source, found: dict[tuple[str, int], Row], folder: Path) -> None:
    for task in source.frames:
        for row, trace in source.run.samples(task):
            labelled = found.get((task, row["doc_id"]))
            if labelled is None:
                continue
            known, seen = labelled["content"], seen_by(row, trace)
            if known.size and seen.size and max(known.size) < max(seen.size):
                known = Content(known.question)  # made smaller: its pixels are others
            other = known.not_asked_by(seen)
            if other is not None:
                where = f"{labelled['id']}: {other}"
                raise RunError(f"{folder} holds other documents than those that {source.name} was run on ({where})")
