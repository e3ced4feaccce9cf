"""Benchmarks of tasks: their names, titles and order."""

from collections.abc import Iterable

from lmms_awares.tasks.benchmarks import BENCHMARKS, DRAWN, DRAWN_SUITE, OWN_TASKS


def is_mini(task: str) -> bool:
    """Return True for the mini suite's tasks, with graded print or without."""
    return task in DRAWN_SUITE


def suite_of(task: str) -> str:
    """Return the drawn suite that a task is of: `mini`, `graded`; '' for others."""
    return DRAWN_SUITE.get(task, "")


def benchmark_of(task: str) -> str:
    """Return the benchmark of a task; a stock task's own name.

    Example:
        >>> benchmark_of("awares_docvqa_val"), benchmark_of("awares_mini_docvqa")
        ('docvqa_val', 'docvqa_val')
    """
    return OWN_TASKS.get(task, task)


def title_of(task: str) -> str:
    """Return the column heading of a task.

    Example:
        >>> title_of("awares_mini_docvqa")
        'DocVQA (mini)'
    """
    if task not in OWN_TASKS:
        return task
    return BENCHMARKS[OWN_TASKS[task]].title + (f" ({suite_of(task)})" if is_mini(task) else "")


def in_order(tasks: Iterable[str]) -> list[str]:
    """Sort tasks as the paper orders them, real before mini before graded before others."""
    order, suites = list(BENCHMARKS), ["", *DRAWN]

    def rank(task: str) -> tuple[bool, int, int]:
        known = task in OWN_TASKS
        return not known, suites.index(suite_of(task)), order.index(OWN_TASKS[task]) if known else 0

    return sorted(dict.fromkeys(tasks), key=rank)
