"""A deadline as people write it: a length of time (1h30m), a clock time (23:30) or a moment (ISO).

A length is followed by a clock that nobody sets; a clock time by the clock on the wall, whatever
is done to it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day

from ensembler.errors import RequestError

_LENGTH = re.compile(
    r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0}
_CLOCK = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?")
_LONGEST = 366 * 24 * 3600.0
_EXPECTED = (
    "expected a length such as 45s, 30m or 1h30m, a time such as 23:30, or a moment such as"
)
_EXAMPLE = "2026-12-01T18:00"


@dataclass(frozen=True)
class Deadline:
    """The moment `at` (with its time zone): it is `ends` on `clock`.

    The command `began` then on the same clock.
    """

    at: datetime
    ends: float
    clock: Callable[[], float] = time.monotonic
    began: float = 0.0

    @property
    def seconds_given(self) -> float:
        """Seconds from the start of the command to the deadline."""
        return self.ends - self.began

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, negative when it is past."""
        return self.ends - self.clock()


def parse_deadline(
    text: str,
    *,
    began: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Deadline:
    """Read a deadline; a length of time counts from `began` on the monotonic clock (default: now).

    A clock time is that of today, or of tomorrow when it is past. Raises RequestError for what is
    none, and for a moment that is past.
    """
    given = text.strip()
    seconds = _length(given)
    elapsed = 0.0 if began is None else monotonic() - began
    now = datetime.fromtimestamp(wall()).astimezone()
    if seconds is None:
        at = _clock_time(given, now) or _moment(given)
        if at is None:
            raise RequestError(f"--deadline {text!r}: {_EXPECTED} {_EXAMPLE}")
        left = at.timestamp() - now.timestamp()
        deadline = Deadline(at, at.timestamp(), wall, wall() - elapsed)
    else:
        start = monotonic() - elapsed
        ends = start + seconds
        left = seconds - elapsed
        at = datetime.fromtimestamp(wall() + left).astimezone()
        deadline = Deadline(at, ends, monotonic, start)
    if left <= 0:
        raise RequestError(
            f"--deadline {text!r} is past: it was {at.isoformat(timespec='seconds')}, and now it "
            f"is {now.isoformat(timespec='seconds')}"
        )
    return deadline


def seconds_in(text: str) -> float | None:
    """The seconds of a length of time: 45s, 30m or 1h30m; None for anything else."""
    found = _LENGTH.fullmatch(text)
    if found is None or not text:
        return None
    return sum(float(found[unit]) * factor for unit, factor in _UNIT.items() if found[unit])


def _length(text: str) -> float | None:
    seconds = seconds_in(text)
    if seconds is not None and seconds > _LONGEST:
        raise RequestError(f"--deadline {text!r}: a year is the longest")
    return seconds


def _clock_time(text: str, now: datetime) -> datetime | None:
    """When it is next so late on the clock here; None for what is no clock time."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    try:
        hour, minute, second = (int(part) for part in found.groups(default="0"))
        wanted = time_of_day(hour, minute, second)
    except ValueError:
        return None
    # Where clocks are set back a time comes twice a day (fold 0, then 1); where they are set
    # forward one that is skipped is what the clock shows an hour later.
    moments = [
        datetime.combine(now.date() + timedelta(days=days), wanted.replace(fold=fold))
        for days in (0, 1)
        for fold in (0, 1)
    ]
    return next(at for at in (m.astimezone() for m in moments) if at > now)


def _moment(text: str) -> datetime | None:
    """A moment as ISO 8601 writes it, in the time zone here when it names none."""
    if "T" not in text and " " not in text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.astimezone()
    except (ValueError, OverflowError, OSError):
        return None
