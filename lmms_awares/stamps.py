"""A time stamp for a run's files that no other run in the same folder has: lmms-eval's own stamps count seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unique_stamps(folder: Path, stamp: Callable[..., str]) -> Iterator[Callable[..., str]]:
    """Yield a replacement for lmms-eval's `get_datetime_str`: it waits for a second that no run in `folder` has taken.

    A second is taken by a hidden file, which is removed at the end, or by results that carry it. Two runs that start
    together would otherwise overwrite each other's results and mix their samples.

    Args:
        folder: where results are written, directly or one folder below.
        stamp: lmms-eval's function, with its keyword `timezone`.
    """
    claims: list[Path] = []

    def unique(**keywords: str) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            text = stamp(**keywords)
            claim = folder / f".{text}.running"
            try:
                claim.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                claims.append(claim)
                if not any(True for pattern in ("", "*/") for _ in folder.glob(f"{pattern}{text}_*")):
                    return text
            time.sleep(0.2)

    try:
        yield unique
    finally:
        for claim in claims:
            claim.unlink(missing_ok=True)
