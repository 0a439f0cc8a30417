"""What reading a source finds wrong, or did on the way.

Faults and remarks are typed, with a code and the files concerned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_NAMED = 8  # so many places of one fault are named, the others counted


@dataclass(frozen=True)
class Fault:
    """Something that a run refuses, with the files that it is about."""

    code: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remark:
    """Something that was done with the data on the way, with the files that it is about."""

    code: str
    message: str
    files: tuple[str, ...] = ()


def faults_at(what: str, places: Sequence[str], code: str = "data") -> list[Fault]:
    """One fault that names its first places and counts the others; none without a place."""
    if not places:
        return []
    left = len(places) - MOST_NAMED
    more = f" and {left} more" if left > 0 else ""
    return [Fault(code, f"{what} {', '.join(places[:MOST_NAMED])}{more}")]
