"""How long a job waits for others to end what they have at hand, once its own time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ensembler.stop import Stop

_LEAST = 2.0  # seconds


@dataclass
class Grace:
    """Half of what a job keeps back for its end: whoever trains for it then has ended, or is left.

    An interrupted job whose time is not over waits for the epoch at hand.
    """

    stop: Stop
    clock: Callable[[], float] = time.monotonic
    _over_since: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody is waited for any longer."""
        if not self.stop.is_over:
            return False
        if self._over_since is None:
            self._over_since = self.clock()
        return self.clock() - self._over_since > max(_LEAST, self.stop.kept_back / 2)
