"""How long the training that is planned may still take, from how long its latest epochs took.

Other work on the machine comes and goes, so only the last few epochs count, and the first one of a
member, which also warms up what lies beneath, only until there is another. A member that has not
begun yet is as fast as another one of the same network, in proportion to the pixels it sees; of any
other network nothing is known, and that is said.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ensembler.cli.terminal import duration
from ensembler.progress import Epoch, FoldJob

RECENT = 4  # epochs, or folds
_DOUBT = 2.0  # by how much a single epoch may mislead, either way

Fold = tuple[str, int]  # member and fold


@dataclass
class _Recent:
    """The latest of some times; the first one only until there is another."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    has_warmed_up: bool = False

    def add(self, seconds: float) -> None:
        if self.seconds and not self.has_warmed_up:
            self.seconds.clear()
            self.has_warmed_up = True
        self.seconds.append(seconds)

    @property
    def mean(self) -> float:
        return sum(self.seconds) / len(self.seconds)


@dataclass
class TimeLeft:
    """Hears of the plan, of epochs and of finished folds; `clock` tells seconds."""

    clock: Callable[[], float] = time.monotonic
    jobs: dict[Fold, FoldJob] = field(default_factory=dict)
    done_epochs: dict[Fold, int] = field(default_factory=dict)
    finished: set[Fold] = field(default_factory=set)
    _paces: dict[tuple[str, bool], _Recent] = field(
        default_factory=dict
    )  # of a member's or network's epochs
    _tails: dict[str, _Recent] = field(
        default_factory=dict
    )  # what follows a member's last epoch of a fold
    _heard: dict[Fold, float] = field(
        default_factory=dict
    )  # when folds at work told something last

    @property
    def total(self) -> int:
        """All epochs that were planned."""
        return sum(job.epochs for job in self.jobs.values())

    @property
    def done(self) -> int:
        """Epochs that are over: of a finished fold all, for none of them will come."""
        return sum(job.epochs - self._waiting(job) for job in self.jobs.values())

    def plan(self, jobs: Sequence[FoldJob]) -> None:
        """These folds are to be trained."""
        for job in jobs:
            self.jobs[job.member, job.fold] = job
            self.finished.discard((job.member, job.fold))

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""
        fold = (epoch.member, epoch.fold)
        job = self.jobs.setdefault(fold, FoldJob(*fold, epoch.epochs))
        self.done_epochs[fold] = epoch.epoch
        self._heard[fold] = self.clock()
        is_frozen = epoch.epoch <= job.frozen_epochs
        for name in (_of_member(job), _of_network(job)):
            self._paces.setdefault((name, is_frozen), _Recent()).add(epoch.seconds / job.work)

    def fold_done(self, job: FoldJob) -> None:
        """A fold is finished, perhaps before its last epoch."""
        fold = (job.member, job.fold)
        self.finished.add(fold)
        began = self._heard.pop(fold, None)
        if began is not None:
            self._tails.setdefault(job.member, _Recent()).add(self.clock() - began)

    def failed(self, member: str) -> None:
        """Nothing more comes of a member."""
        for fold in self.jobs:
            if fold[0] == member:
                self.finished.add(fold)
                self._heard.pop(fold, None)

    @property
    def text(self) -> str:
        """The time left in words; nothing while nothing is known."""
        seconds, untimed, is_rough = 0.0, set(), False
        waiting = [job for fold, job in self.jobs.items() if fold not in self.finished]
        for job in waiting:
            seconds += self._tail(job)
            for is_frozen, epochs in self._epochs_left(job).items():
                pace = self._pace(job, is_frozen)
                if pace is None:
                    untimed.add(job.member)
                    continue
                seconds += epochs * pace.mean * job.work
                is_rough = is_rough or not pace.has_warmed_up
        if not self._paces or not waiting:
            return ""
        seconds /= min(self._at_once, len(waiting))
        if untimed:
            names = f"{len(untimed)} members" if len(untimed) > 1 else next(iter(untimed))
            return f"at least {duration(seconds)} left ({names} not timed yet)"
        if is_rough:
            return f"{duration(seconds / _DOUBT)} to {duration(seconds * _DOUBT)} left"
        return f"{duration(seconds)} left"

    def _waiting(self, job: FoldJob) -> int:
        fold = (job.member, job.fold)
        return 0 if fold in self.finished else max(0, job.epochs - self.done_epochs.get(fold, 0))

    def _epochs_left(self, job: FoldJob) -> dict[bool, int]:
        """How many epochs are left with the backbone frozen, and how many without."""
        waiting = self._waiting(job)
        frozen = min(waiting, max(0, job.frozen_epochs - (job.epochs - waiting)))
        return {is_frozen: n for is_frozen, n in ((True, frozen), (False, waiting - frozen)) if n}

    def _pace(self, job: FoldJob, is_frozen: bool) -> _Recent | None:
        """Seconds by unit of work: the member's own, or those of another one of its network."""
        own = self._paces.get((_of_member(job), is_frozen))
        return own or self._paces.get((_of_network(job), is_frozen))

    def _tail(self, job: FoldJob) -> float:
        own = self._tails.get(job.member)
        if own is not None:
            return own.mean
        return sum(tail.mean for tail in self._tails.values()) / max(1, len(self._tails))

    @property
    def _at_once(self) -> int:
        """Folds at work now.

        One that was silent for far longer than its epochs take belongs to a dead process.
        """
        now, at_work = self.clock(), 0
        for fold, heard in self._heard.items():
            job = self.jobs[fold]
            paces = [
                p.mean
                for frozen in (True, False)
                if (p := self._paces.get((_of_member(job), frozen)))
            ]
            at_work += now - heard <= 60 + 5 * max(paces, default=0.0) * job.work
        return max(1, at_work)


def _of_member(job: FoldJob) -> str:
    return f"member {job.member}"


def _of_network(job: FoldJob) -> str:
    return f"network {job.network or job.member}"
