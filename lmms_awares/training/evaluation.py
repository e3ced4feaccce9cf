"""The policy on rows of a curated set, in the process and with the model that is being trained.

    rows of validation ─► low-res view, question ─► call? ─► crops ─► answer ─► score by the row's own metric
                                                      └► precision, recall, IoU with label and targets (Supp. 9.1)

Turns, views and token counts are those of `lmms_awares.load(...).ask(...)`, which tests/test_training_evaluation.py
holds row by row.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lmms_awares.engine.local import LocalEngine
from lmms_awares.errors import DataError, SampleError
from lmms_awares.journal import digest
from lmms_awares.report.curated.read import open_set, size_of
from lmms_awares.report.tables.cdp import diagnose
from lmms_awares.trace import EXECUTABLE
from lmms_awares.training.answers import Answered, Policy
from lmms_awares.training.undisturbed import undisturbed

SPLIT = "validation"
MAX_NEW_TOKENS = 128  # of an answer, as in `ask`
_COLUMNS = ("id", "source", "question", "answers", "label", "targets", "metric", "image")
_DIAGNOSED = {  # in `report.tables.cdp`, and here
    **{"precision": "precision", "recall": "recall", "F1": "f1", "FPR": "fpr"},
    **{"IoU=1": "iou_exact", "IoU>=0.25": "iou_relaxed"},
}


@dataclass(frozen=True)
class Result:
    """A row with its outcome.

    Attributes:
        row: its columns, the encoded image included.
        outcome: what was answered, or why nothing was.
    """

    row: Mapping[str, Any]
    outcome: Answered | SampleError


@dataclass(frozen=True)
class Evaluation:
    """Results in the order of the rows.

    Example:
        evaluate(model, processor, rows, batch_size=8, max_new_tokens=128).summary["score"]
    """

    results: tuple[Result, ...]

    @property
    def summary(self) -> dict[str, float]:
        """Of all rows; see `summarize`."""
        return summarize(self.results)

    @property
    def by_source(self) -> dict[str, dict[str, float]]:
        """The same of each source."""
        sources = sorted({result.row["source"] for result in self.results})
        return {name: summarize([r for r in self.results if r.row["source"] == name]) for name in sources}


def validation_rows(folder: Path, count: int) -> list[dict[str, Any]]:
    """Choose rows of a curated set's split `validation`: always the same ones, as many of each source as there are.

    Args:
        folder: the set's.
        count: how many at most.

    Returns:
        rows, the sources taking turns; images stay encoded.

    Raises:
        DataError: no such split or column, or a file that cannot be read.

    Example:
        rows = validation_rows(Path("set"), 256)
    """
    parts = open_set(folder, finished=True).splits
    if SPLIT not in parts:
        raise DataError(f"{folder} has no split {SPLIT}, which is what is evaluated; set eval_every=0, or build one")
    part, needed = parts[SPLIT], [name for name in _COLUMNS if name != "metric"]  # which older sets lack
    places: dict[str, tuple[int, str]] = {}  # of a row: its number in its source's order, and the source
    of_source: dict[str, list[str]] = {}
    for row in part.rows(("id", "source"), with_rejected=False):
        of_source.setdefault(row["source"], []).append(row["id"])
    for source, ids in of_source.items():
        # By hash, not as they lie there: those next to each other may be alike.
        places |= {id: (number, source) for number, id in enumerate(sorted(ids, key=digest))}
    order = {id: number for number, id in enumerate(sorted(places, key=lambda id: places[id])[:count])}
    chosen = [
        {name: row[name] for name in _COLUMNS}
        for row in part.rows(_COLUMNS, needed=needed, with_rejected=False)
        if row["id"] in order
    ]
    return sorted(chosen, key=lambda row: order[row["id"]])


def evaluate(
    model: torch.nn.Module,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Evaluation:
    """Let a model answer rows in two turns, greedily; it is left as it was found, in the midst of training too.

    Args:
        model: of one of `lmms_awares.families`, or PEFT's wrapper of one, whose adapter then answers.
        processor: the checkpoint's.
        rows: as `validation_rows` gives them.
        batch_size: rows at a time; halved where memory does not suffice.
        max_new_tokens: of an answer; a call may take up to 64 whatever this is.

    Example:
        evaluate(trainer.model, processor, rows, batch_size=8).summary["rtr"]
    """
    # Large images first: those of a batch are of like length, and what does not fit shows at once.
    order = sorted(range(len(rows)), key=lambda number: -_area(rows[number]))
    outcomes: dict[int, Answered | SampleError] = {}
    with undisturbed(model) as inner:
        policy = Policy(LocalEngine(inner, processor), max_new_tokens)
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            outcomes |= zip(numbers, policy.answer([rows[number] for number in numbers]), strict=True)
    return Evaluation(tuple(Result(row, outcomes[number]) for number, row in enumerate(rows)))


def _area(row: Mapping[str, Any]) -> int:
    width, height = size_of(row["image"]) or (0, 0)
    return width * height


def summarize(results: Collection[Result]) -> dict[str, float]:
    """Sum up results: `settings.NUMBERS`, and the counts `n` and `failed`.

    `score` is 0..100; `rtr` and `call_rate` (executable calls) are means over the answered rows, `crops` (the number
    shown) and `area` (0..1) over executable calls, `valid`, `recovered` and `invalid` over attempted ones; the others
    are those of `report.tables.cdp.diagnose`. NaN where there is nothing to divide by; a row without an answer counts
    in `n` and `failed` alone.
    """
    answered = [(r.row, r.outcome) for r in results if isinstance(r.outcome, Answered)]
    calls = [said for _, said in answered if said.status in EXECUTABLE]
    attempts = [said.status for _, said in answered if said.status is not None]
    frame = pd.DataFrame(
        {
            "called": [said.status in EXECUTABLE for _, said in answered],
            "hr": [row["label"] == "HR" for row, _ in answered],
            "ids": [",".join(said.asked) for _, said in answered],
            "targets": [",".join(row["targets"] or ()) for row, _ in answered],
        }
    )
    found = diagnose(frame.astype({"ids": str, "targets": str}))
    return {
        "n": len(results),
        "failed": len(results) - len(answered),
        "score": 100 * _mean([said.score for _, said in answered]),
        "rtr": _mean([said.rtr for _, said in answered]),
        "call_rate": found["call rate"],
        "crops": _mean([len(said.crops) for said in calls]),
        "area": found["area"],
        **{status: _mean([said == status for said in attempts]) for status in ("valid", "recovered", "invalid")},
        **{own: found[name] for name, own in _DIAGNOSED.items()},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
