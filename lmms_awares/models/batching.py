"""Grouping lmms-eval's requests into batches."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from lmms_eval.api.instance import Instance


def wants_trace(request: Instance) -> bool:
    """True where the task asked for the trace to travel with the answer."""
    return bool(request.metadata.get("awares_envelope"))


def batches(requests: Sequence[Instance], size: int) -> Iterator[list[tuple[Instance, int]]]:
    """Runs of up to `size` requests that decode alike, in order; with each, how often its document came before."""
    seen: Counter[tuple[str, str, int]] = Counter()
    numbered = []
    for request in requests:
        _, _, _, doc_id, task, split = request.args
        numbered.append((request, seen[task, split, doc_id]))
        seen[task, split, doc_id] += 1
    for _, group in itertools.groupby(numbered, key=lambda pair: pair[0].args[2]):
        run = list(group)
        for start in range(0, len(run), size):
            yield run[start : start + size]
