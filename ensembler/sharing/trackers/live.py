"""Learning curves that reach trackers while a run goes on, and never hold it up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue
from threading import Thread

from ensembler.predictions.store import RunStore
from ensembler.progress import Epoch, Progress, RelayedProgress
from ensembler.sharing.trackers.mirror import Noted, only_teller
from ensembler.sharing.trackers.tracker import open_tracker

PATIENCE = 10.0  # seconds that the end of a training waits for what is still to be sent


@contextmanager
def tracked(
    store: RunStore, trackers: Sequence[str], progress: Progress
) -> Iterator[Progress]:
    """Yield a progress that tells trackers of every epoch, too.

    Each has a thread of its own. One that fails is told no more until the end of the run, which
    sends what it lacks (see `mirror_run`).
    """
    if not trackers:
        yield progress
        return
    lives = [_Live(store, name, progress) for name in trackers]
    try:
        yield _Told(progress, lives)
    finally:
        for live in lives:
            live.end()


class _Live:
    """One tracker, told in a thread of its own."""

    def __init__(self, store: RunStore, name: str, progress: Progress) -> None:
        self.store = store
        self.name = name
        self.progress = progress
        self.waiting: Queue[Epoch | None] = Queue()
        self.thread = Thread(target=self._work, daemon=True)
        self.thread.start()

    def epoch(self, epoch: Epoch) -> None:
        """Send an epoch when its turn comes."""
        self.waiting.put(epoch)

    def end(self) -> None:
        """Send what is left, within reason."""
        self.waiting.put(None)
        self.thread.join(PATIENCE)

    def _work(self) -> None:
        try:
            first = self.waiting.get()
            if first is not None:
                with only_teller(self.store, self.name):
                    self._tell(first)
        # a tracker never stops a run, whatever its client raises
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            self.progress.warn(
                f"{self.name} does not follow the run now ({said[0][:300]}); it is told at the end"
            )

    def _tell(self, first: Epoch) -> None:
        """Tell the tracker of one epoch after the other; the end of the run waits for the last."""
        noted = Noted(self.store, self.name)
        tracker = open_tracker(self.name, self.store.name, self.store.folder, noted.kept)
        epoch: Epoch | None = first
        while epoch is not None:
            tracker.epoch(epoch)
            noted.save()
            epoch = self.waiting.get()
        tracker.close()


class _Told(RelayedProgress):
    """Shows everything on another progress, and sends epochs to trackers, too."""

    def __init__(self, progress: Progress, lives: Sequence[_Live]) -> None:
        super().__init__(progress)
        self._lives = lives

    def epoch(self, epoch: Epoch) -> None:
        """Show it, and send it on."""
        super().epoch(epoch)
        for live in self._lives:
            live.epoch(epoch)
