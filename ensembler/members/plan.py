"""One member to train: what it takes, where its files lie, and what of it is there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment import augment_version
from ensembler.errors import RequestError, StoreError, UnknownNameError
from ensembler.files import fingerprint, sha256_by_stat
from ensembler.metrics import score
from ensembler.networks.sources import FOLDER, contents_of_backbone, source_of_backbone
from ensembler.own_code import digest_of
from ensembler.predictions.finished_folds import (
    FinishedFold,
    fold_path,
    read_finished_fold,
    weights_path,
)
from ensembler.predictions.members import MEMBER_RECORD, RETRAINING, MemberRecord
from ensembler.predictions.merging import merge_views
from ensembler.predictions.settled import has_record, read_settled
from ensembler.recipe.members import MemberJob
from ensembler.targets.kinds import MULTI_LABEL, TargetKind
from ensembler.targets.label_sets import is_known
from ensembler.training.spec import EMA_DECAY, MemberSpec, SoupSpec
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from ensembler.data.pixels import Pixels
    from ensembler.data.spec import InputSpec
    from ensembler.inference.views import View
    from ensembler.training.fold_data import FoldData


@dataclass(frozen=True)
class MemberPlan:
    """One member to train: what it takes, where its files lie, what of it is there."""

    workspace: Workspace
    job: MemberJob

    @property
    def final_folder(self) -> Path:
        """Where the complete member lies."""
        return self.workspace.store.member_folder(self.job.name)

    @cached_property
    def folder(self) -> Path:
        """Where its folds are gathered: the member's folder, or one aside when an older version lies there."""
        older = has_record(self.final_folder, MEMBER_RECORD) and not self.is_complete
        return self.final_folder / RETRAINING if older else self.final_folder

    @property
    def _record(self) -> MemberRecord | None:
        """What `member.json` says now, if the member is complete with these options or others."""
        if not has_record(self.final_folder, MEMBER_RECORD):
            return None
        return read_settled(self.final_folder, MEMBER_RECORD, MemberRecord)

    @property
    def is_complete(self) -> bool:
        """Whether the store holds this member as the recipe describes it."""
        record = self._record
        if record is None:
            return False
        if not self._made_this({"fingerprint": record.fingerprint, "classes": record.classes}):
            return False
        return record.fingerprint == self.fingerprint or self._folds_agree_on_classes()

    def _folds_agree_on_classes(self) -> bool:
        """Whether all networks of the complete member have these classes.

        In earlier versions a fold could differ.
        """
        from ensembler.networks.checkpoint import read_description

        for fold in range(self.n_folds):
            try:
                classes = read_description(weights_path(self.final_folder, fold)).get("classes")
            except StoreError:
                continue  # not there, or not whole: its logits are, and only these are asked about
            if classes != list(self.classes):
                return False
        return True

    @cached_property
    def changed(self) -> str | None:
        """Which options differ from those of the complete member in the store, in words.

        None = none or no member.
        """
        record = self._record
        if record is None or self.is_complete:
            return None
        old = {**record.options, "classes": list(record.classes)}
        new = {**self.options, "classes": list(self.classes)}
        keys = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
        return (
            ", ".join(_told(key, old, new) for key in keys) or "the order of classes of some fold"
        )

    @cached_property
    def options(self) -> dict[str, Any]:
        """Everything that decides what the trained network is, as plain values."""
        spec, base = self.workspace.spec, self.job.base
        augment = base.augment or spec.augment
        version = augment_version(augment)
        contents = self._contents
        return {
            **self._member_options,
            **({"contents": contents} if contents else {}),
            "augment": json.loads(json.dumps(augment, default=_plain)),
            **({} if version is None else {"augment_version": version}),
            "input": self.workspace.input_options(self.input),
            "seed": self.seed,
            "target": self.targets[0] if len(self.targets) == 1 else list(self.targets),
            "fold_column": self.job.fold_column,
        }

    @property
    def _contents(self) -> dict[str, str]:
        """Digests of what lies in files of the user's own, which may be edited under the same name."""
        from ensembler.data.prepare import contents_of_steps

        base = self.job.base
        backbone = contents_of_backbone(base.backbone, weights=base.pretrained)
        training = {place: digest for place in base.code if (digest := digest_of(place))}
        return {**contents_of_steps(self.input.prepare), **backbone, **training}

    @property
    def _member_options(self) -> dict[str, Any]:
        spec = self.job.spec
        if isinstance(spec, SoupSpec):
            return {
                "method": "soup",
                "take": spec.take,
                "of": {p.job.name: p.fingerprint for p in self.ingredients},
            }
        options = spec.decisive_options
        if spec.checkpoint is not None:  # what is in the file counts, not where it lies
            options["checkpoint"] = sha256_by_stat(Path(spec.checkpoint))
        if source_of_backbone(spec.backbone)[0] == FOLDER:  # likewise, see `_contents`
            options["backbone"] = FOLDER
        if isinstance(spec, MemberSpec):
            options["ema"] = (spec.ema or EMA_DECAY) if self.job.weights == "ema" else None
        return {**options, "weights": self.job.weights}

    @cached_property
    def ingredients(self) -> tuple[MemberPlan, ...]:
        """The members whose weights a soup averages."""
        by_name = {job.name: job for job in self.workspace.jobs}
        return tuple(MemberPlan(self.workspace, by_name[name]) for name in self.job.ingredients)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the options, the classes in their order and the samples: equal ones are the same training."""
        return fingerprint({**self._options, "classes": self.classes})

    @cached_property
    def _older_fingerprints(self) -> frozenset[str]:
        """The fingerprints as earlier versions wrote them.

        Some are without classes, which stand in the record beside it, some without what was in
        files of the user's own, against which nothing speaks then.
        """
        ways = itertools.product((True, False), repeat=2)
        return frozenset(
            self._fingerprint(classes=classes, contents=contents) for classes, contents in ways
        )

    def _fingerprint(self, *, classes: bool, contents: bool) -> str:
        options = {k: v for k, v in self._options.items() if contents or k != "contents"}
        if self.ingredients:
            options["of"] = {
                plan.job.name: plan._fingerprint(classes=classes, contents=contents)
                for plan in self.ingredients
            }
        return fingerprint(options | ({"classes": self.classes} if classes else {}))

    @property
    def _options(self) -> dict[str, Any]:
        return {**self.options, "samples": self.workspace.store.samples_sha256}

    def _made_this(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of a member, of its weights or of a finished fold is one of this training."""
        if record.get("fingerprint") == self.fingerprint:
            return True
        same_classes = tuple(record.get("classes") or ()) == self.classes
        return same_classes and record.get("fingerprint") in self._older_fingerprints

    @property
    def seed(self) -> int:
        """The member's seed, else the recipe's; of several seeds one after the other."""
        own = self.job.base.seed
        return (self.workspace.spec.seed if own is None else own) + self.job.nth_seed

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it predicts: its own, else the recipe's label."""
        return self.job.base.targets or self.workspace.samples.targets[:1]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the logits in order: the classes, in the run's order.

        `task=class` when there are several tasks.
        """
        classes = self.workspace.samples.classes
        if len(self.targets) == 1:
            return classes[self.targets[0]]
        return tuple(f"{target}={name}" for target in self.targets for name in classes[target])

    @property
    def task_slices(self) -> dict[str, slice]:
        """Which of its logits belong to each target."""
        slices, start = {}, 0
        for target in self.targets:
            size = len(self.workspace.samples.classes[target])
            slices[target] = slice(start, start + size)
            start += size
        return slices

    @cached_property
    def input(self) -> InputSpec:
        """What its networks see: the recipe's input, with the member's own size when it names one."""
        own = self.job.base.size
        given = self.workspace.spec.input
        return given if own is None else given.model_copy(update={"size": own})

    @property
    def pixels(self) -> Pixels:
        """All images, prepared: `[images, size, size, channels]`, memory-mapped where they fit."""
        return self.workspace.pixels(self.input)

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The views of the recipe, expanded."""
        from ensembler.inference.views import expand_views

        return expand_views(self.workspace.spec.views)

    @property
    def view_names(self) -> tuple[str, ...]:
        """Names of the views, as the store keeps them."""
        return tuple(view.name for view in self.views)

    @cached_property
    def fold_of_row(self) -> NDArray[np.int64]:
        """The fold each train row is validated in; -1 = never."""
        return self.workspace.store.samples.folds(self.job.fold_column)

    @cached_property
    def n_folds(self) -> int:
        """How many networks the member has."""
        return int(self.fold_of_row.max()) + 1

    def validated_in(self, fold: int) -> NDArray[np.int64]:
        """Train rows that the checkpoint of `fold` never sees and predicts out of fold."""
        return np.flatnonzero(self.fold_of_row == fold).astype(np.int64)

    @cached_property
    def image_targets(self) -> NDArray[np.int64]:
        """Labels of every image as they are scored, target by target, -1 = unknown: `[images, columns]`.

        A target has one column, a multi-label target one for each class.
        """
        return self._side_by_side(trained_on=False)

    def _side_by_side(self, *, trained_on: bool) -> NDArray[np.int64]:
        labels = [
            self.workspace.image_labels(target, trained_on=trained_on) for target in self.targets
        ]
        return np.concatenate([part.reshape(len(part), -1) for part in labels], axis=1)

    def kind(self, target: str) -> TargetKind:
        """Whether rows have one label of a target, or several at once."""
        return self.workspace.samples.target(target).kind

    @property
    def multi_label(self) -> tuple[str, ...]:
        """Those of its targets that have several labels at once."""
        return tuple(target for target in self.targets if self.kind(target) is MULTI_LABEL)

    def labels_of(self, target: str, split: str) -> NDArray[np.int64]:
        """Labels of one split as `RunStore.labels` gives them."""
        return self.workspace.store.labels(target, split, self.workspace.samples.classes[target])

    def rows_of_fold(self, fold: int, *, validation: bool) -> NDArray[np.int64]:
        """Positions among the images of the rows a fold trains on, or of those it is validated on."""
        train_images, _ = self.workspace.image_rows
        inside = self.fold_of_row == fold
        known = (self.image_targets[train_images] >= 0).any(axis=1)
        return train_images[(inside if validation else ~inside) & known]

    def fold_data(self, fold: int) -> FoldData:
        """What a fold is trained on; rows it is validated on keep the labels that are scored."""
        from ensembler.training.fold_data import FoldData

        ws, spec = self.workspace, self.job.spec
        train, valid = (self.rows_of_fold(fold, validation=v) for v in (False, True))
        targets = self.image_targets.copy()
        targets[train] = self._side_by_side(trained_on=True)[train]
        is_multi_task = len(self.targets) > 1
        sampler = spec.sampler if isinstance(spec, MemberSpec) else "none"
        named = spec.sampler_target if isinstance(spec, MemberSpec) else None
        balanced = named or (ws.samples.targets[0] if is_multi_task else self.targets[0])
        classes = tuple(ws.samples.classes[target] for target in self.targets)
        return FoldData(
            self.pixels,
            targets if targets.shape[1] > 1 else targets[:, 0],
            train,
            valid,
            len(self.classes),
            tasks=tuple(map(len, classes)) if is_multi_task else None,
            balance=None if sampler == "none" else ws.image_strata(balanced),
            weights=ws.image_weights if sampler == "weights" else None,
            names=classes,
            kinds=tuple(self.kind(target) for target in self.targets),
        )

    def check_folds(self, folds: Sequence[int] | None) -> None:
        """Raise RequestError for a fold that the member does not have."""
        wrong = [f for f in folds or () if f >= self.n_folds]
        if wrong:
            raise RequestError(
                f"--folds {wrong[0]}: member {self.job.name!r} has folds 0 to {self.n_folds - 1}"
            )

    def check_classes(self) -> None:
        """Raise UnknownNameError for a class that the member weighs and its target does not have."""
        weights = self.job.base.class_weights
        for name in weights if isinstance(weights, dict) else ():
            if name not in self.classes:
                raise UnknownNameError(
                    "class", name, self.classes, of=f"members.{self.job.entry}.class_weights"
                )

    def missing(self, folds: Sequence[int] | None) -> list[int]:
        """Folds still to be finished."""
        wanted = range(self.n_folds) if folds is None else sorted(set(folds))
        return [] if self.is_complete else [fold for fold in wanted if not self.is_finished(fold)]

    def is_finished(self, fold: int) -> bool:
        """Whether the logits of a fold are there, made with these options and views."""
        path = fold_path(self.folder, fold)
        if not path.is_file():
            return False
        try:
            record = read_finished_fold(self.folder, fold).record
        except StoreError:
            if path.is_file():
                raise
            return False  # another process has completed the member meanwhile
        return self._made_this(record) and tuple(record["views"]) == self.view_names

    def trained_weights(self, fold: int) -> dict[str, Any] | None:
        """The description in the weights of a fold trained with these options, or None."""
        from ensembler.networks.checkpoint import read_description

        path = weights_path(self.folder, fold)
        if not path.is_file():
            return None
        try:
            description = read_description(path)
        except StoreError as error:
            self.workspace.progress.warn(f"{error}; the fold is trained again")
            return None
        return description if self._made_this(description) else None

    def drop_altered_weights(self, fold: int) -> None:
        """Remove the weights of a fold when they are not what its training saved, and say so."""
        from ensembler.networks.checkpoint import check_checkpoint

        if self.trained_weights(fold) is None:
            return
        path = weights_path(self.folder, fold)
        try:
            check_checkpoint(path)
        except StoreError as error:
            self.workspace.progress.warn(f"{error}; the fold is trained again")
            path.unlink(missing_ok=True)

    def describe(self, finished: FinishedFold) -> str:
        """The score of a finished fold in words."""
        texts = []
        for target, part in self.task_slices.items():
            labels = self.labels_of(target, "train")[finished.rows]
            known = is_known(labels)
            of_target = f"{target}: " if len(self.targets) > 1 else ""
            if not known.any():
                texts.append(f"{of_target}no labelled validation rows")
                continue
            probs = merge_views(finished.oof[:, known][..., part], of=self.kind(target))
            decisions = self.kind(target).main_decision_metric
            decided, loss = (score(name, probs, labels[known]) for name in (decisions, "log_loss"))
            texts.append(
                f"{of_target}{decisions.replace('_', ' ')} {decided:.4f}, log loss {loss:.4f}"
            )
        return "; ".join(texts)


def _told(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What changed in one of a member's options, in words."""
    if key == "contents":
        return _edited(old, new)
    if key == "augment_version":
        return "the augmentation, which this version of ensembler draws differently,"
    if key == "choose" and new.get("patience") is not None:
        return "the epoch that predicts after early stopping, now the best one,"
    return f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)"


def _edited(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which files of the user's own hold something else than they did, in words."""
    before, now = old.get("contents") or {}, new.get("contents") or {}
    names = [
        name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)
    ]
    return f"what is in {' and '.join(names)}"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")
