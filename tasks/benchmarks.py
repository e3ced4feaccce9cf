"""The benchmarks, one record each: what lmms-eval's own YAMLs do not say of them."""

from dataclasses import dataclass

PREFIX = "awares_"
MINI_PREFIX = "awares_mini_"


@dataclass(frozen=True)
class Benchmark:
    """Facts about one benchmark that do not stand in lmms-eval's own YAML.

    Attributes:
        base_yaml: the installed lmms-eval's task file, below its `tasks` folder.
        split: split that is scored.
        columns: columns that prompts and scorers read.
        headline: the metric that the paper reports; its per-sample value becomes `score`.
        title: heads its columns, as in the paper's Table 1.
        mini: the mini suite has a counterpart.
    """

    base_yaml: str
    split: str
    columns: tuple[str, ...]
    headline: str
    title: str
    mini: bool = False


BENCHMARKS: dict[str, Benchmark] = {
    "chartqa": Benchmark(
        "chartqa/chartqa.yaml", "test", ("image", "question", "answer", "type"), "relaxed_overall", "ChartQA", mini=True
    ),
    "docvqa_val": Benchmark(
        "docvqa/docvqa_val.yaml",
        "validation",
        ("image", "question", "answers", "questionId"),
        "anls",
        "DocVQA",
        mini=True,
    ),
    "ocrbench": Benchmark(
        "ocrbench/ocrbench.yaml",
        "test",
        ("image", "question", "answer", "dataset", "question_type"),
        "ocrbench_accuracy",
        "OCRBench",
        mini=True,
    ),
    "pope": Benchmark(
        "pope/pope.yaml", "test", ("image", "question", "answer", "question_id"), "pope_accuracy", "POPE", mini=True
    ),
    "realworldqa": Benchmark(
        "realworldqa/realworldqa.yaml", "test", ("image", "question", "answer"), "exact_match", "RealWorld", mini=True
    ),
    "vstar_bench": Benchmark(
        "vstar_bench/vstar_bench.yaml",
        "test",
        ("image", "text", "label", "category", "question_id"),
        "vstar_overall_acc",
        "V* Bench",
        mini=True,
    ),
}
TASKS: dict[str, str] = {PREFIX + name: name for name in BENCHMARKS}  # task -> benchmark
MINI_TASKS: dict[str, str] = {
    MINI_PREFIX + name.removesuffix("_val"): name for name, facts in BENCHMARKS.items() if facts.mini
}
SUITES: dict[str, dict[str, str]] = {"awares_suite": TASKS, "awares_mini": MINI_TASKS}  # group -> its tasks
