"""Samples made ready by processes of their own, while the device works on those before them.

torch's DataLoader starts the processes by fork, so that nothing is sent to them: they see model, tasks and journal as
they were, and must not touch the device. They send back pickled bytes and no tensors: those would each take a file
descriptor and a piece of /dev/shm, of which containers have little.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from lmms_awares.errors import UserError

Ready = TypeVar("Ready")
_MOST = 4  # more do not make a GPU wait less, and each holds samples in memory


class WorkerError(UserError):
    """A process that prepares samples died; the message is one line that says what to do."""


@dataclass(frozen=True)
class _Refused:
    """What ends the run, on its way from a worker."""

    error: UserError


class _Pickled(Dataset[bytes]):
    """`prepare(0)`, `prepare(1)`, … as bytes."""

    def __init__(self, prepare: Callable[[int], object], count: int) -> None:
        self._prepare, self._count = prepare, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> bytes:
        try:
            return pickle.dumps(self._prepare(number))
        except UserError as error:  # DataLoader would hand it on with a traceback in its message
            return pickle.dumps(_Refused(error))


def default_workers(device: str, processes: int) -> int:
    """Workers of one process of a run, where nobody says how many.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, …; only a GPU computes while CPU cores prepare.
        processes: of the run, which share the cores.
    """
    if not device.startswith("cuda") or "fork" not in get_all_start_methods():
        return 0
    return max(0, min(_MOST, (os.cpu_count() or 1) // processes - 2))


def prepared(prepare: Callable[[int], Ready], count: int, *, workers: int, ahead: int) -> Iterator[Ready]:
    """`prepare(0)` to `prepare(count - 1)`, in order.

    Args:
        workers: processes that prepare; 0 for this one.
        ahead: results that they make before they are asked for, at most (rounded up to their number).

    Raises:
        UserError: as `prepare` does.
    """
    if workers == 0:
        yield from map(prepare, range(count))
        return
    loader = DataLoader(
        _Pickled(prepare, count),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=-(-ahead // workers),
        multiprocessing_context="fork",
        generator=torch.Generator(),  # its seed is drawn from there, and not from the one that sampling uses
    )
    for blob in loader:
        result = pickle.loads(blob)
        if isinstance(result, _Refused):
            raise result.error
        yield result


@contextmanager
def named_death(workers: int) -> Iterator[None]:
    """Say in one line that a worker died; torch says so from a signal handler, whatever is running.

    Raises:
        WorkerError: instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        what = " ".join(str(error).split()).rstrip(".")
        raise WorkerError(
            f"a process that prepares samples died ({what}); if memory is short, give fewer: --model_args workers=0 "
            f"instead of {workers}"
        ) from None
