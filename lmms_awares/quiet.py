"""What goes into a pipe or a file instead of a terminal: no colours, no progress bars, and no notes of every step."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

# Progress bars of libraries that read these when they are imported, in this process and those that it starts.
_SWITCHES = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")


def switch_bars_off() -> None:
    """Keep progress bars out of a stderr that is no terminal; imports nothing, for the start of a command."""
    if not sys.stderr.isatty():
        for name in _SWITCHES:
            os.environ.setdefault(name, "1")


@contextmanager
def plain_off_terminal(logs: TextIO) -> Iterator[None]:
    """Make what lmms-eval prints plain where it does not go to a terminal.

    lmms-eval always logs in colour, to stdout; and it tells tqdm explicitly to show its bars.

    Args:
        logs: where its log goes instead, where stdout is no terminal; stderr, so that stdout holds results only.
    """
    from unittest.mock import patch  # it brings asyncio along, too slow for `awares --help`

    from loguru import logger
    from tqdm import std

    add, start = logger.add, std.tqdm.__init__

    def added(sink: Any, **options: Any) -> int:
        if sink is not sys.stdout:
            return add(sink, **options)
        return add(logs, **options | {"colorize": False})

    def started(bar: Any, *args: Any, **options: Any) -> None:
        start(bar, *args, **options | {"disable": options.get("disable") or None})  # None: off where no terminal is

    with ExitStack() as stack:
        stack.enter_context(patch.object(std.tqdm, "__init__", started))
        if not sys.stdout.isatty():
            stack.enter_context(patch.object(logger, "add", added))
        yield


def verbosity(arguments: Sequence[str]) -> list[str]:
    """lmms-eval's option that leaves warnings and errors, where stdout is no terminal and none is given."""
    given = any(argument.split("=")[0] == "--verbosity" for argument in arguments)
    return [] if given or sys.stdout.isatty() else ["--verbosity", "WARNING"]
