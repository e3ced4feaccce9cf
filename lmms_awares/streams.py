"""Output that outlives its terminal: hours of work must not end over a character or a reader that has gone away."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import TextIO

from typing_extensions import Buffer

_GONE = (errno.EPIPE, errno.EIO)  # a pipe's reader has left; a terminal was closed


def steady_streams() -> None:
    """Let stdout and stderr replace what they cannot encode, and drop what nobody reads any more."""
    sys.stdout, sys.stderr = _steady(sys.stdout, "replace"), _steady(sys.stderr, "backslashreplace")


class _Lasting(io.FileIO):
    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise  # a full disk is worth an error
            return memoryview(data).nbytes


def _steady(stream: TextIO | None, errors: str) -> TextIO:
    if stream is None:  # closed before the program began
        return Path(os.devnull).open("w", encoding="utf-8")
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return stream  # kept in memory by whoever runs us
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors=errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
