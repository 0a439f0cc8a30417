"""Ctrl-C and SIGTERM as an early deadline: the epoch ends, and what there is is submitted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ensembler.stop import InterruptedNow, Stop

# Seconds after SIGTERM until the process ends: a machine that is taken back gives thirty.
GRACE = 25.0


class SignalStop(Stop):
    """A stop signal that Ctrl-C and SIGTERM set while the block of `heard` runs.

    The first Ctrl-C asks for the end after the step at hand, as SIGTERM does, which leaves it
    `GRACE` seconds for that and for all that comes after. The second one raises InterruptedNow,
    from then on until `release`. Before the block both raise KeyboardInterrupt. `say` tells the
    user what happens.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._may_finish = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """The block whose steps ask this signal, and end by themselves."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._on_ctrl_c)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGALRM, self._on_alarm)
        self._may_finish = True
        try:
            yield
        finally:
            self._may_finish = False

    @contextmanager
    def released(self) -> Iterator[None]:
        """A block after which signals are again what they were before it."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_ctrl_c(self, _signum: int, _frame: object) -> None:
        self._interrupt("again stops now")

    def _on_sigterm(self, _signum: int, _frame: object) -> None:
        self._interrupt(f"within {GRACE:.0f} s")
        self.limit(time.monotonic() + max(0.0, GRACE - 5.0 - self.kept_back))
        signal.setitimer(signal.ITIMER_REAL, GRACE - 2.0)

    def _on_alarm(self, _signum: int, _frame: object) -> None:
        raise InterruptedNow

    def _interrupt(self, how: str) -> None:
        if self.reason is not None:
            raise InterruptedNow
        if not self._may_finish:
            raise KeyboardInterrupt
        self.request("interrupted")
        self._say(
            f"interrupted: the epoch is ended, and what there is is submitted ({how})"
        )
