"""Where the program keeps what it made or was given, between runs."""

import os
from pathlib import Path


def cache_home() -> Path:
    """The user's folder for imported prompts and drawn documents.

    `AWARES_CACHE`, else `lmms-awares` below `XDG_CACHE_HOME` or `~/.cache`.
    """
    if own := os.environ.get("AWARES_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmms-awares"
