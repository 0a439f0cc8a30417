"""Searches that take long: they end with the best so far when they should stop, or at Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ensembler.stop import Stop

_KEEPS_AT_CTRL_C: ContextVar[bool] = ContextVar("_KEEPS_AT_CTRL_C", default=True)


@contextmanager
def whole_searches() -> Iterator[None]:
    """Within this block, Ctrl-C is raised by a search instead of ending it.

    Where searches are compared or scored, one that was cut short must not pass for a whole one.
    """
    token = _KEEPS_AT_CTRL_C.set(False)
    try:
        yield
    finally:
        _KEEPS_AT_CTRL_C.reset(token)


def search(step: Callable[[int], bool], rounds: int, stop: Stop) -> bool:
    """Call step(0), step(1), ... for `rounds` rounds or until one says False.

    The first one always ends. Returns whether the search was stopped early: `stop` said so, or
    Ctrl-C came after the first round, which `stop` then knows. Among `whole_searches` Ctrl-C is
    raised.
    """
    for i in range(rounds):
        if i and stop:
            return True
        try:
            if not step(i):
                return False
        except KeyboardInterrupt:
            if i == 0 or not _KEEPS_AT_CTRL_C.get():
                raise
            stop.request("interrupted")
            return True
    return False
