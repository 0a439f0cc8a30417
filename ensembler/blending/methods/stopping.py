"""Searches that take long: they end with the best so far when they should stop, or at Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable

from ensembler.stop import Stop


def search(step: Callable[[int], bool], rounds: int, stop: Stop) -> bool:
    """Call step(0), step(1), ... for `rounds` rounds or until one says False.

    The first one always ends. Returns whether the search was stopped early: `stop` said so, or
    Ctrl-C came after the first round, which `stop` then knows.
    """
    for i in range(rounds):
        if i and stop:
            return True
        try:
            if not step(i):
                return False
        except KeyboardInterrupt:
            if i == 0:
                raise
            stop.request("interrupted")
            return True
    return False
