"""The processes of one run, the ranks: they hear from each other that they live, and none waits for a dead one.

torch's collectives wait for a slow rank and for a dead one alike, for hours under lmms-eval's settings, and who started
the processes may not watch them. So each rank tells torch's key-value store every other second that it lives, from a
thread of its own: work may take as long as it likes. A rank that has stopped telling, or says that it failed, ends the
others with a line that names it. What ranks have to tell each other about the work goes through the same store.
"""

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from lmms_awares import pulse
from lmms_awares.errors import ConfigError, UserError
from lmms_awares.trace import reason_of

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

LINGER_S = 10.0  # that the rank with the store in it stays, so that others read why the run ended
_CHUNK = 4 << 20  # bytes of a value; the store takes less than 8 MiB
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Ranks:
    """This process among those of the run.

    Args:
        share: whether requests are shared out anew among ranks, see `lmms_awares.models.together`.
        hint: what a user can do after the death of a rank.

    Raises:
        ConfigError: `WORLD_SIZE` without the rest of what a launcher sets.
    """

    def __init__(self, *, share: bool, hint: str) -> None:
        if missing := [name for name in _VARIABLES if not os.environ.get(name)]:
            raise ConfigError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} without {', '.join(missing)}: start with torchrun or "
                "accelerate launch, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each process"
            )
        self.share = share
        self.hint = hint
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        # torchrun's agents keep a store for their ranks; otherwise rank 0 does.
        self.agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        self._left = False
        self._rounds = 0
        self._store: Store | None = None
        self._watch = Watch(self)
        self._watch.start()

    def connect(self, seconds: float) -> "Store":
        """A connection of its own to the store, for one thread.

        Raises:
            torch.distributed.DistError: it cannot be reached within `seconds`.
        """
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosting = self.rank == 0 and not self.agent
        wait = timedelta(seconds=seconds)
        store = TCPStore(host, port, None, hosting, wait, wait_for_workers=False, multi_tenant=True)
        store.set_timeout(timedelta(days=365))  # who waits is ended by the watch, and by nothing else
        return PrefixStore(f"awares/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)

    def gather(self, mine: Any) -> list[Any]:
        """What each rank gave (JSON), in their order; all ranks call this and `exchange` in the same order."""
        self._rounds += 1
        self._put(f"{self._rounds}/{self.rank}", mine)
        return [self._take(f"{self._rounds}/{rank}") for rank in range(self.size)]

    def exchange(self, letters: Sequence[Any]) -> list[Any]:
        """Send `letters[r]` (JSON) to each rank r; returns what each rank sent here, in their order."""
        self._rounds += 1
        for rank, letter in enumerate(letters):
            self._put(f"{self._rounds}/{self.rank}>{rank}", letter)
        return [self._take(f"{self._rounds}/{rank}>{self.rank}", last=True) for rank in range(self.size)]

    def _put(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        parts = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
        for number, part in enumerate(parts):
            self._own_store(pulse.JOIN_S).set(f"{key}/{number}", part)
        self._own_store(pulse.JOIN_S).set(key, str(len(parts)))

    def _take(self, key: str, *, last: bool = False) -> Any:
        """A value, once it is there; `last`: nobody else wants it."""
        store = self._own_store(pulse.JOIN_S)
        keys = [f"{key}/{number}" for number in range(int(store.get(key)))]
        text = b"".join(store.get(part) for part in keys)
        if last:
            for each in (key, *keys):
                store.delete_key(each)
        return json.loads(text)

    def _own_store(self, seconds: float) -> "Store":
        if self._store is None:
            self._store = self.connect(seconds)
        return self._store

    def fail(self, error: BaseException) -> None:
        """Tell the other ranks that this one ends with `error`; they end too."""
        import torch.distributed as dist

        if self._left:
            return
        if _of_a_collective(error):
            # Most likely another rank is gone. The watch finds out which, and ends this process with its name.
            time.sleep(pulse.PATIENCE_S + 3 * pulse.BEAT_S)
        try:
            store = self._own_store(LINGER_S)
            line = f"rank {self.rank} failed: {reason_of(error)}"
            verdict = {"ranks": [self.rank], "line": line, "code": 2 if isinstance(error, UserError) else 1}
            say_end(store, verdict, by=self.rank)
        except dist.DistError as lost:
            print(f"the other ranks could not be told that this one fails: {reason_of(lost)}", file=sys.stderr)
            self._left = True
        self.leave()

    def leave(self) -> None:
        """Leave the run; the rank that holds the store waits a little for the others to do so."""
        import torch.distributed as dist

        if self._left:
            return
        self._left = True
        self._watch.stop()
        with suppress(dist.DistError):  # the store left before this rank: nobody waits for it
            self.linger(self._own_store(LINGER_S))

    def linger(self, store: "Store", gone: Sequence[int] = ()) -> None:
        """Say that this rank has left; where the store is here, keep it up until all have but those who are gone."""
        store.set(f"left/{self.rank}", "1")
        deadline = time.monotonic() + LINGER_S
        hosting = self.rank == 0 and not self.agent
        waited_for = [f"left/{rank}" for rank in range(self.size) if rank not in gone]
        while hosting and not store.check(waited_for):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)


class Watch(threading.Thread):
    """The thread that says that this rank lives, and looks whether the others do."""

    def __init__(self, ranks: Ranks) -> None:
        import torch.distributed  # noqa: F401 - not in the thread, beside the imports of the main one

        super().__init__(name="ranks", daemon=True)
        self._ranks = ranks
        self._host = socket.gethostname()
        self._stopped = threading.Event()
        self._looks = 0
        self._ending = False
        self._pulse = pulse.Pulse([rank for rank in range(ranks.size) if rank != ranks.rank])

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._looks:
            self.join()

    def run(self) -> None:
        """Beat and look, until stopped."""
        import torch.distributed as dist

        ranks = self._ranks
        try:
            store = ranks.connect(pulse.JOIN_S)
            threading.Thread(target=self._guard, name="guard", daemon=True).start()
            while not self._stopped.is_set():
                self._looks += 1
                store.set(f"beat/{ranks.rank}", f"{self._looks} {self._host}")
                self._look(store)
                self._stopped.wait(pulse.BEAT_S)
        except dist.DistError as error:
            if self._stopped.is_set():
                return
            if not self._looks:
                self._end(f"the store of rank 0 at {ranks.address} cannot be used: {reason_of(error)}", 1)
            self._end(self._lost(), 1)

    def _guard(self) -> None:
        """End this process where the store answers no more: a machine that is lost closes no connection."""
        before, ticks = 0, 0
        while self.is_alive() and not self._ending:
            time.sleep(pulse.BEAT_S)
            ticks = ticks + 1 if self._looks == before else 0
            before = self._looks
            if ticks * pulse.BEAT_S >= pulse.PATIENCE_S:
                self._end(self._lost(), 1)

    def _lost(self) -> str:
        holder = "the torchrun that holds the ranks' store" if self._ranks.agent else "rank 0"
        return f"{holder} at {self._ranks.address} is gone: killed, or its machine is lost; {self._ranks.hint}"

    def _look(self, store: "Store") -> None:
        ranks = self._ranks
        others = [rank for rank in range(ranks.size) if rank != ranks.rank]
        there = [rank for rank in others if rank in self._pulse.beats or store.check([f"beat/{rank}"])]
        beats = store.multi_get([f"beat/{rank}" for rank in there])
        self._pulse.look({rank: beat.decode() for rank, beat in zip(there, beats, strict=True)})
        if self._pulse.silent() and not store.check(["end"]):
            say_end(store, self._pulse.verdict(ranks.hint), by=ranks.rank)
        if store.check(["end"]) and not self._stopped.is_set():
            verdict = json.loads(store.get("end"))
            if verdict["ranks"] == [verdict["by"]] == [ranks.rank]:
                return  # its own words: it is about to end by itself
            speaks = self._pulse.is_first(ranks.rank, self._host, verdict["ranks"])
            self._end(
                verdict["line"] if speaks else None, verdict["code"], lambda: ranks.linger(store, verdict["ranks"])
            )

    def _end(self, line: str | None, code: int, farewell: Callable[[], None] | None = None) -> NoReturn:
        """End this process, wherever its other threads wait."""
        self._ending = True
        if line is not None:
            print(f"awares: error: {line}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        if farewell is not None:
            farewell()
        os._exit(code)


def say_end(store: "Store", verdict: dict[str, Any], *, by: int) -> None:
    """Tell all ranks why the run ends; the first who says something is right, the rest are consequences."""
    store.compare_set("end", "", json.dumps(verdict | {"by": by}))


_CURRENT: ContextVar[Ranks | None] = ContextVar("ranks", default=None)


def current() -> Ranks | None:
    """This process among the run's others; None where it is alone, or lmms-eval was not started by `awares eval`."""
    return _CURRENT.get()


@contextmanager
def joined(*, share: bool, hint: str) -> Iterator[None]:
    """Be one of the run's ranks, where a launcher started several; see `Ranks` for the arguments and errors."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    ranks = Ranks(share=share, hint=hint)
    before = _CURRENT.set(ranks)
    try:
        yield
        ranks.leave()
    except BaseException as error:
        ranks.fail(error)
        raise
    finally:
        _CURRENT.reset(before)


def _of_a_collective(error: BaseException) -> bool:
    """True where torch's communication failed, which says no more than that somebody is gone."""
    import torch.distributed as dist

    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, dist.DistError) or any("torch/distributed/" in frame.filename for frame in frames)
