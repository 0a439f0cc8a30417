"""When memory does not suffice: halve the batch where possible, else say what needs less."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ensembler.data.size import Size, shown
from ensembler.errors import EnsemblerError, OutOfMemoryError

Result = TypeVar("Result")
# Only CUDA has a class of its own for it; on processors and MPS torch raises a RuntimeError with
# these words.
_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "MPS backend out of",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def in_parts(compute: Callable[[Tensor], Result], images: Tensor) -> list[Result]:
    """What `compute` gives for `images`: at once, or in halves of halves where memory is short."""
    try:
        return [compute(images)]
    except (RuntimeError, MemoryError) as error:
        if len(images) < 2 or not is_out_of_memory(error):
            raise
    # Not inside the handler: there the error would still hold what the attempt has made.
    half = (len(images) + 1) // 2
    return [*in_parts(compute, images[:half]), *in_parts(compute, images[half:])]


@contextlib.contextmanager
def memory_advice(
    *, batch_size: int, size: Size, amp: str, accumulate: int | None = None
) -> Iterator[None]:
    """Turn an error for want of memory into an OutOfMemoryError that says which options need less.

    `accumulate` is the member's, None where it cannot have one.
    """
    try:
        yield
    except EnsemblerError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        first = "".join(str(error).strip().splitlines()[:1])
        advice = " or ".join(_needing_less(batch_size, size, amp, accumulate))
        raise OutOfMemoryError(
            f"out of memory with batch_size {batch_size} at {shown(size)} px; {advice} needs less "
            f"({first})"
        ) from error


def _needing_less(
    batch_size: int, size: Size, amp: str, accumulate: int | None
) -> list[str]:
    ways = []
    if batch_size > 1 and accumulate is None:
        ways.append(f"batch_size: {batch_size // 2}")
    elif batch_size > 1:
        ways.append(
            f"batch_size: {batch_size // 2} with accumulate: {2 * (accumulate or 1)} (steps as "
            "large as now)"
        )
    ways.append(f"a size below {shown(size)}")
    if amp == "off":
        ways.append("amp: auto")
    return ways
