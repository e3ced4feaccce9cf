"""Carrying out a suite's rows: each in a process that keeps its model for the next row, whatever becomes of the others.

rows that are due ──► local, `jobs` processes  ─┐
                  └─► served, 4 processes      ─┴─► Outcome: seconds, or what went wrong and the row's log
"""

import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from lmms_awares.engine.opening import keep_model
from lmms_awares.errors import UserError
from lmms_awares.steps import finish
from lmms_awares.suites.planning import Job

_SERVED = 4  # rows at a time that wait for a server


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        seconds: it took, loading included.
        problem: why it failed, in one line; empty where it did not.
    """

    job: Job
    seconds: float
    problem: str = ""


def carry_out(jobs: Sequence[Job], *, at_once: int) -> Iterator[Outcome]:
    """Run rows; what one prints goes to `ROW.log` beside its folder, and one that fails does not stop the others.

    Args:
        jobs: in their order; rows that load the same model beside each other.
        at_once: processes for rows whose model is on this machine.

    Yields:
        an outcome per row, as they end.

    Example:
        for outcome in carry_out(due(jobs), at_once=1):
            print(outcome.job.row.name, outcome.problem or "done")
    """
    # Said by torchvision when a process starts; see `lmms_awares.cli.awares.main`.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:Failed to load image Python extension")
    served = [job for job in jobs if job.served]
    local = [job for job in jobs if not job.served]
    cores = os.cpu_count() or 1
    slots = [(local, max(1, cores // at_once))] * min(at_once, len(local))
    slots += [(served, 1)] * min(_SERVED, len(served))
    waiting = {id(rows): _queued(rows) for rows, _ in slots}
    done: queue.Queue[Outcome] = queue.Queue()
    for rows, threads in slots:
        threading.Thread(target=_serve, args=(waiting[id(rows)], threads, done.put), daemon=True).start()
    for _ in jobs:
        yield done.get()


def _queued(jobs: Sequence[Job]) -> "queue.Queue[Job]":
    waiting: queue.Queue[Job] = queue.Queue()
    for job in jobs:
        waiting.put(job)
    return waiting


def _serve(waiting: "queue.Queue[Job]", threads: int, tell: Callable[[Outcome], None]) -> None:
    """Take rows until none is left; a process that dies takes one row with it, and another one goes on."""
    with contextlib.ExitStack() as stack:
        pool = _pool(stack, threads)
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.perf_counter()
            try:
                problem = pool.submit(_run, job).result()
            except BrokenProcessPool:
                problem, pool = "its process was killed, as happens where memory ends", _pool(stack, threads)
            seconds = time.perf_counter() - started
            if not problem:
                finish(job.step, seconds=round(seconds, 1), documents=job.documents or 0)
            tell(Outcome(job, seconds, problem))


def _pool(stack: contextlib.ExitStack, threads: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (threads,))
    return stack.enter_context(pool)


def _begin(threads: int) -> None:
    """Set up a process that runs rows, one after the other."""
    import torch

    torch.set_num_threads(threads)
    keep_model()


def _run(job: Job) -> str:
    """Run a row in this process; return what went wrong, in one line."""
    from lmms_awares.evaluate import run

    with _into(job.step.beside(".log")):
        try:
            code = run(job.step.command[1:])
        except UserError as error:
            return " ".join(str(error).split())
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "" if code == 0 else f"awares eval ended with code {code}"


@contextlib.contextmanager
def _into(log: Path) -> Iterator[None]:
    """Append the output of this process to a file."""
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield
