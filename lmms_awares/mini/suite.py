"""The mini suite as parquet files: six benchmarks in the formats of the real ones, drawn from a seed.

The tasks `awares_mini_*` run on its part test, `awares_graded_*` on its part validation; both are drawn into the user's
cache when they are first needed and must have the content that `HASHES` states. `awares mini build DIR` writes the
parts as `DIR/<part>/<benchmark>/<split>-*.parquet`. In train and validation print is graded: the low-res view shows
more or less of some of it. Every document has three columns more than the real data: `evidence_box` and
`lowres_suffices`, by construction, and `oracle_crops` (Eq. 3). `lowres_suffices` is null where the low-res view shows
all that must be read, some of it faintly: whether that is enough depends on the reader. The suite is a demonstration.
"""

import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import __version__ as pillow_version

from lmms_awares.cache import cache_home
from lmms_awares.crops import target_crops
from lmms_awares.errors import DataError
from lmms_awares.journal import digest as digest_of
from lmms_awares.labels import EVIDENCE, ORACLE_CROPS, SUFFICES
from lmms_awares.mini.drawing import draw
from lmms_awares.mini.questions import BENCHMARKS, Question
from lmms_awares.tasks.benchmarks import BENCHMARKS as FORMATS
from lmms_awares.tasks.benchmarks import MINI_TASKS

Document = dict[str, Any]
TEST_HASHES = {  # of `digest`
    "chartqa": "d227af16f40e07a23ccbbebf9528c831957c607244a40860c49738a13acec1bd",
    "docvqa_val": "d35c21c5a0b13defc5ce434d11e5ccc1735197dbf1d13bd87aaa3b4f00eb1f33",
    "ocrbench": "823b28eb33f7639f2ef6b6b29ce16603bccdd75af53e82c064d1d2fc24395009",
    "pope": "df4377212a4a89a9774cc79b1aa346b1c2d0849a6f11eb2c793b8c5fc74be8af",
    "realworldqa": "e68d67eed8de3acc33e1d7d561836253936e2dfa249a3d1d305445adbdab4fbb",
    "vstar_bench": "0c5c2d27e808c6e9b8418f24c90fbcc4cbfec9eed602bc3d1eb2b349f9bf549d",
}
VALIDATION_HASHES = {
    "chartqa": "4d48a675f1139c6113971b9551732235f29514f3042f2c6c6118849196ae395b",
    "docvqa_val": "c98c981a9976140a5a1d5645328e53eae3e62e385dd84cfe9c6aaaeb27cd63b7",
    "ocrbench": "eddac431c098568af7baeb5d46d20a70a1ca55cbc5ee277e5bd0a130457849c8",
    "pope": "3a91a0a552ef8afa9362c68aa0075fdae72e8efb6ead10cd376f852bc9c8e6ac",
    "realworldqa": "ac649f555e662c9b2ab365ffb749ae71a76a55d34cda2b8db0b1bcc3ee7c68f1",
    "vstar_bench": "8520b3e70f6aa39c3b7b0b261dfb51da06ab2a9f5411f87ddad7c0830586a1cd",
}
HASHES = {"test": TEST_HASHES, "validation": VALIDATION_HASHES}  # of the parts that tasks score
TRAINING = 2400  # documents of a benchmark that data curation can draw from
PARTS = {"train": 256, "validation": 128, "test": 64}  # documents per benchmark
GRADED = ("train", "validation")  # parts with faint print
_STEP = 400  # documents that data curation draws at a time


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
    order = "Please answer directly with a single word or number."
    return {"question": f"{question.text}\n{order}", "answer": question.answer}


def _vstar(question: Question, index: int) -> Document:
    options = "".join(f" ({letter}) {option}" for letter, option in zip("ABCD", question.options, strict=False))
    category = "relative_position" if question.kind == "half" else "direct_attributes"
    label = question.letter
    return {"text": question.text + options, "label": label, "category": category, "question_id": str(index)}


COLUMNS: dict[str, Callable[[Question, int], Document]] = {
    "chartqa": _chartqa,
    "docvqa_val": _docvqa,
    "ocrbench": _ocrbench,
    "pope": _pope,
    "realworldqa": _realworldqa,
    "vstar_bench": _vstar,
}


