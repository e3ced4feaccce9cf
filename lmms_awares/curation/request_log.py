"""Finished requests, kept at once, so that no rerun sends them again.

One SQLite file: a reply is in it before anything is made of it, a killed process leaves no half line, and memory does
not grow with the number of requests.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from lmms_awares.errors import DataError

_TABLE = """\
CREATE TABLE IF NOT EXISTS requests
(key TEXT PRIMARY KEY, stage TEXT NOT NULL, text TEXT NOT NULL, input INTEGER, output INTEGER)
"""
_TOTALS = "SELECT stage, count(*), sum(input), sum(output) FROM requests GROUP BY stage ORDER BY min(rowid)"


@dataclass(frozen=True)
class Reply:
    """What a model said.

    Attributes:
        text: of the reply.
        input_tokens, output_tokens: as the server counts; None where it does not.
    """

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class RequestLog:
    """Replies by the key of their request; for any number of threads.

    Args:
        file: made where missing.

    Raises:
        DataError: a file that cannot be written, or one of another kind.

    Example:
        log = RequestLog(Path("set/requests.sqlite"))
        log.add("judge", "5f2c", Reply("2"))
        log.get("5f2c")
    """

    def __init__(self, file: Path) -> None:
        self.file, self._lock = file, Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=60)
            # A killed process loses nothing; only a machine that loses power may lose the last replies.
            self._open.execute("PRAGMA journal_mode=WAL")
            self._open.execute("PRAGMA synchronous=NORMAL")
            self._open.execute(_TABLE)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None

    def get(self, key: str) -> Reply | None:
        """The reply to a request that finished; None where none did."""
        with self._lock:
            try:
                found = self._open.execute("SELECT text, input, output FROM requests WHERE key = ?", (key,)).fetchone()
            except sqlite3.Error as error:
                raise self._unusable(error) from None
        return None if found is None else Reply(*found)

    def add(self, stage: str, key: str, reply: Reply) -> None:
        """Keep a reply to a stage's request."""
        values = (key, stage, reply.text, reply.input_tokens, reply.output_tokens)
        with self._lock:
            try:
                self._open.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)", values)
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    def totals(self) -> dict[str, dict[str, int | None]]:
        """Finished requests by stage, and their tokens as far as servers count them; None where none does."""
        with self._lock:
            rows = self._open.execute(_TOTALS).fetchall()
        return {stage: {"requests": n, "input_tokens": read, "output_tokens": new} for stage, n, read, new in rows}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._open.close()

    def _unusable(self, error: Exception) -> DataError:
        return DataError(f"finished requests cannot be kept in {self.file}: {error}; make room, or move the file away")
