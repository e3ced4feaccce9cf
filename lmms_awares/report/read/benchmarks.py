"""Benchmarks of tasks: their names, titles and order."""

from collections.abc import Iterable

from lmms_awares.tasks.benchmarks import BENCHMARKS, MINI_TASKS, TASKS

_BENCHMARK_OF = TASKS | MINI_TASKS


def is_mini(task: str) -> bool:
    """True for the mini suite's tasks."""
    return task in MINI_TASKS


def benchmark_of(task: str) -> str:
    """`docvqa_val` for `awares_docvqa_val` and `awares_mini_docvqa`; a stock task's own name."""
    return _BENCHMARK_OF.get(task, task)


def title_of(task: str) -> str:
    """A column heading."""
    if task not in _BENCHMARK_OF:
        return task
    return BENCHMARKS[_BENCHMARK_OF[task]].title + (" (mini)" if is_mini(task) else "")


def in_order(tasks: Iterable[str]) -> list[str]:
    """Tasks as the paper orders them, real before mini before others."""
    order = list(BENCHMARKS)

    def rank(task: str) -> tuple[bool, bool, int]:
        known = task in _BENCHMARK_OF
        return not known, is_mini(task), order.index(_BENCHMARK_OF[task]) if known else 0

    return sorted(dict.fromkeys(tasks), key=rank)
