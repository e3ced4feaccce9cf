"""The best checkpoint so far, `OUTPUT_DIR/best`: the model, and `best.json` with step and numbers."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmms_awares.training.settings import Best

NAME, FILE = "best", "best.json"


class BestFolder:
    """The folder of the best checkpoint by a rule; a kill at any time leaves the old one or the new one, whole.

    A new one is written to `best.new`, `best.json` last, the old one steps aside to `best.old`, and the new one takes
    its name; what a kill left between is put in place by the next call.

    Args:
        output: folder of the training.
        rule: a `best` by another rule does not count.
    """

    def __init__(self, output: Path, rule: Best) -> None:
        self._folder, self._rule = output / NAME, rule
        self._new, self._old = (output / f"{NAME}.{word}" for word in ("new", "old"))

    def known(self) -> dict[str, Any] | None:
        """Return the `best.json` of the best so far; None where there is none by this rule."""
        self._mend()
        file = self._folder / FILE
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found if found["best"] == str(self._rule) else None

    def offer(self, step: int, numbers: Mapping[str, float], save: Callable[[Path], None]) -> bool:
        """Keep a model that is better than the best so far.

        Args:
            numbers: of its evaluation.
            save: writes the model into a folder.

        Returns:
            True where it was kept.
        """
        value, known = self._rule.value(numbers), self.known()
        if value is None or (known is not None and value <= known["numbers"][self._rule.metric]):
            return False
        save(self._new)
        told = {"best": str(self._rule), "step": step, "numbers": plain(numbers)}
        (self._new / FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        if self._folder.exists():
            self._folder.rename(self._old)
        self._new.rename(self._folder)
        self._mend()
        return True

    def _mend(self) -> None:
        """Finish an exchange that a kill ended, and remove what is left of it."""
        if not self._folder.exists():
            whole = next((folder for folder in (self._new, self._old) if _is_whole(folder)), None)
            if whole is not None:
                whole.rename(self._folder)
        for folder in (self._new, self._old):
            if folder.exists():
                shutil.rmtree(folder)


def _is_whole(folder: Path) -> bool:
    file = folder / FILE
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else False
    except ValueError:  # the kill came while it was written
        return False


def plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Make numbers fit for JSON: null for NaN.

    Example:
        >>> plain({"score": 61.0, "area": float("nan")})
        {'score': 61.0, 'area': None}
    """
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}
