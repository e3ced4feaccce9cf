"""Steps of a longer work: a command, the folder that it fills, and beside it what says that it is done."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmms_awares.journal import digest

_FINISHED = ".finished.json"


@dataclass(frozen=True)
class Step:
    """A command and the folder that it fills.

    Attributes:
        folder: what it fills.
        command: arguments of `awares`.
        made_of: what else decides the outcome, such as hashes; another value is another step.
    """

    folder: Path
    command: tuple[str, ...]
    made_of: str = ""

    def beside(self, suffix: str) -> Path:
        """A file beside the folder."""
        return self.folder.with_name(f"{self.folder.name}{suffix}")


def files_digest(*folders: Path) -> str:
    """Hash names, sizes and times of the files in folders, without reading them; one that is not there has none.

    Example:
        Step(Path("runs/awares"), command, made_of=files_digest(Path("checkpoint")))
    """
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir()) if file.is_file()]
    return digest([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files])[:16]


def is_finished(step: Step) -> bool:
    """Return whether a step was carried out with the same command, on the same.

    Example:
        is_finished(Step(Path("runs/awares"), ("eval", "--model", "awares")))
    """
    found = last_finished(step)
    return found.get("command") == list(step.command) and found.get("made_of", "") == step.made_of


def last_finished(step: Step) -> dict[str, Any]:
    """What was written when the folder was last filled, by whatever command; empty where it never was."""
    file = step.beside(_FINISHED)
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def finish(step: Step, **facts: float) -> None:
    """Write that a step is done, whole or not at all; `facts` go with it.

    Example:
        finish(step, seconds=58)
    """
    made_of = {"made_of": step.made_of} if step.made_of else {}
    unfinished = step.beside(f"{_FINISHED}.tmp")
    text = json.dumps({"command": list(step.command), **made_of, **facts}, indent=2)
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(step.beside(_FINISHED))
