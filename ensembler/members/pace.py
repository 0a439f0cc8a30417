"""How long the planned training may still take, estimated from the epochs that are over.

Other work on the machine comes and goes. The estimate therefore looks back as far as it looks
ahead: with many epochs left, the mean of many past ones counts, so that a burst of load moves it
little; near the end the latest alone count. Where the latest epochs disagree with that mean, the
machine has changed: the other end of the estimate supposes that it stays so for some time, the
longer the longer it has been so. The first epoch of a training,
which also warms up what lies beneath, counts only until there is another. A training that has not
begun is as fast as another one of the same network, in proportion to the pixels it sees; of any
other network nothing is known, and the estimate names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ensembler.progress import Epoch, FoldTask

RECENT = 4  # epochs that show how fast the machine is now
_MISLEADS = 2.0  # by how much a single epoch may mislead, either way
_LASTS = 2  # how many times as long as it has lasted a change of pace may last on
_DISAGREE = 1.25  # ratio of both ends from which on the estimate is a range
_SILENT = 60.0  # seconds without an epoch after which a process may have died

Fold = tuple[str, int]  # training and fold


@dataclass(frozen=True)
class Estimate:
    """Seconds left, from `low` to `high`, without the trainings in `untimed`."""

    low: float
    high: float
    untimed: tuple[str, ...] = ()


@dataclass
class Pace:
    """Seconds that something takes, again and again; the first time only until there is another."""

    seconds: list[float] = field(default_factory=list)
    has_warmed_up: bool = False

    def add(self, seconds: float) -> None:
        """It took so long once more."""
        if self.seconds and not self.has_warmed_up:
            self.seconds.clear()
            self.has_warmed_up = True
        self.seconds.append(seconds)

    def expected(self, ahead: int) -> tuple[float, float]:
        """Seconds for each of the next `ahead` times, at least and at most."""
        recent = _mean(self.seconds[-RECENT:])
        if not self.has_warmed_up:
            return recent / _MISLEADS, recent * _MISLEADS
        usual = _mean(self.seconds[-max(RECENT, ahead) :])
        lasting = min(ahead, _LASTS * self._phase(recent, usual))
        if_it_lasts = usual + (recent - usual) * lasting / max(1, ahead)
        low, high = sorted((usual, if_it_lasts))
        return (low, high) if high > _DISAGREE * low else (usual, usual)

    def _phase(self, recent: float, usual: float) -> int:
        """For how many epochs the machine has been as fast as it is now."""
        length = 0
        for seconds in reversed(self.seconds):
            if abs(seconds - recent) > abs(seconds - usual):
                break
            length += 1
        return max(RECENT, length)


@dataclass
class TimeLeft:
    """Follows the plan, epochs and finished folds; `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    tasks: dict[Fold, FoldTask] = field(default_factory=dict)
    done_epochs: dict[Fold, int] = field(default_factory=dict)
    finished: set[Fold] = field(default_factory=set)
    at_once: int = 1
    # of epochs, by network
    _paces: dict[tuple[str, bool], Pace] = field(default_factory=dict)
    # after a fold's last epoch, by training
    _tails: dict[str, Pace] = field(default_factory=dict)
    _last_epoch: dict[Fold, float] = field(default_factory=dict)  # when, of folds at work
    _most_at_work: int = 0

    @property
    def total(self) -> int:
        """All epochs that were planned."""
        return sum(task.cost.epochs for task in self.tasks.values())

    @property
    def done(self) -> int:
        """Epochs that are over: of a finished fold all, for none of them will come."""
        return sum(task.cost.epochs - self._waiting(task) for task in self.tasks.values())

    def plan(self, tasks: Sequence[FoldTask], at_once: int = 1) -> None:
        """These folds are to be trained, so many at the same time."""
        self.at_once = at_once
        for task in tasks:
            self.tasks[task.training, task.fold] = task
            self.finished.discard((task.training, task.fold))

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""
        task = self.tasks.get((epoch.training, epoch.fold))
        if task is None:  # of another process that shares the run
            return
        fold = (epoch.training, epoch.fold)
        self.done_epochs[fold] = epoch.epoch
        self._last_epoch[fold] = self.clock()
        is_frozen = epoch.epoch <= task.cost.frozen_epochs
        for name in (_of_training(task), _of_network(task)):
            pace = self._paces.setdefault((name, is_frozen), Pace())
            pace.add(epoch.seconds / task.cost.work)
        self._most_at_work = max(self._most_at_work, self._at_work())

    def fold_done(self, task: FoldTask) -> None:
        """A fold is finished, perhaps before its last epoch."""
        fold = (task.training, task.fold)
        self.finished.add(fold)
        began = self._last_epoch.pop(fold, None)
        if began is not None:
            self._tails.setdefault(task.training, Pace()).add(self.clock() - began)

    def failed(self, training: str) -> None:
        """Nothing more comes of a training."""
        for fold in self.tasks:
            if fold[0] == training:
                self.finished.add(fold)
                self._last_epoch.pop(fold, None)

    @property
    def estimate(self) -> Estimate | None:
        """The time left; None while nothing is known, and when nothing is left."""
        waiting = [task for fold, task in self.tasks.items() if fold not in self.finished]
        if not self._paces or not waiting:
            return None
        ahead = self._epochs_ahead(waiting)
        low = high = 0.0
        untimed: dict[str, None] = {}
        for task in waiting:
            tail = self._tail(task)
            low, high = low + tail, high + tail
            for is_frozen, epochs in self._epochs_left(task).items():
                pace = self._pace(task, is_frozen)
                if pace is None:
                    untimed[task.training] = None
                    continue
                least, most = pace.expected(ahead[_of_network(task), is_frozen])
                low += epochs * least * task.cost.work
                high += epochs * most * task.cost.work
        at_once = min(self._concurrency, len(waiting))
        return Estimate(low / at_once, high / at_once, tuple(untimed))

    def _epochs_ahead(self, waiting: Sequence[FoldTask]) -> dict[tuple[str, bool], int]:
        """How many epochs of each network are left: so far the estimate looks back."""
        ahead: dict[tuple[str, bool], int] = {}
        for task in waiting:
            for is_frozen, epochs in self._epochs_left(task).items():
                key = (_of_network(task), is_frozen)
                ahead[key] = ahead.get(key, 0) + epochs
        return ahead

    def _waiting(self, task: FoldTask) -> int:
        fold = (task.training, task.fold)
        if fold in self.finished:
            return 0
        return max(0, task.cost.epochs - self.done_epochs.get(fold, 0))

    def _epochs_left(self, task: FoldTask) -> dict[bool, int]:
        """How many epochs are left with the backbone frozen, and how many without."""
        waiting = self._waiting(task)
        done = task.cost.epochs - waiting
        frozen = min(waiting, max(0, task.cost.frozen_epochs - done))
        counts = {True: frozen, False: waiting - frozen}
        return {is_frozen: n for is_frozen, n in counts.items() if n}

    def _pace(self, task: FoldTask, is_frozen: bool) -> Pace | None:
        """Seconds by unit of work: the training's own, or those of another one of its network."""
        own = self._paces.get((_of_training(task), is_frozen))
        return own or self._paces.get((_of_network(task), is_frozen))

    def _tail(self, task: FoldTask) -> float:
        own = self._tails.get(task.training)
        if own is not None:
            return _mean(own.seconds)
        return _mean([_mean(tail.seconds) for tail in self._tails.values()])

    @property
    def _concurrency(self) -> int:
        """Folds trained at the same time: as planned, until so many were seen at work together.

        From then on a process that died is not counted.
        """
        if self._most_at_work < self.at_once:
            return self.at_once
        return max(1, self._at_work())

    def _at_work(self) -> int:
        """Folds at work now.

        One that was silent for far longer than its epochs take belongs to a dead process.
        """
        now = self.clock()
        return sum(
            now - last <= _SILENT + 5 * self._slowest_epoch(self.tasks[fold])
            for fold, last in self._last_epoch.items()
        )

    def _slowest_epoch(self, task: FoldTask) -> float:
        paces = [self._paces.get((_of_training(task), frozen)) for frozen in (True, False)]
        means = [_mean(pace.seconds[-RECENT:]) for pace in paces if pace is not None]
        return max(means, default=0.0) * task.cost.work


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _of_training(task: FoldTask) -> str:
    return f"training {task.training}"


def _of_network(task: FoldTask) -> str:
    return f"network {task.cost.network or task.training}"
