"""What a sample's turns sum to, column by column: new tokens and where the time went."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Values = np.ndarray[Any, Any]
TIMES = ("vision_s", "prefill_s", "decode_s")
FIELDS = pa.struct({"new_tokens": pa.int64(), **{name: pa.float64() for name in ("preprocess_s", *TIMES)}})


def of_turns(turns: pa.Array, preprocess_s: pa.Array) -> dict[str, Values]:
    """Sums over each sample's turns.

    Args:
        turns: lists of `FIELDS`.
        preprocess_s: of the first turns.

    Returns:
        `new_tokens`; `tokens_after_first`, those that `decode_s` was spent on; and, in seconds, `preprocess_s` and
        `TIMES`, NaN where a turn does not say.
    """
    counts, _ = _sums(turns, "new_tokens")
    first = pc.greater(pc.fill_null(pc.struct_field(pc.list_flatten(turns), "new_tokens"), 0), 0)
    rendering, silent = _sums(turns, "preprocess_s")
    before = pc.fill_null(preprocess_s, np.nan).to_numpy(zero_copy_only=False)
    sums = {
        "new_tokens": counts.astype(int),
        "tokens_after_first": (counts - _by_sample(turns, first)).astype(int),
        # A first turn says it in the trace, so that one silent turn is as it should be.
        "preprocess_s": np.where(silent > 1, np.nan, before + rendering),
    }
    for name in TIMES:
        total, silent = _sums(turns, name)
        lengths = pc.fill_null(pc.list_value_length(turns), 0).to_numpy(zero_copy_only=False)
        sums[name] = np.where((silent > 0) | (lengths == 0), np.nan, total)
    return sums


def _sums(turns: pa.Array, field: str) -> tuple[Values, Values]:
    """For each sample the sum of what its turns say, 0 for none, and how many do not say it."""
    values = pc.struct_field(pc.list_flatten(turns), field)
    return _by_sample(turns, pc.fill_null(values, 0)), _by_sample(turns, pc.is_null(values))


def _by_sample(turns: pa.Array, values: pa.Array) -> Values:
    """Sum of `values`, one per turn, over each sample's turns; each by itself, so that sums of floats do not drift."""
    lengths = pc.fill_null(pc.list_value_length(turns), 0).to_numpy(zero_copy_only=False)
    sample = np.repeat(np.arange(len(lengths)), lengths)
    weights = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return np.bincount(sample, weights, minlength=len(lengths))
