"""What a member predicts: its targets, their classes in order, and which logits are whose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensembler.data.spec import TrainBins
from ensembler.data.train_labels import bins_that_count
from ensembler.metrics import score
from ensembler.predictions.finished_folds import FinishedFold
from ensembler.predictions.merging import merge_views
from ensembler.recipe.members import PlannedMember
from ensembler.targets.kinds import MULTI_LABEL, TargetKind
from ensembler.targets.label_sets import is_known
from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class MemberOutput:
    """What a member predicts."""

    workspace: Workspace
    member: PlannedMember

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it predicts: its own, else the recipe's label."""
        return self.member.base.targets or self.workspace.samples.targets[:1]

    @cached_property
    def train_bins(self) -> dict[str, TrainBins]:
        """The member's own training bins by target, as far as they change what it learns."""
        base = self.member.base
        if base.train_bins is None:
            return {}
        own = base.own_train_bins(self.workspace.spec.data)
        samples, found = self.workspace.samples, dict[str, TrainBins]()
        for target in self.targets:
            found |= bins_that_count(samples, target, own)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the logits in order: the classes, in the run's order.

        `task=class` when there are several tasks.
        """
        classes = self.workspace.samples.classes
        if len(self.targets) == 1:
            return classes[self.targets[0]]
        return tuple(
            f"{target}={name}" for target in self.targets for name in classes[target]
        )

    @property
    def task_slices(self) -> dict[str, slice]:
        """Which of its logits belong to each target."""
        slices, start = {}, 0
        for target in self.targets:
            size = len(self.workspace.samples.classes[target])
            slices[target] = slice(start, start + size)
            start += size
        return slices

    def kind(self, target: str) -> TargetKind:
        """Whether rows have one label of a target, or several at once."""
        return self.workspace.samples.target(target).kind

    @property
    def multi_label(self) -> tuple[str, ...]:
        """Those of its targets that have several labels at once."""
        return tuple(target for target in self.targets if self.kind(target) is MULTI_LABEL)

    def labels_of(self, target: str, split: str) -> NDArray[np.int64]:
        """Labels of one split as `RunStore.labels` gives them."""
        return self.workspace.store.labels(
            target, split, self.workspace.samples.classes[target]
        )

    def describe(self, finished: FinishedFold) -> str:
        """The score of a finished fold in words."""
        return "; ".join(self._describe(finished, target) for target in self.targets)

    def _describe(self, finished: FinishedFold, target: str) -> str:
        logits = finished.oof[..., self.task_slices[target]]
        labels = self.labels_of(target, "train")[finished.rows]
        known = is_known(labels)
        prefix = f"{target}: " if len(self.targets) > 1 else ""
        if not known.any():
            return f"{prefix}no labelled validation rows"
        kind = self.kind(target)
        probs = merge_views(logits[:, known], of=kind)
        name = kind.main_decision_metric
        decided = score(name, probs, labels[known])
        loss = score("log_loss", probs, labels[known])
        return f"{prefix}{name.replace('_', ' ')} {decided:.4f}, log loss {loss:.4f}"
