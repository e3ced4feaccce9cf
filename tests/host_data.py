"""Eight generated documents of lmms-eval tasks, in their data sets' columns, with answers that score."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from harness import picture

COUNT = 8
LETTERS = "ABCD"


@dataclass(frozen=True)
class HostData:
    """A task's folder below lmms-eval's tasks, its data set and split, and how its documents are made and answered.

    `answers`: a right answer; `wrong`: a wrong one that the scorer's rules read, else what the model says is wrong.
    """

    folder: str
    path: str
    split: str
    make: Callable[[int], dict[str, Any]]
    right: Callable[[dict[str, Any]], str]
    wrong: Callable[[dict[str, Any]], str] | None = None
    config: str = "default"


def image(index):
    return picture((200 + 40 * index, 160), index)


def encoded(index):
    stream = io.BytesIO()
    image(index).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def options(index):
    return {letter: f"thing {letter}{index}" for letter in LETTERS}


def mmmu(index, images=1):
    shown = " and ".join(f"<image {i + 1}>" for i in range(images))
    return {
        "id": f"validation_Art_{index}",
        "question": f"What is in {shown}, case {index}?",
        "options": str([*options(index).values()]),
        "answer": LETTERS[index % 4],
        "question_type": "multiple-choice",
        **{f"image_{i + 1}": image(index) if i < images else None for i in range(7)},
    }


def hrbench(index):
    return {
        "index": index,
        "question": f"What is shown in {index}?",
        "answer": LETTERS[index % 4],
        "category": ("single", "cross")[index % 2],
        "cycle_category": index % 4,
        "image": encoded(index),
        **options(index),
    }


def mmerealworld(index):
    return {
        "index": index,
        "bytes": encoded(index),
        "question": f"What is shown in {index}?",
        "multi-choice options": [f"({letter}) {text}" for letter, text in options(index).items()],
        "answer": LETTERS[index % 4],
        "category": ("Perception/Monitoring", "Reasoning/Diagram and Table")[index % 2],
        "l2-category": ("vehicle", "table")[index % 2],
    }


def mmstar(index):
    return {
        "index": index,
        "question": f"What is shown in {index}? Options: A: a, B: b, C: c, D: d",
        "image": image(index),
        "answer": LETTERS[index % 4],
        "category": ("math", "coarse perception")[index % 2],
        "l2_category": ("geometry", "image topic")[index % 2],
    }


def vqa(index):
    words = [f"word{index}"] * 10
    return {"question_id": index, "question": f"what is {index}?", "answers": words, "image": image(index)}


def mme(index):
    return {
        "question_id": f"{index // 2}.png",
        "question": f"Is there a {index}? Please answer yes or no.",
        "answer": ("Yes", "No")[index % 2],
        "category": ("existence", "commonsense_reasoning")[index // 4],
        "image": image(index),
    }


def cv_bench(index):
    return {
        "idx": index,
        "prompt": f"How many of {index}?",
        "choices": [*options(index).values()],
        "answer": f"({LETTERS[index % 4]})",
        "image": image(index),
        "type": "2D",
        "task": "Count",
        "source": "COCO",
    }


def scienceqa(index):
    return {
        "hint": "",
        "question": f"Which is {index}?",
        "choices": [*options(index).values()],
        "answer": index % 4,
        "image": image(index),
    }


def letter(doc):
    return doc["answer"].strip("()")


def other_letter(doc):
    return "A" if letter(doc) != "A" else "B"


def first_of(doc):
    return doc["answers"][0]


HOST: dict[str, HostData] = {
    "infovqa_val": HostData(
        "infovqa",
        "lmms-lab-encoder/DocVQA",
        "validation",
        lambda i: {"questionId": str(i), "question": f"What is {i}?", "answers": [f"word{i}"], "image": image(i)},
        first_of,
        config="InfographicVQA",
    ),
    "ai2d": HostData(
        "ai2d",
        "lmms-lab-encoder/ai2d",
        "test",
        lambda i: {"question": f"Which is {i}?", "options": list("wxyz"), "answer": str(i % 4), "image": image(i)},
        lambda doc: f"{LETTERS[int(doc['answer'])]}. As the arrow says",  # of which its filter takes the letter
    ),
    "mmmu_val": HostData("mmmu", "lmms-lab-encoder/MMMU", "validation", mmmu, letter, other_letter),
    "textvqa_val": HostData("textvqa", "lmms-lab-encoder/textvqa", "validation", vqa, first_of),
    "vizwiz_vqa_val": HostData("vizwiz_vqa", "lmms-lab-encoder/VizWiz-VQA", "val", vqa, first_of),
    "hrbench4k": HostData(
        "hrbench", "DreamMr/HR-Bench", "hrbench_4k", hrbench, letter, other_letter, config="hrbench_version_split"
    ),
    "mmerealworld_lite": HostData(
        "mme_realworld", "yifanzhang114/MME-RealWorld-lite-lmms-eval", "train", mmerealworld, letter, other_letter
    ),
    "mmstar": HostData("mmstar", "Lin-Chen/MMStar", "val", mmstar, letter, other_letter),
    "cv_bench_2d": HostData("cv_bench", "nyu-visionx/CV-Bench", "test", cv_bench, letter, other_letter, config="2D"),
    "mme": HostData("mme", "lmms-lab-encoder/MME", "test", mme, lambda doc: doc["answer"]),
    "scienceqa_img": HostData(
        "scienceqa",
        "lmms-lab-encoder/ScienceQA",
        "test",
        scienceqa,
        lambda doc: LETTERS[doc["answer"]],
        config="ScienceQA-IMG",
    ),
    "countbenchqa": HostData(
        "countbenchqa",
        "vikhyatk/CountBenchQA",
        "test",
        lambda i: {"question": "How many dots?", "text": f"scene {i}", "number": i, "image": image(i)},
        lambda doc: str(doc["number"]),
    ),
}


def documents(name):
    return [HOST[name].make(index) for index in range(COUNT)]


def write(root: Path, name: str, docs) -> Path:
    """Write documents where `AWARES_DATA_ROOT=root` finds them."""
    columns = datasets.Dataset.from_list(docs).features
    features = datasets.Features(
        {key: datasets.Image() if key.startswith("image") and not _is_text(docs, key) else kind
         for key, kind in columns.items()}
    )  # fmt: skip
    file = root / name / f"{HOST[name].split}-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(docs, features=features).to_parquet(file)
    return file


def _is_text(docs, key):
    return isinstance(docs[0][key], str)


def as_data_set(folder: Path, name: str, file: Path) -> None:
    """Make a file the task's data set for a run in `folder`: a path of the hub is a folder's path there, too."""
    data = HOST[name]
    home = folder / data.path
    home.mkdir(parents=True, exist_ok=True)
    files = f"  data_files:\n  - split: {data.split}\n    path: {file.name}\n"
    (home / "README.md").write_text(f"---\nconfigs:\n- config_name: {data.config}\n{files}---\n")
    (home / file.name).write_bytes(file.read_bytes())
