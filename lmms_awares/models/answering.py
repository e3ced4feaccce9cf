"""From requests to entries: what is prepared ahead, what is generated together, what the journal and the log are told.

    requests ──► _prepare (here, or in workers) ──► windows ──► batches of like length ──► answer ──► entries
                                     └─ from the journal, or failed ─────────────────────────────────────┘

An engine that answers several talks at a time gets each request in a thread of its own, which also prepares it.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from lmms_eval.api.instance import Instance
from loguru import logger

from lmms_awares.engine.turns import Engine
from lmms_awares.errors import SampleError
from lmms_awares.journal import Entry, Journal
from lmms_awares.models import records
from lmms_awares.models.host import HostModel
from lmms_awares.models.prefetch import named_death, prepared
from lmms_awares.models.recovery import Answered, answer_within_memory
from lmms_awares.models.sample import Outcome, Sample
from lmms_awares.models.side_by_side import side_by_side
from lmms_awares.models.windows import BATCHES, Waiting, by_length, numbered, windows

Asked = tuple[int, tuple[Instance, int]]  # number of a request, and the request with how often its document came before


class Answering(HostModel):
    """A model that prepares samples and answers them together.

    Attributes:
        engine: who answers.
        workers: processes that prepare samples; not used where the engine answers several talks at a time.
    """

    engine: Engine
    workers: int
    _journal: Journal | None

    @property
    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """The trace's fields that a whole run shares."""

    @abstractmethod
    def _prepare(self, request: Instance, repeat: int) -> Entry | tuple[str, Sample]:
        """A sample to generate with its key; or the finished entry. Leaves journal and log as they are."""

    @abstractmethod
    def answer(self, samples: Sequence[Sample]) -> list[Outcome | SampleError]:
        """Answer a batch."""

    def entries_of(self, requests: Sequence[Instance]) -> Iterator[tuple[int, Entry]]:
        """Answer requests: the number of each and its entry, as soon as it is there, in any order."""
        asked = list(enumerate(numbered(requests)))
        if self.engine.parallel > 1:
            yield from side_by_side(self._alone, asked, self.engine.parallel, stop=self.engine.close)
            return
        finished: list[tuple[int, Entry]] = []
        with named_death(self.workers):
            for window in windows(self._waiting(asked, finished), self.batch_size):
                yield from self._answered(window)
                yield from finished
                finished.clear()
        yield from finished

    def _alone(self, asked: Asked) -> tuple[int, Entry]:
        """Prepare and answer one request."""
        number, (request, repeat) = asked
        one = self._settled(number, request, self._prepare(request, repeat))
        return (number, one) if isinstance(one, Entry) else next(self._answered([one]))

    def _waiting(self, asked: Sequence[Asked], finished: list[tuple[int, Entry]]) -> Iterator[Waiting]:
        """The samples to generate; the other entries, from the journal or failed, go to `finished`."""
        results = prepared(
            lambda number: self._prepare(*asked[number][1]),
            len(asked),
            workers=self.workers,
            ahead=BATCHES * self.batch_size,
        )
        for (number, (request, _)), result in zip(asked, results, strict=True):
            one = self._settled(number, request, result)
            if isinstance(one, Entry):
                finished.append((number, one))
            else:
                yield one

    def _settled(self, number: int, request: Instance, result: Entry | tuple[str, Sample]) -> Entry | Waiting:
        """What `_prepare` gave, or what the journal has learnt since; a failure is told to journal and log."""
        if isinstance(result, Entry):
            if result.trace.failed is not None:
                self._record_failure(result)
            return result
        found = self._journaled(result[0])
        return found or Waiting(number, *result, journaled=not request.metadata.get("__padding_only__"))

    def _answered(self, window: Sequence[Waiting]) -> Iterator[tuple[int, Entry]]:
        """A window's entries, batch by batch."""
        for rows in by_length([one.sample.prompt.length for one in window], self.batch_size):
            batch = [window[row] for row in rows]
            for one, done in zip(batch, self._recovering([one.sample for one in batch]), strict=True):
                if isinstance(done.outcome, SampleError):
                    entry = records.failed(one.sample.at, done.outcome, one.sample.images, self._identity)
                    self._record_failure(entry)
                    yield one.number, entry
                    continue
                entry = records.finished(one.key, one.sample, done.outcome, self._identity, done.batch_size)
                if self._journal and one.journaled:
                    self._journal.add(entry)
                yield one.number, entry

    def _recovering(self, samples: Sequence[Sample]) -> Iterator[Answered[Outcome]]:
        if samples[0].decoding.temperature == 0:
            yield from answer_within_memory(self.answer, samples)
            return
        # One at a time, seeded by the sample: its answer must not depend on its batch or on what a resume skipped.
        for sample in samples:
            yield from answer_within_memory(self.answer, [sample])

    def _journaled(self, key: str) -> Entry | None:
        entry = self._journal.get(key) if self._journal else None
        return entry and records.reused(entry)

    def _record_failure(self, entry: Entry) -> None:
        logger.warning(f"{entry.task} document {entry.doc_id} failed: {entry.trace.failed}")
        if self._journal:
            self._journal.add(entry)