def document(benchmark: str, part: str, index: int) -> Document:
    """Draw document `index` of one part of a mini benchmark: the real columns, the image, and the three labels."""
    generator = random.Random(f"{part}/{benchmark}/{index}")
    scene, question = BENCHMARKS[benchmark].sample(generator, graded=part in GRADED)
    box = question.evidence
    crops = target_crops(box, (scene.width, scene.height))[0] if box else ()
    return {
        "image": draw(scene),
        **COLUMNS[benchmark](question, index),
        EVIDENCE: box,
        SUFFICES: None if question.uncertain else question.suffices,
        ORACLE_CROPS: list(crops),
    }


def digest(documents: Sequence[Document]) -> str:
    """Hash everything that a model and a scorer can see of the documents, pixels and other columns; a hex sha256."""
    found = hashlib.sha256()
    for row in documents:
        found.update(row["image"].tobytes())
        rest = {"size": row["image"].size} | {key: value for key, value in row.items() if key != "image"}
        found.update(json.dumps(rest, sort_keys=True).encode())
    return found.hexdigest()


def documents(benchmark: str, part: str, count: int) -> list[Document]:
    """Draw the first `count` documents of one part of a mini benchmark."""
    return [document(benchmark, part, index) for index in range(count)]


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
    files = []
    for part, count in (parts or PARTS).items():
        for benchmark in MINI_TASKS.values():
            files.append(_write(documents(benchmark, part, count), _file(root / part, benchmark)))
    return files


def test_file(benchmark: str) -> Path:
    """Return `scored_file` of a mini benchmark's part test."""
    return scored_file(benchmark, "test")


def scored_file(benchmark: str, part: str) -> Path:
    """Return the parquet file of a part that tasks score, in the user's cache; draw it where it is missing.

    Args:
        benchmark: key of `COLUMNS`.
        part: key of `HASHES`.

    Raises:
        DataError: a folder that cannot be written; pictures that do not come out as they should.
    """
    expected = HASHES[part][benchmark]
    file = _file(cache_home() / "mini" / expected[:12], benchmark)
    if not file.is_file():
        rows = documents(benchmark, part, PARTS[part])
        if digest(rows) != expected:
            raise DataError(
                f"the mini suite's {benchmark} comes out differently with Pillow {pillow_version}, so its scores would "
                "not compare; install the versions in constraints.txt"
            )
        _write(rows, file)
    return file


def training_file(benchmark: str, wanted: int = 1) -> Path:
    """Return a parquet file of a mini benchmark's train part; draw it where it is missing.

    Its first documents are those of `build`. It is drawn anew where Pillow or the drawing code is another one.

    Args:
        benchmark: key of `COLUMNS`.
        wanted: documents that are to be chosen. The file has at least as many, in steps of 400, and at most `TRAINING`.

    Raises:
        DataError: no such benchmark; a folder that cannot be written.
    """
    if benchmark not in COLUMNS:
        raise DataError(f"the mini suite has no benchmark {benchmark}; it has {', '.join(COLUMNS)}")
    count = min(TRAINING, math.ceil(wanted / _STEP) * _STEP)
    sources = sorted(Path(__file__).parent.glob("*.py"))
    drawn_by = digest_of(pillow_version, count, *(source.read_bytes() for source in sources))
    file = _file(cache_home() / "mini" / f"train-{drawn_by[:12]}", benchmark)
    if not file.is_file():
        _write((document(benchmark, "train", index) for index in range(count)), file)
    return file


def _file(folder: Path, benchmark: str) -> Path:
    return folder / benchmark / f"{FORMATS[benchmark].split}-00000-of-00001.parquet"


def _write(rows: Iterable[Document], file: Path) -> Path:
    """Write documents to a file as a whole or not at all, as another process may be writing the same file.

    Memory holds their images encoded.
    """
    import datasets

    images = datasets.Image()
    encoded = [row | {"image": images.encode_example(row["image"])} for row in rows]
    data = datasets.Dataset.from_list(encoded).cast_column("image", images)
    data = data.cast_column(SUFFICES, datasets.Value("bool"))  # also where all of them are null
    data = data.cast_column(EVIDENCE, datasets.List(datasets.Value("int64")))
    data = data.cast_column(ORACLE_CROPS, datasets.List(datasets.Value("string")))
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        data.to_parquet(unfinished)
        unfinished.replace(file)
    except OSError as error:
        raise DataError(f"{file.parent} cannot be written: {error.strerror}; give another folder") from None
    return file
