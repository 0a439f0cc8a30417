"""A run in Weights & Biases, or in trackio, which has the same calls: a run for each member.

Both have the group of all runs of one `ens` run. They keep what they cannot send in files of their
own (`WANDB_MODE=offline`, `wandb sync`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ensembler.errors import MissingExtraError
from ensembler.progress import Epoch
from ensembler.sharing.trackers.facts import MemberFacts, RunFacts

PROJECT = "ensembler"  # unless WANDB_PROJECT or TRACKIO_PROJECT says otherwise


class WandbTracker:
    """A mirror by wandb's calls. What is told while a run goes on is told with the member."""

    module = "wandb"

    def __init__(self, run: str, folder: Path, kept: dict[str, Any]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        kept["project"] = os.environ.get(f"{self.module.upper()}_PROJECT") or PROJECT
        try:
            self.client: Any = import_module(self.module)
        except ImportError as error:
            raise MissingExtraError(f"track: {self.module}", self.module) from error
        self.run_name = run
        self.folder = folder
        self.project = kept["project"]

    def epoch(self, epoch: Epoch) -> None:
        """Nothing: one process has one run open, and folds are trained in turns."""

    def member(self, member: MemberFacts) -> None:
        """One run: options, learning curves by epoch, scores."""
        opened = self._opened(member.name, dict(member.params))
        by_epoch: dict[int, dict[str, float]] = {}
        for curve in member.curves:
            for epoch in curve.epochs:
                figures = by_epoch.setdefault(int(epoch.get("epoch", 0)), {})
                figures |= {
                    f"fold{curve.fold}/{key}": value for key, value in epoch.items()
                }
        for step in sorted(by_epoch):
            self.client.log(by_epoch[step], step=step)
        self._summary(
            opened, {**member.metrics, "ens.digest": member.digest, **member.tags}
        )

    def run(self, run: RunFacts) -> None:
        """One run for the blends."""
        opened = self._opened(run.name, dict(run.params))
        self._summary(opened, {**run.metrics, "ens.digest": run.digest})

    def close(self) -> None:
        """Every run is finished where it was told."""

    def _opened(self, name: str, config: dict[str, str]) -> Any:
        return self.client.init(
            project=self.project,
            name=name,
            group=self.run_name,
            config=config,
            dir=str(self.folder / ".track"),
            reinit="finish_previous",
        )

    def _summary(self, opened: Any, figures: Mapping[str, Any]) -> None:
        opened.summary.update(dict(figures))
        self.client.finish()


class TrackioTracker(WandbTracker):
    """The same by trackio, which has no summary: scores are what is logged last."""

    module = "trackio"

    def _opened(self, name: str, config: dict[str, str]) -> Any:
        return self.client.init(
            project=self.project, name=name, group=self.run_name, config=config
        )

    def _summary(self, opened: Any, figures: Mapping[str, Any]) -> None:  # noqa: ARG002 see class
        self.client.log(dict(figures))
        self.client.finish()
