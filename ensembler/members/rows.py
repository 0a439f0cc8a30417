"""What a member is trained on: the rows of each fold, and their labels and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.members.output import MemberOutput
from ensembler.training.spec import MemberSpec

if TYPE_CHECKING:
    from ensembler.data.pixels import Pixels
    from ensembler.training.fold_data import FoldData


@dataclass(frozen=True)
class MemberRows:
    """The rows that a member's networks are trained on and validated on."""

    output: MemberOutput

    @cached_property
    def fold_of_row(self) -> NDArray[np.int64]:
        """The fold each train row is validated in; -1 = never."""
        return self.output.workspace.store.samples.folds(self.output.member.fold_column)

    @cached_property
    def n_folds(self) -> int:
        """How many networks the member has."""
        return int(self.fold_of_row.max()) + 1

    def validated_in(self, fold: int) -> NDArray[np.int64]:
        """Train rows that the checkpoint of `fold` never sees and predicts out of fold."""
        return np.flatnonzero(self.fold_of_row == fold).astype(np.int64)

    @cached_property
    def image_targets(self) -> NDArray[np.int64]:
        """Labels of every image as they are scored, `[images, columns]`, -1 = unknown.

        A target has one column, a multi-label target one for each class.
        """
        image_labels = self.output.workspace.image_labels
        return _side_by_side([image_labels(target) for target in self.output.targets])

    def labels_to_train_on(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Labels to train on of the images at `rows`, by target: as `Target.encode` gives them."""
        workspace, own = self.output.workspace, self.output.train_bins
        return {
            target: workspace.labels_to_train_on(target, own)[rows]
            for target in self.output.targets
        }

    @cached_property
    def learned_targets(self) -> NDArray[np.int64]:
        """Labels of every image as they are trained on, `[images, columns]`, -1 = not at all."""
        to_train_on = self.output.workspace.labels_to_train_on
        own = self.output.train_bins
        return _side_by_side([to_train_on(target, own) for target in self.output.targets])

    def rows_of_fold(self, fold: int, *, validation: bool) -> NDArray[np.int64]:
        """Positions among the images of a fold's train rows, or of its validation rows."""
        train_images, _ = self.output.workspace.image_rows
        inside = self.fold_of_row == fold
        chosen = inside if validation else ~inside
        labels = self.image_targets if validation else self.learned_targets
        known = (labels[train_images] >= 0).any(axis=1)
        return train_images[chosen & known]

    def fold_data(self, fold: int, pixels: Pixels) -> FoldData:
        """What a fold is trained on; rows it is validated on keep the labels that are scored."""
        from ensembler.training.fold_data import FoldData

        workspace, output, spec = (
            self.output.workspace,
            self.output,
            self.output.member.spec,
        )
        train = self.rows_of_fold(fold, validation=False)
        targets = self.image_targets.copy()
        targets[train] = self.learned_targets[train]
        is_multi_task = len(output.targets) > 1
        sampler = spec.sampler if isinstance(spec, MemberSpec) else "none"
        classes = tuple(workspace.samples.classes[target] for target in output.targets)
        return FoldData(
            pixels,
            targets if targets.shape[1] > 1 else targets[:, 0],
            train,
            self.rows_of_fold(fold, validation=True),
            len(output.classes),
            tasks=tuple(map(len, classes)) if is_multi_task else None,
            balance=None
            if sampler == "none"
            else workspace.image_strata(self._balanced_target, output.train_bins),
            weights=workspace.image_weights if sampler == "weights" else None,
            names=classes,
            kinds=tuple(output.kind(target) for target in output.targets),
        )

    @property
    def _balanced_target(self) -> str:
        """The target whose classes a sampler balances: the one named, its own, or the label."""
        spec, targets = self.output.member.spec, self.output.targets
        if isinstance(spec, MemberSpec) and spec.sampler_target:
            return spec.sampler_target
        return targets[0] if len(targets) == 1 else self.output.workspace.samples.targets[0]

    def check_folds(self, folds: Sequence[int] | None) -> None:
        """Raise RequestError for a fold that the member does not have."""
        wrong = [fold for fold in folds or () if fold >= self.n_folds]
        if wrong:
            name, last = self.output.member.name, self.n_folds - 1
            raise RequestError(f"--folds {wrong[0]}: member {name!r} has folds 0 to {last}")

    def check_classes_are_learned(self) -> None:
        """Raise RequestError for a class that training bins leave no row to train on in a fold."""
        if not self.output.train_bins:
            return
        for target in self.output.targets:
            if not self.output.kind(target).is_multi_label:
                self._check_classes_of(target)

    def _check_classes_of(self, target: str) -> None:
        workspace, own = self.output.workspace, self.output.train_bins
        train_images, _ = workspace.image_rows
        scored = workspace.image_labels(target)[train_images]
        learned = workspace.labels_to_train_on(target, own)[train_images]
        for fold in range(self.n_folds):
            seen = self.fold_of_row != fold
            lost = set(scored[seen]) - set(learned[seen]) - {-1}
            if lost:
                name = workspace.samples.classes[target][min(lost)]
                raise RequestError(
                    f"member {self.output.member.name!r}: train_bins leave no row of {name!r} "
                    f"({target}) to train on in fold {fold}"
                )


def _side_by_side(labels: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([part.reshape(len(part), -1) for part in labels], axis=1)
