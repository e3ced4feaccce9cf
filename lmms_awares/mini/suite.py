"""The mini suite as parquet files: six benchmarks in the formats of the real ones, drawn from a seed.

The tasks `awares_mini_*` run on its test set, which is drawn into the user's cache when it is first needed and must
have the content that `TEST_HASHES` states. `awares mini build DIR` writes the parts train, validation and test as
`DIR/<part>/<benchmark>/<split>-*.parquet`. Every document has three columns more than the real data:
`evidence_box` and `lowres_suffices`, by construction, and `oracle_crops` (Eq. 3). The suite is a demonstration.
"""

import hashlib
import json
import os
import random
from collections.abc import Callable, Sequence
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
TRAINING = 400  # documents of a benchmark that data curation draws from
PARTS = {"train": 256, "validation": 64, "test": 64}  # documents per benchmark


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
    scene, question = BENCHMARKS[benchmark].sample(random.Random(f"{part}/{benchmark}/{index}"))
    box = question.evidence
    crops = target_crops(box, (scene.width, scene.height))[0] if box else ()
    return {
        "image": draw(scene),
        **COLUMNS[benchmark](question, index),
        EVIDENCE: box,
        SUFFICES: question.suffices,
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
    """Return the parquet file of a mini benchmark's test set in the user's cache; draw it where it is missing.

    Raises:
        DataError: a folder that cannot be written; pictures that do not come out as they should.
    """
    expected = TEST_HASHES[benchmark]
    file = _file(cache_home() / "mini" / expected[:12], benchmark)
    if not file.is_file():
        rows = documents(benchmark, "test", PARTS["test"])
        if digest(rows) != expected:
            raise DataError(
                f"the mini suite's {benchmark} comes out differently with Pillow {pillow_version}, so its scores would "
                "not compare; install the versions in constraints.txt"
            )
        _write(rows, file)
    return file


def training_file(benchmark: str) -> Path:
    """Return a parquet file of `TRAINING` documents of a mini benchmark's train part; draw it where it is missing.

    Its first documents are those of `build`. It is drawn anew where Pillow or the drawing code is another one.

    Raises:
        DataError: no such benchmark; a folder that cannot be written.
    """
    if benchmark not in COLUMNS:
        raise DataError(f"the mini suite has no benchmark {benchmark}; it has {', '.join(COLUMNS)}")
    sources = sorted(Path(__file__).parent.glob("*.py"))
    drawn_by = digest_of(pillow_version, TRAINING, *(source.read_bytes() for source in sources))
    file = _file(cache_home() / "mini" / f"train-{drawn_by[:12]}", benchmark)
    if not file.is_file():
        _write(documents(benchmark, "train", TRAINING), file)
    return file


def _file(folder: Path, benchmark: str) -> Path:
    return folder / benchmark / f"{FORMATS[benchmark].split}-00000-of-00001.parquet"


def _write(rows: list[Document], file: Path) -> Path:
    """Write documents to a file as a whole or not at all, as another process may be writing the same file."""
    import datasets

    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
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
