"""Which samples are generated together: windows of waiting samples, cut into batches of like length.

samples, as they come     90  400  85  390  2000  95         tokens of each
window                    up to 16 batches that decode alike
batches of size 2         [2000] [400 390] [90 95] [85]      long ones first: what memory has no room for shows soon
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from lmms_eval.api.instance import Instance

from lmms_awares.models.sample import Sample

BATCHES = 16  # of a window: enough that those of like length find each other
# Of a window, over all samples that wait: patches of a visual token take about 19 kB, so these take up to 2.5 GB.
TOKENS = 1 << 17
# A batch's padded tokens, by those of a full batch of median samples: few long samples take as much memory as many.
_SLACK = 2


@dataclass(frozen=True)
class Waiting:
    """A sample to generate.

    Attributes:
        number: of its request.
        key: under which a journal finds its answer.
        journaled: False for requests that only fill up a process's share.
    """

    number: int
    key: str
    sample: Sample
    journaled: bool


def wants_trace(request: Instance) -> bool:
    """True where the task asked for the trace to travel with the answer."""
    return bool(request.metadata.get("awares_envelope"))


def numbered(requests: Sequence[Instance]) -> list[tuple[Instance, int]]:
    """Requests with how often the document of each came before."""
    seen: Counter[tuple[str, str, int]] = Counter()
    found = []
    for request in requests:
        _, _, _, doc_id, task, split = request.args
        found.append((request, seen[task, split, doc_id]))
        seen[task, split, doc_id] += 1
    return found


def windows(waiting: Iterable[Waiting], size: int) -> Iterator[list[Waiting]]:
    """Runs of samples that decode alike, of at most `BATCHES` batches of `size`; each ends where it holds `TOKENS`.

    Batches of one need no window: there is nothing to sort.
    """
    window: list[Waiting] = []
    most, tokens = (1 if size == 1 else BATCHES * size), 0
    for one in waiting:
        if window and window[0].sample.decoding != one.sample.decoding:
            yield window
            window, tokens = [], 0
        window.append(one)
        tokens += one.sample.prompt.length
        if len(window) == most or tokens >= TOKENS:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Cut a window into batches with little padding, longest first.

    Args:
        lengths: tokens of each sample.
        size: samples of a batch at most. Its padded tokens are at most twice those of `size` samples of median length,
            but for a sample that is longer alone.

    Returns:
        the samples' numbers, those of a batch in the order of the window.

    Example:
        >>> by_length([90, 400, 85, 390, 2000, 95], size=2)
        [[4], [1, 3], [0, 5], [2]]
    """
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    budget = _SLACK * size * median(lengths)
    batches = []
    while order:
        count = min(size, max(1, int(budget // lengths[order[0]])))
        batches.append(sorted(order[:count]))
        order = order[count:]
    return batches
