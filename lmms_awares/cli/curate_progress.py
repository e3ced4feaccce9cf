"""What `awares curate` shows: a line per stage, with rows, requests, tokens, rejected rows and the time left."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lmms_awares.curation.asking import Meter
from lmms_awares.curation.run import Told, reasons
from lmms_awares.curation.shards import SOURCES, Counts


class _Stage:
    """A stage under way or done."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.counts, self.began = meter, Counts(), time.monotonic()

    @property
    def about(self) -> str:
        """Requests, tokens and rejected rows so far."""
        meter, seconds = self.meter, max(time.monotonic() - self.began, 1e-9)
        parts = [f"{meter.sent:,} requests, {meter.sent / seconds:.1f}/s"]
        if meter.known:
            parts.append(f"{meter.known:,} known already")
        if meter.input_tokens:
            parts.append(f"{meter.input_tokens:,} + {meter.output_tokens:,} tokens")
        parts.append(f"{self.counts.rejected.total():,} rejected")
        return ", ".join(parts)


@dataclass
class _Sampling:
    """The sample that is drawn: what is read, and rows of it so far."""

    source: str = ""
    rows: int = 0

    @property
    def about(self) -> str:
        """What is read now."""
        return f"{self.source}: {self.rows:,} rows read"


class _About(ProgressColumn):
    """What a line says of itself, made anew at each refresh."""

    def __init__(self, lines: Mapping[str, _Stage | _Sampling]) -> None:
        super().__init__()
        self._lines = lines
        self._last: dict[str, str] = {}

    def render(self, task: Task) -> Text:
        """The line of a stage; it stands still once the stage is done."""
        if not task.finished or task.description not in self._last:
            self._last[task.description] = self._lines[task.description].about
        return Text(self._last[task.description])


class Display(Told):
    """A live display on a terminal; elsewhere a line at the end of each stage.

    Example:
        with Display() as display:
            run(config, folder, told=display)
    """

    def __init__(self) -> None:
        super().__init__()
        self._sampling = _Sampling()
        self._lines: dict[str, _Stage | _Sampling] = {SOURCES: self._sampling}
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description:<7}"), BarColumn(20), MofNCompleteColumn(), _About(self._lines))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def read(self, source: str, rows: int) -> None:
        """Move the line of the sources on."""
        if not self._sampling.source:
            self._task = self._progress.add_task(SOURCES, total=None)
        if self._progress.disable and source != self._sampling.source:
            print(f"{SOURCES}: {source}", file=sys.stderr)
        self._sampling.source, self._sampling.rows = source, rows

    def begin(self, stage: str, rows: int) -> None:
        """Add the stage's line; what was shown before is done."""
        if self._sampling.source and len(self._lines) == 1:
            self._progress.update(self._task, visible=False)
        self._stage = self._lines[stage] = _Stage(self.meter)
        self._rows, self._task = rows, self._progress.add_task(stage, total=rows)

    def advance(self, stage: str, counts: Counts) -> None:
        """Move the stage's line on."""
        own = self._stage
        own.counts.add(counts)
        self._progress.advance(self._task, counts.rows)
        if self._progress.disable and own.counts.rows == self._rows:
            print(f"{stage}: {self._rows:,} rows in {time.monotonic() - own.began:.1f} s; {own.about}", file=sys.stderr)


def summary(counts: Mapping[str, Counts]) -> str:
    """What became of the rows, stage by stage.

    Example:
        >>> from collections import Counter
        >>> print(summary({"sources": Counts(90), "judge": Counts(90, Counter({"no reply": 2}))}))
        sources  90 rows
        judge    90 rows, 2 rejected (no reply: 2)
    """
    lines = []
    for stage, own in counts.items():
        rejected = f", {own.rejected.total():,} rejected ({reasons(own)})" if own.rejected else ""
        lines.append(f"{stage:<8} {own.rows:,} rows{rejected}")
    return "\n".join(lines)
