"""Searches that take long: they stop when their time is over, or at Ctrl-C, with the best so far."""

from __future__ import annotations

import time
from collections.abc import Callable


def search(step: Callable[[int], bool], rounds: int, seconds: float | None = None) -> bool:
    """Call step(0), step(1), ... for `rounds` rounds or until one says False.

    The first one always ends. Returns whether the search was stopped early: `seconds` were over, or
    Ctrl-C came after the first round.
    """
    began = time.perf_counter()
    for i in range(rounds):
        if i and seconds is not None and time.perf_counter() - began > seconds:
            return True
        try:
            if not step(i):
                return False
        except KeyboardInterrupt:
            if i == 0:
                raise
            return True
    return False
