"""One fold of a fitted member: heads on tables of numbers, and what they predict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.estimators.columns import ColumnEncoder, Encoded
from ensembler.estimators.files import read_heads, write_heads
from ensembler.estimators.problem import Problem
from ensembler.estimators.target_head import (
    ClassHead,
    TargetHead,
    fit_classes,
    joined_logits,
    new_head,
)
from ensembler.estimators.weights import class_weights, label_ratios
from ensembler.files import sha256_of
from ensembler.machine.execution import Execution
from ensembler.members.columns import columns_of, with_predictions
from ensembler.members.features import FeatureTable, FrozenFeatures, copy_network
from ensembler.members.plan import MemberPlan
from ensembler.predictions.finished_folds import FinishedFold, weights_path
from ensembler.targets.kinds import MULTI_LABEL
from ensembler.training.spec import FittedSpec, ProbeSpec, TabularSpec

if TYPE_CHECKING:
    from ensembler.inference.views import View


def fitted_fold(plan: MemberPlan, fold: int, execution: Execution) -> FinishedFold:
    """The logits of a fold of a fitted member; its heads are fitted and kept where they are not."""
    return _Fold(plan, fold, execution).finished()


@dataclass(frozen=True)
class _Fold:
    plan: MemberPlan
    fold: int
    execution: Execution

    @property
    def _spec(self) -> FittedSpec:
        spec = self.plan.member.spec
        assert isinstance(spec, FittedSpec)
        return spec

    def finished(self) -> FinishedFold:
        """Heads that were kept predict again; others are fitted and kept first."""
        plan = self.plan
        tables = self._tables()
        path = weights_path(plan.on_disk.folder, self.fold)
        header = plan.on_disk.checkpoint_header(self.fold)
        if header is not None and "not_kept" not in header:
            heads: Mapping[str, TargetHead] = read_heads(path, self._spec.code).heads
        else:
            began = time.perf_counter()
            heads = self._fitted(tables)
            header = self._header(time.perf_counter() - began)
            plan.on_disk.folder.mkdir(parents=True, exist_ok=True)
            why_not = write_heads(path, heads, header)
            if why_not is not None and self.fold == 0:
                plan.workspace.progress.note(
                    f"{plan.member.name}: its predictions are kept, but not its heads "
                    f"({why_not}): it cannot predict other images, and is not packed"
                )
        seen = [tables[view].seconds for view in plan.view_names]
        record = {
            **header,
            "views": list(plan.view_names),
            "weights_sha256": sha256_of(path),
            "samples_sha256": plan.workspace.store.samples_sha256,
            "seconds_predicting": sum(seen) / plan.rows.n_folds,
        }
        valid = plan.rows.validated_in(self.fold)
        train_images, test_images = plan.workspace.image_rows
        x_of_views = [tables[view].x for view in plan.view_names]
        oof = self._logits(heads, x_of_views, train_images[valid])
        test = self._logits(heads, x_of_views, test_images)
        return FinishedFold(self.fold, valid, oof, test, record)

    def _tables(self) -> dict[str, FeatureTable]:
        """Features of all images by view: of those that are predicted, and those fitted on."""
        spec, plan = self._spec, self.plan
        if isinstance(spec, TabularSpec):
            return {"identity": FeatureTable(self._encoded.x)}
        assert isinstance(spec, ProbeSpec)
        if not spec.sees_images:
            from ensembler.members.imported_features import read_features

            return {"identity": FeatureTable(read_features(plan.workspace, spec.features))}
        features = FrozenFeatures(plan, self.execution)
        wanted: dict[str, View] = {view.name: view for view in plan.views}
        wanted |= {view.name: view for view in self._views_to_fit()}
        tables = features.tables(tuple(wanted.values()))
        copy_network(features.network_path, plan.on_disk.folder)
        return tables

    def _views_to_fit(self) -> Sequence[View]:
        from ensembler.inference.views import expand_views

        spec = self._spec
        own = spec.features.views if isinstance(spec, ProbeSpec) else ("identity",)
        return expand_views(own)

    @cached_property
    def _encoded(self) -> Encoded:
        """The columns of all images as numbers, by encoders fitted on the fold's train rows."""
        spec, workspace = self._spec, self.plan.workspace
        assert isinstance(spec, TabularSpec)
        columns = columns_of(workspace, spec)
        columns = with_predictions(columns, workspace, self.plan.member.ingredients)
        rows = self.plan.rows.rows_of_fold(self.fold, validation=False)
        head = new_head(spec.head, spec.head_args)
        encoder = ColumnEncoder.fitted(
            columns.table.iloc[rows],
            columns.kinds,
            for_trees=bool(getattr(head, "takes_categories", False)),
        )
        return encoder.encode(columns.table)

    @property
    def _is_category(self) -> NDArray[np.bool_] | None:
        """Which features are codes of categories."""
        is_tabular = isinstance(self._spec, TabularSpec)
        return self._encoded.is_category if is_tabular else None

    def _fitted(self, tables: Mapping[str, FeatureTable]) -> dict[str, TargetHead]:
        plan = self.plan
        rows = plan.rows.rows_of_fold(self.fold, validation=False)
        names = [view.name for view in self._views_to_fit()]
        x = np.concatenate([tables[name].x[rows] for name in names])
        labels = plan.rows.labels_to_train_on(rows)
        weights, groups = self._weights(rows), self._groups(rows)
        heads = {}
        for target, of_target in labels.items():
            y = np.concatenate([of_target] * len(names))
            w = np.tile(weights, len(names))
            # views of an image stay together where rows are divided
            g = np.tile(groups, len(names))
            heads[target] = self._head_of(target, x, y, w, g)
        return heads

    def _head_of(
        self,
        target: str,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        weights: NDArray[np.float64],
        groups: NDArray[np.int64],
    ) -> TargetHead:
        spec, seed = self._spec, self.plan.seed
        classes = self.plan.workspace.samples.classes[target]

        def fit(labels: NDArray[np.int64], n: int, w: NDArray[np.float64]) -> ClassHead:
            kept = (labels >= 0) & (w > 0)
            problem = Problem(
                x[kept], labels[kept], n, w[kept], groups[kept], seed, self._is_category
            )
            return fit_classes(new_head(spec.head, spec.head_args), problem)

        if self.plan.output.kind(target) is not MULTI_LABEL:
            counts = np.bincount(y[y >= 0], minlength=len(classes))
            by_class = class_weights(spec.class_weights, counts, classes)
            factor = 1.0 if by_class is None else by_class[np.maximum(y, 0)]
            return TargetHead((fit(y, len(classes), weights * factor),), is_set=False)
        known = y[(y >= 0).all(axis=1)]
        ratios = label_ratios(spec.class_weights, known, classes)
        heads = []
        for n in range(len(classes)):
            ratio = 1.0 if ratios is None else ratios[n]
            heads.append(fit(y[:, n], 2, weights * np.where(y[:, n] == 1, ratio, 1.0)))
        return TargetHead(tuple(heads), is_set=True)

    def _weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if not self._spec.sample_weights:
            return np.ones(len(rows))
        return self.plan.workspace.image_weights[rows]

    def _groups(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of the images at `rows` stay together; each by itself without groups."""
        workspace = self.plan.workspace
        groups = workspace.store.samples.groups()
        if groups is None:
            return rows
        train_images, _ = workspace.image_rows
        of_image = np.full(len(workspace.samples.table), -1, np.int64)
        of_image[train_images] = groups
        return of_image[rows]

    def _logits(
        self,
        heads: Mapping[str, TargetHead],
        views: Sequence[NDArray[np.float32]],
        images: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Logits `[views, images, classes]`, targets side by side."""
        out = [joined_logits(heads, self.plan.output.targets, x[images]) for x in views]
        return np.stack(out)

    def _header(self, seconds: float) -> dict[str, Any]:
        """What is written beside the heads of a fold."""
        plan = self.plan
        slices = plan.output.task_slices
        return {
            "fingerprint": plan.fingerprint,
            "member": plan.member.name,
            "fold": self.fold,
            "classes": list(plan.output.classes),
            "tasks": {target: [part.start, part.stop] for target, part in slices.items()},
            "seconds": seconds,
            "chosen_epoch": None,
            "augmented_on": None,
            "history": [],
        }
