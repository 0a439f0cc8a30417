"""When the command began: what a deadline of so many seconds counts from."""

from __future__ import annotations

import time

_began: float | None = None


def note_began(began: float | None) -> None:
    """Note when `ens` began to load, on the monotonic clock; None: the command begins now."""
    global _began
    _began = began


def command_began() -> float:
    """When the command began, on the monotonic clock."""
    return time.monotonic() if _began is None else _began
