"""When a fold has to end before its last epoch: a stop signal that knows what is still to come."""

from __future__ import annotations

from collections.abc import Callable

from ensembler.progress import Epoch, PrefixedProgress, Progress
from ensembler.stop import Stop, Stopped, StopReason

# By how much what is left may exceed the time before a fold is given up with epochs ahead of it:
# an epoch or two say little of all.
_DOUBT = 1.1


class FoldOverruns(Stopped):
    """A fold would not end in time; what is trained of it is kept, and other folds may be."""


class FoldStop(Stop):
    """The stop signal of one fold, asked at the end of every epoch.

    `outer` is that of the job, whose seconds are those there are for training; `after` are the
    seconds that the fold takes after its last epoch. When `is_needed` says so, for nothing else is
    finished, the network that is there when time ends is taken.
    """

    def __init__(
        self,
        outer: Stop,
        after: float,
        is_needed: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._outer, self._after, self._is_needed = outer, after, is_needed
        self._left_before = outer.seconds_left or 0.0
        self._epoch_seconds = 0.0
        self._epochs_left = 0

    @property
    def reason(self) -> StopReason | None:
        """Why the job should end; None while it should not."""
        return self._outer.reason

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the job has left for training."""
        return self._outer.seconds_left

    def request(self, reason: StopReason) -> None:
        """Ask for the end of the job."""
        self._outer.request(reason)

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""
        left = self.seconds_left or 0.0
        self._epoch_seconds, self._left_before = self._left_before - left, left
        self._epochs_left = epoch.epochs - epoch.epoch

    @property
    def takes_network(self) -> bool:
        """Whether the training ends here, and its network as it is now is taken."""
        if not self._epochs_left:
            return False
        ends_here = self.reason is not None or not self._fits(1)
        return ends_here and self._is_needed()

    def check(self) -> None:
        """Raise Stopped when the job should end, FoldOverruns when this fold would end too late."""
        if not self._epochs_left:
            return  # all is trained; what is left is to predict
        self._outer.check()
        left = self.seconds_left
        if left is None or self._fits(self._epochs_left) or self._is_needed():
            return
        needed = self._epochs_left * self._epoch_seconds + self._after
        raise FoldOverruns(
            f"{self._epochs_left} more epochs take {needed:.0f} s, and {left:.0f} s are left"
        )

    def _fits(self, epochs: int) -> bool:
        left = self.seconds_left
        if left is None:
            return True
        needed = epochs * self._epoch_seconds + self._after
        return needed <= left * (_DOUBT if epochs > 1 else 1.0)


class WatchedProgress(PrefixedProgress):
    """Shows what a fold reports, and tells its stop signal of every epoch."""

    def __init__(self, progress: Progress, prefix: str, stop: FoldStop) -> None:
        super().__init__(progress, prefix)
        self._stop = stop

    def epoch(self, epoch: Epoch) -> None:
        """Show it as it is, and tell the stop signal."""
        super().epoch(epoch)
        self._stop.epoch(epoch)
