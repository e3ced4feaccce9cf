"""A record per benchmark, with the facts that lmms-eval's own YAML does not hold. Light to import.

A record and `tasks/awares_<name>.yaml` are all that a benchmark needs, see docs/adding_a_benchmark.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "awares_"

Document = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """The values that a column may hold: in words (`expects`), and as a test of one value (`accepts`)."""

    expects: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_answer(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())  # blanks are in everything that a model says


def _is_answers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_answer, value))


def one_of(choices: Iterable[str], fold: Callable[[str], str] = str) -> Rule:
    """Make the rule for a few known texts.

    Args:
        choices: the known texts.
        fold: brings a value to their form, as the scorer does.

    Example:
        >>> one_of(["yes", "no"], str.lower).accepts("Yes")
        True
    """
    known = tuple(choices)
    return Rule(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and fold(value) in known)


TEXT = Rule("text", _is_text)
ANSWER = Rule("a text that is not blank", _is_answer)
ANSWERS = Rule("a list of texts, none of them blank", _is_answers)
EITHER = Rule(ANSWERS.expects, lambda value: _is_answer(value) or _is_answers(value))  # the scorer takes both


@dataclass(frozen=True)
class Benchmark:
    """Facts about one benchmark.

    Attributes:
        title: heading of its column in tables, as in the paper's Table 1.
        base_yaml: the installed lmms-eval's task file, below its `tasks` folder.
        split: split that is scored.
        columns: columns besides `image` that prompts and scorers read, with the rule of each; None where any value
            is allowed.
        headline: the metric that the paper reports; its per-sample value, 0..1, becomes `score`.
        sample: makes those columns of a small document from a word that its image shows and the document's number;
            see `lmms_awares.mini.smoke_data`.
        reply: makes a reply that answers such a document correctly.
        suite: belongs to `awares_suite`, the paper's six; `awares_suite.yaml` lists the same.
        mini: the suites in `DRAWN` have this benchmark too, see `lmms_awares.mini.suite`.
        documents: of that split, as published, for plans; None where nobody says.
    """

    title: str
    base_yaml: str
    split: str
    columns: Mapping[str, Rule | None]
    headline: str
    sample: Callable[[str, int], Document]
    reply: Callable[[Document], str]
    suite: bool = False
    mini: bool = False
    documents: int | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that the data must have."""
        return ("image", *self.columns)

    @property
    def rules(self) -> dict[str, Rule]:
        """Rules of the columns that have one."""
        return {column: rule for column, rule in self.columns.items() if rule is not None}


# lmms-eval adds the scores up under these names.
_OCRBENCH_TYPES = (
    *("Regular Text Recognition", "Irregular Text Recognition", "Artistic Text Recognition"),
    *("Handwriting Recognition", "Digit String Recognition", "Non-Semantic Text Recognition"),
    *("Scene Text-centric VQA", "Doc-oriented VQA", "Key Information Extraction"),
    "Handwritten Mathematical Expression Recognition",
)


def _options(word: str, index: int) -> tuple[str, tuple[str, str]]:
    """Return the letter of the right option, and both options."""
    letter = "AB"[index % 2]
    return letter, (word, "nothing") if letter == "A" else ("nothing", word)


def _pope(word: str, index: int) -> Document:
    answer = ("yes", "no")[index % 2]
    shown = word if answer == "yes" else "a zebra"
    return {"question": f"Is there {shown} in the image?", "answer": answer, "question_id": str(index)}


def _realworldqa(word: str, index: int) -> Document:
    letter, (a, b) = _options(word, index)
    order = "Please answer directly with only the letter."
    return {"question": f"What is shown?\n\nA. {a}\nB. {b}\n{order}", "answer": letter}


def _vstar_bench(word: str, index: int) -> Document:
    letter, (a, b) = _options(word, index)
    return {
        "text": f"What is shown? (A) {a} (B) {b}",
        "label": letter,
        "category": ("direct_attributes", "relative_position")[index % 2],
        "question_id": str(index),
    }


