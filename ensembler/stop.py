"""One signal to end a job: Ctrl-C, SIGTERM, a budget or deadline that is over, a pruned trial.

Whoever works asks the signal between two steps; whoever wants the work to end sets it. Outside of
such steps Ctrl-C and SIGTERM raise KeyboardInterrupt, so that a job ends soon wherever it is.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NoReturn

from ensembler.errors import EnsemblerError

StopReason = Literal["interrupted", "deadline", "pruned"]


class Stopped(EnsemblerError):
    """A job ended before it was done, because something asked for it."""

    code = "interrupted"


class StoppedNow(Stopped):
    """A job was interrupted for the second time, and ended at once."""

    exit_code = 130


class InterruptedNow(KeyboardInterrupt):
    """Ctrl-C again, by somebody who does not want to wait for the end of a step."""


class Stop:
    """Whether a job should end, and why: `seconds` are over, or `request` was called.

    >>> stop = Stop()
    >>> bool(stop)
    False
    >>> stop.request("interrupted")
    >>> stop.reason
    'interrupted'
    """

    def __init__(
        self, seconds: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # seconds that the end of the job takes after its work was stopped
        self.kept_back = 0.0
        self._limits: list[tuple[float, Callable[[], float]]] = []
        self._reason: StopReason | None = None
        if seconds is not None:
            self.limit(clock() + seconds, clock)

    def __bool__(self) -> bool:
        return self.reason is not None

    @property
    def reason(self) -> StopReason | None:
        """Why the job should end; None while it should not. The first reason stays."""
        seconds_left = self.seconds_left
        if self._reason is None and seconds_left is not None and seconds_left <= 0:
            self._reason = "deadline"
        return self._reason

    @property
    def seconds_left(self) -> float | None:
        """Seconds until time is over, at least 0; None without a limit."""
        left = [ends - clock() for ends, clock in self._limits]
        return max(0.0, min(left)) if left else None

    @property
    def is_over(self) -> bool:
        """Whether time is over, so that not even the step at hand should be ended."""
        return self.seconds_left == 0.0

    @property
    def takes_network(self) -> bool:
        """Whether a training that ends now gives its network as it is; see `FoldStop`."""
        return False

    @property
    def may_shorten(self) -> bool:
        """Whether folds may be cut short where nothing else could be submitted."""
        return True

    def heard(self) -> AbstractContextManager[None]:
        """A block in which Ctrl-C may ask for the end of the job; see `signals.SignalStop`."""
        return nullcontext()

    def for_other_process(self, is_asked: Callable[[], bool] = bool) -> Stop:
        """A signal with the same limits, for another process of this machine.

        That process ends early, too, when `is_asked` says there that this one should end.
        """
        other = _AskedStop(is_asked)
        for ends, clock in self._limits:
            other.limit(ends, clock)
        return other

    def limit(self, ends: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Let the job end when `clock` shows `ends`, unless it ends earlier."""
        self._limits.append((ends, clock))

    def request(self, reason: StopReason) -> None:
        """Ask for the end of the job; the first reason counts."""
        self._reason = self.reason or reason

    def check(self) -> None:
        """Raise Stopped when the job should end."""
        if self.reason is not None:
            raise Stopped(f"stopped: {self.reason}")


class _AskedStop(Stop):
    """A signal that is also set from another process."""

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        super().__init__()
        self._is_asked = is_asked

    @property
    def reason(self) -> StopReason | None:
        """Why the job should end; None while it should not."""
        found = super().reason
        return "interrupted" if found is None and self._is_asked() else found


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: what is finished is kept."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
