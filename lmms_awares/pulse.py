"""Which of a run's processes still live, as one of them hears it."""

from collections.abc import Sequence
from typing import Any

BEAT_S = 2.0
PATIENCE_S = 45.0  # of silence, then a rank counts as dead
JOIN_S = 600.0  # until all ranks must have appeared: nodes of a cluster do not start together


class Pulse:
    """Who has been heard from, seen from one rank, which looks every `BEAT_S`.

    Silence is counted in looks, not in seconds: after a pause of its own a rank must not take the others for dead.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.beats: dict[int, str] = {}
        self._looks = dict.fromkeys(ranks, 0)

    def look(self, beats: dict[int, str]) -> None:
        """Take in what the others last said."""
        for rank in self._looks:
            unchanged = beats.get(rank) == self.beats.get(rank)
            self._looks[rank] = self._looks[rank] + 1 if unchanged else 0
        self.beats |= beats

    def silent(self, share: float = 1.0) -> list[int]:
        """Ranks without a word for (a share of) the time that they have."""
        return [rank for rank, looks in self._looks.items() if looks * BEAT_S >= share * self._limit(rank)]

    def _limit(self, rank: int) -> float:
        return PATIENCE_S if rank in self.beats else JOIN_S

    def verdict(self, hint: str) -> dict[str, Any]:
        """What to say about those who are dead; several that fell silent together are named together."""
        gone = self.silent(share=0.8)
        heard = [rank for rank in gone if rank in self.beats]
        if not heard:
            line = (
                f"{_names(gone)} did not appear within {JOIN_S:.0f} s: start all with one MASTER_ADDR and MASTER_PORT"
            )
            return {"ranks": gone, "line": line, "code": 1}
        where = ", ".join(sorted({self.beats[rank].split()[1] for rank in heard}))
        line = (
            f"{_names(heard)} on {where} stopped without a word, {PATIENCE_S:.0f} s ago: killed, out of memory, or the "
            f"machine is lost; {hint}"
        )
        return {"ranks": heard, "line": line, "code": 1}

    def is_first(self, rank: int, host: str, gone: Sequence[int]) -> bool:
        """True for the lowest rank on its machine that is still there: one line is enough for all on it."""
        without = {*gone, *self.silent(share=0.2)}
        return not any(
            other < rank and other not in without and beat.split()[1] == host for other, beat in self.beats.items()
        )


def _names(ranks: Sequence[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
