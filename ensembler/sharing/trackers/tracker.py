"""What an experiment tracker does, and which there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ensembler.errors import EnsemblerError
from ensembler.progress import Epoch
from ensembler.registry import Registry
from ensembler.sharing.trackers.facts import MemberFacts, RunFacts

TRACKERS = Registry(
    "tracker",
    "ensembler.trackers",
    {
        "mlflow": "ensembler.sharing.trackers.mlflow:MlflowTracker",
        "wandb": "ensembler.sharing.trackers.wandb:WandbTracker",
        "tensorboard": "ensembler.sharing.trackers.tensorboard:TensorboardTracker",
        "trackio": "ensembler.sharing.trackers.wandb:TrackioTracker",
    },
)


class TrackerError(EnsemblerError):
    """A tracker did not take what it was told; it is told again at the next start."""

    code = "tracker"


class Tracker(Protocol):
    """One mirror of one run.

    It is made with the run's name, its folder and a mapping that is kept between starts, where it
    notes what it made there. Whatever a method raises, the run goes on.
    """

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended just now."""
        ...

    def member(self, member: MemberFacts) -> None:
        """A member is complete."""
        ...

    def run(self, run: RunFacts) -> None:
        """The run is as complete as it is now."""
        ...

    def close(self) -> None:
        """Nothing more is said for now."""
        ...


def open_tracker(name: str, run: str, folder: Path, kept: dict[str, Any]) -> Tracker:
    """The mirror of a run in a tracker; UnknownNameError, or MissingExtraError."""
    tracker: Tracker = TRACKERS.load(name)(run, folder, kept)
    return tracker
