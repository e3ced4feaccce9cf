"""Which rank answers what: shares of nearly equal planned visual tokens."""

import heapq
from collections.abc import Sequence


def share(costs: Sequence[int], ranks: int, already: Sequence[int] = ()) -> list[int]:
    """The rank of each piece of work: the dearest first, each to the rank that has least so far.

    Shares differ by less than the dearest piece. The same costs give the same shares on every rank, so that nobody has
    to be told, and a run that is resumed shares as before.

    Args:
        costs: of each piece, in planned visual tokens.
        ranks: how many share the work.
        already: tokens that each rank has to answer in any case; default: none.

    Returns:
        a rank for each piece, in their order.

    Example:
        >>> share([900, 100, 100, 100, 600], ranks=2)
        [0, 1, 1, 1, 1]
    """
    # Of ranks with as many tokens, the one with fewer pieces is next: a piece costs more than its image.
    waiting = [(tokens, 0, rank) for rank, tokens in enumerate(already or [0] * ranks)]
    heapq.heapify(waiting)
    assignment = [0] * len(costs)
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        tokens, pieces, rank = waiting[0]
        assignment[piece] = rank
        heapq.heapreplace(waiting, (tokens + costs[piece], pieces + 1, rank))
    return assignment
