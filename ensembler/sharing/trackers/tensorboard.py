"""A run as TensorBoard's event files, in the run's folder: a folder for each member and fold."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensembler.errors import MissingExtraError
from ensembler.files import check_name
from ensembler.progress import Epoch
from ensembler.sharing.trackers.facts import MemberFacts, RunFacts

FOLDER = "tensorboard"


class TensorboardTracker:
    """A mirror in files, written by TensorBoard's own writer.

    `tensorboard --logdir RUN/tensorboard` shows it. `kept` says how many epochs of a
    fold are there.
    """

    def __init__(self, run: str, folder: Path, kept: dict[str, Any]) -> None:
        try:
            import tensorboard.summary.writer.event_file_writer  # noqa: F401 is it there?
        except ImportError as error:
            raise MissingExtraError("track: tensorboard", "tensorboard") from error
        self.folder = folder / FOLDER
        self.name = run
        self.epochs: dict[str, int] = kept.setdefault("epochs", {})

    def epoch(self, epoch: Epoch) -> None:
        """Add an epoch to its fold."""
        figures = {"loss": epoch.loss, "score": epoch.score}
        known = {key: value for key, value in figures.items() if value is not None}
        self._add(epoch.training, epoch.fold, {epoch.epoch: known})

    def _add(
        self, training: str, fold: int, figures: Mapping[int, Mapping[str, float]]
    ) -> None:
        place = f"{training}/fold{fold}"
        there = self.epochs.get(place, 0)
        new = {step: values for step, values in figures.items() if step > there}
        if new:
            self._write(self.folder / check_name("member", training) / f"fold{fold}", new)
            self.epochs[place] = max(new)

    def member(self, member: MemberFacts) -> None:
        """Its curves, and its scores as those of a last step."""
        for curve in member.curves:
            numbered = [dict(epoch) for epoch in curve.epochs if "epoch" in epoch]
            by_step = {int(epoch.pop("epoch")): epoch for epoch in numbered}
            self._add(curve.training, curve.fold, by_step)
        self._replace(
            self.folder / check_name("member", member.name) / "scores", member.metrics
        )

    def run(self, run: RunFacts) -> None:
        """The blends' scores."""
        self._replace(self.folder / "blends", run.metrics)

    def close(self) -> None:
        """Every write is whole."""

    def _replace(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Scores are told once: those of before are removed."""
        shutil.rmtree(folder, ignore_errors=True)
        self._write(folder, {0: metrics})

    def _write(self, folder: Path, figures: Mapping[int, Mapping[str, float]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(folder))
        for step, values in figures.items():
            said = [Summary.Value(tag=key, simple_value=v) for key, v in values.items()]
            writer.add_event(Event(step=step, summary=Summary(value=said)))
        writer.close()