BENCHMARKS: dict[str, Benchmark] = {
    "chartqa": Benchmark(
        title="ChartQA",
        base_yaml="chartqa/chartqa.yaml",
        split="test",
        documents=2500,
        columns={"question": TEXT, "answer": ANSWER, "type": one_of(("human_test", "augmented_test"))},
        headline="relaxed_overall",
        sample=lambda word, index: {
            "question": "Which value is printed?",
            "answer": word,
            "type": ("human_test", "augmented_test")[index % 2],
        },
        reply=lambda doc: doc["answer"],
        suite=True,
        mini=True,
    ),
    "docvqa_val": Benchmark(
        title="DocVQA",
        base_yaml="docvqa/docvqa_val.yaml",
        split="validation",
        documents=5349,
        columns={"question": TEXT, "answers": ANSWERS, "questionId": None},
        headline="anls",
        sample=lambda word, index: {"question": "What is the code?", "answers": [word], "questionId": str(index)},
        reply=lambda doc: doc["answers"][0],
        suite=True,
        mini=True,
    ),
    "ocrbench": Benchmark(
        title="OCRBench",
        base_yaml="ocrbench/ocrbench.yaml",
        split="test",
        documents=1000,
        columns={"question": TEXT, "answer": EITHER, "dataset": TEXT, "question_type": one_of(_OCRBENCH_TYPES)},
        headline="ocrbench_accuracy",
        sample=lambda word, index: {
            "question": "what is written in the image?",
            "answer": [word],
            "dataset": "smoke",
            "question_type": "Regular Text Recognition",
        },
        reply=lambda doc: f"it says {doc['answer'][0]}",
        suite=True,
        mini=True,
    ),
    "pope": Benchmark(
        title="POPE",
        base_yaml="pope/pope.yaml",
        split="test",
        documents=9000,
        columns={
            "question": TEXT,
            "answer": one_of(("yes", "no"), lambda answer: answer.lower().strip()),
            "question_id": None,
        },
        headline="pope_accuracy",
        sample=_pope,
        reply=lambda doc: doc["answer"].capitalize(),
        suite=True,
        mini=True,
    ),
    "realworldqa": Benchmark(
        title="RealWorld",
        base_yaml="realworldqa/realworldqa.yaml",
        split="test",
        documents=765,
        columns={"question": TEXT, "answer": ANSWER},
        headline="exact_match",
        sample=_realworldqa,
        reply=lambda doc: f"{doc['answer']}.",
        suite=True,
        mini=True,
    ),
    "vstar_bench": Benchmark(
        title="V* Bench",
        base_yaml="vstar_bench/vstar_bench.yaml",
        split="test",
        documents=191,
        columns={
            "text": TEXT,
            "label": one_of("ABCD", lambda label: label.strip().upper()),
            "category": TEXT,
            "question_id": None,
        },
        headline="vstar_overall_acc",
        sample=_vstar_bench,
        reply=lambda doc: f"({doc['label']})",
        suite=True,
        mini=True,
    ),
}
TASKS: dict[str, str] = {PREFIX + name: name for name in BENCHMARKS}  # task -> benchmark
DRAWN: dict[str, str] = {"mini": "test", "graded": "validation"}  # suite -> the part of the drawn documents it is on


def _drawn(suite: str) -> dict[str, str]:
    names = (name for name, facts in BENCHMARKS.items() if facts.mini)
    return {f"{PREFIX}{suite}_{name.removesuffix('_val')}": name for name in names}


MINI_TASKS: dict[str, str] = _drawn("mini")
GRADED_TASKS: dict[str, str] = _drawn("graded")
DRAWN_SUITE: dict[str, str] = {task: suite for suite in DRAWN for task in _drawn(suite)}  # task -> key of `DRAWN`
OWN_TASKS: dict[str, str] = TASKS | MINI_TASKS | GRADED_TASKS
SUITES: dict[str, dict[str, str]] = {  # group -> its tasks
    "awares_suite": {task: name for task, name in TASKS.items() if BENCHMARKS[name].suite},
    "awares_mini": MINI_TASKS,
    "awares_graded": GRADED_TASKS,
}
