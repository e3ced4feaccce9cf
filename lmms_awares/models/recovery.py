"""Going on where one sample fails: which errors are its own, and how the one that memory has no room for is found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from PIL import Image

from lmms_awares.errors import ConfigError, SampleError
from lmms_awares.trace import reason_of

# What reading somebody's image or document can raise: broken files, impossible sizes, decompression bombs.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
# What accelerate's list of messages lacks; torch says the first in another way on each system.
_OUT_OF_MEMORY = ("not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class OutOfMemoryError(SampleError):
    """A sample that needs more memory than there is, even alone."""


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Answered(Generic[Result]):
    """A sample's outcome, or why it has none, and the number of samples that were generated together."""

    outcome: Result | SampleError
    batch_size: int


def is_out_of_memory(error: BaseException) -> bool:
    """True for what Python, numpy, torch and its devices raise where memory does not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return should_reduce_batch_size(error) or any(words in str(error) for words in _OUT_OF_MEMORY)


def is_of_one_sample(error: BaseException) -> bool:
    """True where preparing a sample failed over its image, its document or its size, and the run can go on."""
    unreadable = isinstance(error, _UNREADABLE) and not isinstance(error, ConfigError)
    return unreadable or is_out_of_memory(error)


def answer_within_memory(
    answer: Callable[[Sequence[Item]], list[Result | SampleError]], samples: Sequence[Item]
) -> list[Answered[Result]]:
    """`answer(samples)`, in halves where memory does not suffice for all of them; one result per sample, in order.

    A `SampleError` of a single sample becomes its result. Any other error passes through.
    """
    try:
        return [Answered(outcome, len(samples)) for outcome in answer(samples)]
    except SampleError as error:
        if len(samples) > 1:
            raise
        return [Answered(error, 1)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = reason_of(error)
    # Not before: up to here the error's traceback held on to the tensors of the batch.
    clear_device_cache(garbage_collection=True)
    if len(samples) == 1:
        return [Answered(OutOfMemoryError(f"it does not fit into memory: {reason}"), 1)]
    half = len(samples) // 2
    return [*answer_within_memory(answer, samples[:half]), *answer_within_memory(answer, samples[half:])]
