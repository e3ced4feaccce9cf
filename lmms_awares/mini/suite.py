"""The mini suite as parquet files: six benchmarks in the real ones' formats, drawn from a seed.

`awares mini build DIR` writes `DIR/<part>/<benchmark>/<split>-00000-of-00001.parquet` for the parts train, validation
and test; `AWARES_DATA_ROOT=DIR/test` then runs the usual tasks on it. Every document has three columns more than the
real data: `evidence_box` and `lowres_suffices`, by construction, and `oracle_crops` (Eq. 3). It is a demonstration.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmms_awares.crops import target_crops
from lmms_awares.mini.drawing import draw
from lmms_awares.mini.questions import BENCHMARKS, Question
from lmms_awares.tasks.data import BENCHMARKS as FORMATS
from lmms_awares.tasks.data import EVIDENCE, SUFFICES, DataError

Document = dict[str, Any]
ORACLE = "oracle_crops"  # ids of the target crops; empty where the low-res view suffices
PARTS = {"train": 256, "validation": 64, "test": 80}  # documents per benchmark


def _chartqa(question: Question, index: int) -> Document:
    kind = ("human_test", "augmented_test")[index % 2]
    return {"question": question.text, "answer": question.answer, "type": kind}


def _docvqa(question: Question, index: int) -> Document:
    return {"question": question.text, "answers": [question.answer], "questionId": str(index)}


def _ocrbench(question: Question, index: int) -> Document:
    kind = "Regular Text Recognition"
    return {"question": question.text, "answer": [question.answer], "dataset": "mini", "question_type": kind}


def _pope(question: Question, index: int) -> Document:
    return {"question": question.text, "answer": question.answer, "question_id": str(index)}


def _realworldqa(question: Question, index: int) -> Document:
    options = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCD", question.options, strict=False))
    order = "Please answer directly with only the letter of the correct option and nothing else."
    return {"question": f"{question.text}\n\n{options}{order}", "answer": question.letter}


def _vstar(question: Question, index: int) -> Document:
    options = "".join(f" ({letter}) {option}" for letter, option in zip("ABCD", question.options, strict=False))
    category = "relative_position" if question.kind == "half" else "direct_attributes"
    label = question.letter
    return {"text": question.text + options, "label": label, "category": category, "question_id": str(index)}


_FORMATS: dict[str, Callable[[Question, int], Document]] = {
    "chartqa": _chartqa,
    "docvqa_val": _docvqa,
    "ocrbench": _ocrbench,
    "pope": _pope,
    "realworldqa": _realworldqa,
    "vstar_bench": _vstar,
}


def document(benchmark: str, part: str, index: int) -> Document:
    """Document `index` of one part of a mini benchmark: the real columns, the image, and what is known about it."""
    scene, question = BENCHMARKS[benchmark].sample(random.Random(f"{part}/{benchmark}/{index}"))
    box = question.evidence
    crops = target_crops(box, (scene.width, scene.height))[0] if box else ()
    return {
        "image": draw(scene),
        **_FORMATS[benchmark](question, index),
        EVIDENCE: box,
        SUFFICES: question.suffices,
        ORACLE: list(crops),
    }


def build(root: Path, parts: dict[str, int] | None = None) -> list[Path]:
    """Write the suite below `root`; the same versions give the same bytes.

    Args:
        root: created where missing.
        parts: documents per benchmark by part; default `PARTS`.

    Returns:
        the files, part by part.

    Raises:
        DataError: a folder that cannot be written.
    """
    import datasets

    files = []
    for part, count in (parts or PARTS).items():
        for benchmark, facts in FORMATS.items():
            file = root / part / benchmark / f"{facts.split}-00000-of-00001.parquet"
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"{file.parent} cannot be written: {error.strerror}; give another folder") from None
            rows = [document(benchmark, part, index) for index in range(count)]
            data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
            data = data.cast_column(EVIDENCE, datasets.List(datasets.Value("int64")))
            data = data.cast_column(ORACLE, datasets.List(datasets.Value("string")))
            data.to_parquet(file)
            files.append(file)
    return files
