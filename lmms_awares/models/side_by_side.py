"""Work that waits for somebody else, done in threads; results in order."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, *, stop: Callable[[], None]
) -> Iterator[Result]:
    """Map `work` over `items` in so many threads.

    Args:
        stop: called where an error or the caller ends the work early, so that what is going on ends at once.

    Raises:
        whatever `work` raises; nothing else is begun then.

    Example:
        >>> list(side_by_side(str, [1, 2], threads=2, stop=lambda: None))
        ['1', '2']
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sample")
    done = False
    try:
        yield from pool.map(work, items)
        done = True
    finally:
        if not done:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
        pool.shutdown()
