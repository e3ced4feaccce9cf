"""The first pass over a source: which rows can be used, and which of them come first.

A row's rank is a hash of the seed and its id, so the sample does not depend on the order in which rows are read.
Memory holds ids, ranks and hashes of the rows that may be chosen, and of what was rejected; no images.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from lmms_awares.curation.decontaminate import Benchmarks
from lmms_awares.curation.pictures import Picture, fitting, load, pixel_hash
from lmms_awares.curation.records import Record
from lmms_awares.curation.rows import Rejected, Row
from lmms_awares.curation.sources import Asked, Box, OpenSource, read_row
from lmms_awares.errors import DataError
from lmms_awares.journal import digest

Progress = Callable[[str, int], None]  # what is read, and how many rows of it so far
BENCHMARK_IMAGE, DUPLICATE = "image of a benchmark", "duplicate id"  # reasons that have a count of their own
_EVERY = 100  # rows between two calls of Progress


@dataclass(frozen=True)
class Usable:
    """A row with its picture; `box` is in px of the picture as it was loaded."""

    asked: Asked
    picture: Picture
    box: Box | None


@dataclass(frozen=True)
class Candidate:
    """A row that may be chosen.

    Attributes:
        rank: lower ones come first.
        number: of the row in its source.
        images: pixel hashes of its images.
        content: hash of all that it asks and shows.
    """

    rank: int
    number: int
    id: str
    images: tuple[str, ...]
    content: str


@dataclass(frozen=True)
class Survey:
    """What the first pass found in a source.

    Attributes:
        candidates: those of the lowest ranks, in order.
        rejected: (rank, row without its split) of every row that was looked at, in order; up to the last candidate's
            rank it does not depend on the order of reading.
        read: rows of the source.
        whole: no row was left out for its rank.
    """

    candidates: list[Candidate]
    rejected: list[tuple[int, Row]]
    read: int
    whole: bool


@dataclass
class _Lowest:
    """The candidates of the lowest ranks, at most `limit` of them."""

    limit: int
    by_rank: dict[int, Candidate] = field(default_factory=dict)
    left_out: bool = False
    _heap: list[int] = field(default_factory=list)  # ranks below zero, so that the highest comes first

    @property
    def bar(self) -> float:
        """The highest rank that still gets in."""
        return -self._heap[0] if len(self._heap) == self.limit else math.inf

    def add(self, candidate: Candidate) -> Rejected | None:
        """Take a candidate; of two with one id the same one stays, whichever comes first."""
        twin = self.by_rank.get(candidate.rank)
        if twin is not None:
            self.by_rank[candidate.rank] = min(twin, candidate, key=lambda one: one.content)
            return Rejected(DUPLICATE, "another row of this source has the same one")
        self.by_rank[candidate.rank] = candidate
        heapq.heappush(self._heap, -candidate.rank)
        if len(self._heap) > self.limit:
            del self.by_rank[-heapq.heappop(self._heap)]
            self.left_out = True
        return None


def rank_of(seed: int, id: str) -> int:
    """Rank a row by the seed and its id alone."""
    return int(sha256(f"{seed} {id}".encode()).hexdigest(), 16)


def survey(
    opened: OpenSource, limit: int, seed: int, benchmarks: Benchmarks | None = None, progress: Progress | None = None
) -> Survey:
    """Read a source and find its usable rows of the lowest ranks.

    Rows beyond them are not looked at: their images are not decoded, and they do not count as rejected.

    Args:
        limit: candidates at most.
        benchmarks: images that may not be used.

    Raises:
        DataError: no row can be used.
    """
    lowest, rejected, read = _Lowest(limit), list[tuple[int, Row]](), 0
    for number, (record, folder) in enumerate(opened.records.read()):
        read += 1
        if progress is not None and read % _EVERY == 0:
            progress(opened.name, read)
        id = record if isinstance(record, Rejected) else opened.id_of(record, number)
        name = id if isinstance(id, str) else f"{opened.name}/row {number}"
        rank = rank_of(seed, name)
        if rank > lowest.bar:
            lowest.left_out = True
            continue
        found: Candidate | Rejected
        if isinstance(record, Rejected):
            found = record
        elif isinstance(id, Rejected):
            found = id
        else:
            found = _candidate(opened, record, folder, benchmarks, (rank, number, id))
        why = found if isinstance(found, Rejected) else lowest.add(found)
        if why is not None:
            row = {"id": name, "source": opened.name, "stage": "sources"}
            rejected.append((rank, row | {"reason": why.reason, "detail": why.detail}))
    rejected.sort(key=lambda one: (one[0], one[1]["reason"]))
    if not lowest.by_rank:
        first = f"; the first: {rejected[0][1]['reason']} ({rejected[0][1]['detail']})" if rejected else ""
        raise DataError(f"source {opened.name}: none of the {read} rows of {opened.records.where} can be used{first}")
    return Survey([lowest.by_rank[rank] for rank in sorted(lowest.by_rank)], rejected, read, not lowest.left_out)


def usable(opened: OpenSource, record: Record, folder: Path) -> Usable | Rejected:
    """Take a row apart and load its picture.

    Args:
        folder: of the file that holds the row.
    """
    asked = read_row(opened.source, record)
    if isinstance(asked, Rejected):
        return asked
    cell = record[opened.source.columns.image]
    picture = load(cell, opened.folder or folder, opened.source.several_images)
    if isinstance(picture, Rejected):
        return picture
    box = None if asked.box is None else fitting(asked.box, picture.image.size)
    return box if isinstance(box, Rejected) else Usable(asked, picture, box)


def _candidate(
    opened: OpenSource, record: Record, folder: Path, benchmarks: Benchmarks | None, place: tuple[int, int, str]
) -> Candidate | Rejected:
    row = usable(opened, record, folder)
    if isinstance(row, Rejected):
        return row
    images = tuple(map(pixel_hash, row.picture.parts))
    for image, pixels in zip(row.picture.parts, images, strict=True):
        if benchmarks is not None and (where := benchmarks.find(image, pixels)):
            return Rejected(BENCHMARK_IMAGE, where)
    return Candidate(*place, images, digest(row.asked.question, row.asked.answers, row.box, images))
