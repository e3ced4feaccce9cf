"""The tiny checkpoint that ships with the package."""

from importlib.resources import files
from pathlib import Path


def checkpoint() -> Path:
    """Return the folder of the tiny checkpoint that ships with the package.

    Example:
        lmms_awares.load(checkpoint())
    """
    return Path(str(files("lmms_awares.mini") / "checkpoint"))
