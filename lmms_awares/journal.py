"""A crash-safe record of finished samples, so that a run that died continues behind its last finished sample.

lmms-eval's own response cache is written only after every request of every task is done. The journal is one JSON line
per finished sample, flushed at once; each process appends to a file of its own and reads all of them at the start.
"""

import glob
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from lmms_awares.errors import UserError
from lmms_awares.trace import Trace

_NAME = "journal.jsonl"
_BEGINNING = b'{"key":'  # of every line, see `Entry`


class Entry(BaseModel):
    """One finished sample. `key` covers everything that the answer depends on; see `digest`."""

    model_config = ConfigDict(extra="forbid")

    key: str
    task: str
    split: str
    doc_id: int
    answer: str
    input_tokens: int
    output_tokens: int
    trace: Trace


def digest(*parts: object) -> str:
    """Hash JSON-serialisable parts and bytes to a hex sha256; the same parts in the same order give the same key.

    Raises:
        TypeError: a part that is neither bytes nor JSON-serialisable.
    """
    sha = hashlib.sha256()
    for part in parts:
        blob = b"b" + part if isinstance(part, bytes) else b"j" + json.dumps(part, sort_keys=True).encode()
        sha.update(len(blob).to_bytes(8, "big"))
        sha.update(blob)
    return sha.hexdigest()


class JournalError(UserError):
    """A file that cannot serve as journal; the message is one line that names the file and the fix."""


def check_journal(path: Path) -> None:
    """Check, before anything heavy loads, that a file can be appended to and is a journal, if it exists.

    Raises:
        JournalError: the file cannot be opened, or holds something else, which appending would spoil.
    """
    try:
        file = path / _NAME if path.is_dir() else path
        if file.exists() and not file.is_file():
            raise JournalError(f"the journal {file} is no regular file; give another one")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            stream.seek(0)
            lines = [line for line in stream if not line.isspace()]
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be written: {error.strerror}; give another file") from None
    if lines and not any(line.startswith(_BEGINNING) or _BEGINNING.startswith(line) for line in lines):
        raise JournalError(f"journal={file} is a file of another kind, to which nothing is appended; give another one")


class Journal:
    """Append-only store of finished samples at `path` (a file; for a folder, `journal.jsonl` in it).

    Rank 0 writes `path`, rank k writes `<stem>.rank<k><suffix>` beside it. A torn last line, as a killed process leaves
    one, is skipped. Samples that failed are recorded but never reused.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        if path.is_dir():
            path = path / _NAME
        if path.exists() and not path.is_file():
            raise OSError(f"the journal {path} is no regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = (entry for file in _shards(path) for entry in _read(file))
        self._done = {entry.key: entry for entry in entries if entry.trace.failed is None}
        self.reusable = len(self._done)
        own = path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
        self._file: IO[str] = own.open("a+", encoding="utf-8")
        _end_torn_line(self._file)
        self._lock = Lock()  # samples may finish in several threads

    def get(self, key: str) -> Entry | None:
        """Return the finished sample with this key, or None."""
        return self._done.get(key)

    def add(self, entry: Entry) -> None:
        """Append one finished sample and flush it to the file."""
        line = entry.model_dump_json() + "\n"
        with self._lock:
            if entry.trace.failed is None:
                self._done[entry.key] = entry
            self._file.write(line)
            self._file.flush()


def _shards(path: Path) -> list[Path]:
    others = path.parent.glob(f"{glob.escape(path.stem)}.rank*{glob.escape(path.suffix)}")
    return sorted([*([path] if path.exists() else []), *others])


def _read(file: Path) -> Iterator[Entry]:
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            yield Entry.model_validate_json(line)
        except ValidationError:
            continue  # torn by a kill, or written by another schema version: that sample is simply generated again


def _end_torn_line(file: IO[str]) -> None:
    if file.tell() and not Path(file.name).read_bytes().endswith(b"\n"):
        file.write("\n")
