"""The folder for what outlives a run: imported prompts and drawn documents."""

import os
from pathlib import Path


def cache_home() -> Path:
    """Return the user's folder for imported prompts and drawn documents; the folder need not exist.

    `AWARES_CACHE`, else `lmms-awares` below `XDG_CACHE_HOME` or `~/.cache`.
    """
    if own := os.environ.get("AWARES_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmms-awares"
