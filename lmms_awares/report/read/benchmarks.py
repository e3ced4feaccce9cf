"""Benchmarks of tasks: their names, titles and order."""

from collections.abc import Iterable

from lmms_awares.tasks.benchmarks import BENCHMARKS, MINI_TASKS, TASKS

_BENCHMARK_OF = TASKS | MINI_TASKS


def is_mini(task: str) -> bool:
    """Return True for the mini suite's tasks."""
    return task in MINI_TASKS


def benchmark_of(task: str) -> str:
    """Return the benchmark of a task; a stock task's own name.

    Example:
        >>> benchmark_of("awares_docvqa_val"), benchmark_of("awares_mini_docvqa")
        ('docvqa_val', 'docvqa_val')
    """
    return _BENCHMARK_OF.get(task, task)


def title_of(task: str) -> str:
    """Return the column heading of a task.

    Example:
        >>> title_of("awares_mini_docvqa")
        'DocVQA (mini)'
    """
    if task not in _BENCHMARK_OF:
        return task
    return BENCHMARKS[_BENCHMARK_OF[task]].title + (" (mini)" if is_mini(task) else "")


def in_order(tasks: Iterable[str]) -> list[str]:
    """Sort tasks as the paper orders them, real before mini before others."""
    order = list(BENCHMARKS)

    def rank(task: str) -> tuple[bool, bool, int]:
        known = task in _BENCHMARK_OF
        return not known, is_mini(task), order.index(_BENCHMARK_OF[task]) if known else 0

    return sorted(dict.fromkeys(tasks), key=rank)
