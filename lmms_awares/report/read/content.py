"""Identity of documents: by question, target and image, not by their number alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lmms_awares.report.read.benchmarks import benchmark_of
from lmms_awares.trace import Trace

_NAMED = 5  # documents that a message lists


def changed(before: pd.DataFrame, after: pd.DataFrame) -> list[int]:
    """List the documents of both sides whose question, target or image differs, by `doc_id`.

    A value that one side lacks (images of older traces, of samples that failed) is no difference.

    Args:
        before, after: rows as `lmms_awares.report.read.samples.read_samples` gives them.
    """
    old, new = _shared(before, after)
    differs = np.zeros(len(old), dtype=bool)
    for name in ("asked", "pixels", "width", "height"):
        left, right = (frame[name].fillna(0).to_numpy() for frame in (old, new))
        differs |= (left != right) & (left != 0) & (right != 0)
    return sorted(old["doc_id"].to_numpy()[differs].tolist())


def _shared(before: pd.DataFrame, after: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the documents of both, in one order."""
    if np.array_equal(before["doc_id"], after["doc_id"]):  # as a rule, and quicker
        return before, after
    shared = before["doc_id"][before["doc_id"].isin(after["doc_id"])]
    old, new = (frame.set_index("doc_id").loc[shared].reset_index() for frame in (before, after))
    return old, new


def same_documents(frames: Mapping[str, pd.DataFrame]) -> list[list[str]]:
    """Group rows by the documents that they were run on, the largest group first.

    Args:
        frames: one benchmark's rows by row name.

    Returns:
        names, in each group as they stand in `frames`; of two equally large groups the one that begins first.
    """
    # Rows that know their images go first, so that one that does not joins them and is no bridge between two of them.
    ordered = sorted(frames, key=lambda row: int((frames[row]["pixels"] == 0).sum()))
    groups: list[list[str]] = []
    for row in ordered:
        home = next((group for group in groups if _equal(frames[group[0]], frames[row])), None)
        groups.append([row]) if home is None else home.append(row)
    order = list(frames)
    groups = [sorted(group, key=order.index) for group in groups]
    return sorted(groups, key=lambda group: (-len(group), order.index(group[0])))


def _equal(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    same = np.array_equal(np.sort(before["doc_id"]), np.sort(after["doc_id"]))
    return same and not changed(before, after)


def same_samples(rows: Sequence[Mapping[str, pd.DataFrame]]) -> pd.MultiIndex:
    """Return (task, doc_id) of the documents that are in all rows, traced, and the same in all.

    Args:
        rows: each one's samples by task; all have the same tasks.
    """
    pairs = []
    for task, first in rows[0].items():
        shared = set(first.loc[first["traced"], "doc_id"])
        for other in (row[task] for row in rows[1:]):
            shared &= set(other.loc[other["traced"], "doc_id"])
            shared -= {*changed(first, other)}
        pairs += [(task, doc_id) for doc_id in sorted(shared)]
    return pd.MultiIndex.from_tuples(pairs, names=["task", "doc_id"])


def listed(documents: list[int]) -> str:
    """Format document numbers for a message; the first few of many.

    Example:
        >>> listed([0, 4, 7])
        '3 (document 0, 4, 7)'
    """
    names = ", ".join(map(str, documents[:_NAMED])) + (", …" if len(documents) > _NAMED else "")
    return f"{len(documents)} (document {names})"


@dataclass(frozen=True)
class Content:
    """A document's content as far as known. `size`: (width, height) in px; `digest`: of the image's pixels."""

    question: str | None = None
    target: str | None = None
    size: tuple[int, int] | None = None
    digest: str | None = None

    def other_than(self, seen: "Content") -> str | None:
        """Return how two contents differ, in a few words; None where nothing that both know differs."""
        for what, own, other in (
            ("images of other sizes", self.size, seen.size),
            ("images with other pixels", self.digest, seen.digest),
            ("other questions", self.question, seen.question),
            ("other targets", self.target, seen.target),
        ):
            if own is not None and other is not None and own != other:
                return what
        return None

    def not_asked_by(self, seen: "Content") -> str | None:
        """Compare as `other_than`, where the own question is only a part of the prompt in `seen`."""
        return (replace(self, question=None) if _asks(self.question, seen.question) else self).other_than(seen)


def seen_by(row: Mapping[str, Any], trace: Trace | None) -> Content:
    """Return the content of a row of a samples file; its question is the whole prompt."""
    asked, target = (row.get(name) for name in ("input", "target"))
    size, digest = (None, None) if trace is None else (trace.image_size, trace.image_digest)
    return Content(None if asked is None else str(asked), None if target is None else str(target), size, digest)


def question_column(task: str) -> str:
    """Return the column of a task's data with the question."""
    return "text" if benchmark_of(task) == "vstar_bench" else "question"


def target_column(config: Mapping[str, Any]) -> str | None:
    """Return the column of a task's data that lmms-eval writes as the target; None where that is no plain column."""
    named = config.get("doc_to_target")
    return named if isinstance(named, str) and named.isidentifier() and not config.get("doc_to_choice") else None


def target_text(value: object) -> str | None:
    """Return a target as lmms-eval writes it; None for types that it may write in another way."""
    return str(value) if isinstance(value, str | list) else None


def _asks(question: str | None, prompt: str | None) -> bool:
    """Return True where a document's question is in a prompt, or one of them is unknown.

    Compares the question's first line, up to the options, which lmms-eval writes in its own way.
    """
    lines = "" if question is None else question.split("(A)", 1)[0].strip()
    return not lines or prompt is None or lines.splitlines()[0] in prompt
