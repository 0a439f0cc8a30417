"""Numbers of a device that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def fetched(number: Tensor) -> Callable[[], float]:
    """What a number is now, to be asked for later.

    On CUDA the copy is only begun: asking waits until the device has come to it.
    """
    if number.device.type != "cuda":
        value = float(number)
        return lambda: value
    pinned = torch.empty((), dtype=number.dtype, pin_memory=True)
    pinned.copy_(number, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(number.device))

    def ask() -> float:
        copied.synchronize()
        return float(pinned)

    return ask
