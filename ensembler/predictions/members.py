"""Complete members: `member.json` and the arrays it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ensembler.errors import StoreError, UnknownNameError
from ensembler.files import sha256_of
from ensembler.predictions.arrays import is_finite, open_array
from ensembler.predictions.merging import Merge, merge_views
from ensembler.predictions.records import Information, Record
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.settled import HeldFile, open_settled, read_settled
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, TargetKind

FORMAT: Literal[1] = 1
MEMBER_RECORD = "member.json"
FAILED = "failed.json"  # why a member could not be trained
RETRAINING = (
    ".retrain"  # a member that is trained again with other options stays usable meanwhile
)
FEATURES = "features.safetensors"  # the frozen network that the heads of a probe stand on
Kind = Literal["logits", "probs", "labels"]


class MemberRecord(Record):
    """What `member.json` says; other keys are kept and ignored.

    `tasks` has the classes of each target of a member that predicts several; `target` is then the
    first of them. `multi_label` names those of its targets that have several labels at once, whose
    logits are those of sigmoids. `imported` members have no weights, `partial` ones lack rows.

    Of a member that `ens` trained: which `training` it comes from and which of its networks it is
    (`weights`), or the members that it is the mean of (`made_of`), or those whose weights are
    averaged, by fold (`weights_of`); `options` are all that decided what its networks are, and
    `fingerprint` is their digest; `history` has the epochs of each fold and `chosen_epochs` the one
    that predicts, which was `chosen_by` "last", "best" or "patience"; `augmented_on` says for each
    fold where its images were augmented, on the host or the device (None = not at all, or unknown),
    and `environments` what computed it; `images_at_once` went through the network of a fold
    together where memory was too short for a whole batch. `refit_of` names the member whose folds
    gave the out-of-fold logits, where other networks, trained on all rows, predicted the test rows.

    Of a member that another person made, `origin` is "pulled", `author` who shared it and
    `pulled_from` the sha256 of its record there; of one that is `holdout_only` the test rows alone
    are predicted, for its networks have seen the train rows of this run in other folds.

    `origin` is "trial" of a trial of a search, of which `trial` says which one it is.
    """

    format: Literal[1] = FORMAT
    name: str
    target: str = "label"
    classes: tuple[str, ...] = Field(min_length=1)
    views: tuple[str, ...] = Field(min_length=1)
    folds: int = Field(ge=1)
    sha256: dict[str, str]
    kind: Kind = "logits"
    tasks: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    multi_label: tuple[str, ...] = ()
    fold_column: str = "fold"
    scores: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = None
    seconds_by_phase: dict[str, float] = Field(default_factory=dict)
    fingerprint: str | None = None
    imported: bool = False
    partial: Information[bool] = False
    training: Information[str | None] = None
    weights: Information[str | None] = None
    values: Information[str | None] = None
    made_of: Information[tuple[str, ...]] = ()
    weights_of: Information[tuple[tuple[str, ...], ...]] = ()
    options: Information[dict[str, Any]] = Field(default_factory=dict)
    history: Information[tuple[Any, ...]] = ()
    environments: Information[tuple[dict[str, Any] | None, ...]] = ()
    chosen_epochs: Information[tuple[int | None, ...]] = ()
    chosen_by: Information[str] = "last"
    augmented_on: Information[tuple[str | None, ...]] = ()
    images_at_once: Information[tuple[int | None, ...]] = ()
    chosen_by_metric: Information[str | None] = None
    flattered: Information[bool] = False
    refit_of: Information[str | None] = None
    origin: Information[str | None] = None
    author: Information[str | None] = None
    pulled_from: Information[str | None] = None
    holdout_only: bool = False
    trial: Information[dict[str, Any]] = Field(default_factory=dict)

    @property
    def kind_of_target(self) -> TargetKind:
        """Whether rows have one label of its target, or several at once."""
        return MULTI_LABEL if self.target in self.multi_label else SINGLE_LABEL


def number_in(scores: Mapping[str, Any], split: str, metric: str) -> float | None:
    """One of a record's scores, or None when it is missing or no number.

    Other tools may write there what they like.
    """
    found = scores.get(split)
    value = found.get(metric) if isinstance(found, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def array_file(part: Literal["oof", "test"], task: str | None = None) -> str:
    """The name of a file of logits: `oof.npy`, or `oof.<task>.npy` for one task of several."""
    return f"{part}.npy" if task is None else f"{part}.{task}.npy"


@dataclass
class Member:
    """A complete member in the store, its arrays opened on demand.

    When it is replaced before the first of them is opened, `record` becomes that of the new
    version.
    """

    folder: Path
    record: MemberRecord
    samples: SampleTable

    @property
    def is_optimistic(self) -> bool:
        """Whether its epoch was chosen by the rows that it is scored on."""
        return self.record.chosen_by != "last"

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it predicts."""
        return tuple(self.record.tasks) or (self.record.target,)

    def for_target(self, target: str) -> Member:
        """The member as one that predicts `target` alone.

        UnknownNameError when it does not predict it.
        """
        if target not in self.targets:
            raise UnknownNameError(
                "target", target, self.targets, of=f"member {self.name!r}"
            )
        return (
            replace(self, record=_of_target(self.record, target))
            if self.record.tasks
            else self
        )

    @property
    def name(self) -> str:
        """The member's name, which is also its folder's."""
        return self.record.name

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """The fold `[train samples]` in which this member's checkpoints left each row out.

        -1 = none.
        """
        return self.samples.folds(self.record.fold_column)

    @property
    def oof_file(self) -> str:
        """The name of the file of its out-of-fold logits."""
        return array_file("oof", self.record.target if self.record.tasks else None)

    @property
    def test_file(self) -> str:
        """The name of the file of its test logits."""
        return array_file("test", self.record.target if self.record.tasks else None)

    @cached_property
    def oof_logits(self) -> NDArray[np.floating]:
        """Out-of-fold logits `[views, train samples, classes]`, memory-mapped.

        NaN rows = never validated.
        """
        array = self._open("oof")
        self._check_finite(array)
        return array

    @cached_property
    def test_logits(self) -> NDArray[np.floating]:
        """Test logits `[folds, views, test samples, classes]`, memory-mapped."""
        array = self._open("test")
        bad = ~is_finite(array).all(axis=(1, 2))
        if bad.any():
            raise StoreError(
                f"{self.folder / self.test_file}: fold {int(np.flatnonzero(bad)[0])} of "
                f"member {self.name!r} holds values that are not finite; the file was "
                "altered, or the fold must be trained again"
            )
        return array

    def oof(
        self,
        classes: Sequence[str],
        merge: Merge = "mean",
        views: Sequence[str] | None = None,
    ) -> NDArray[Any]:
        """Out-of-fold probabilities float32 `[train samples, classes]` in the order of `classes`.

        NaN = missing.
        """
        return self._probs(self.oof_logits, classes, merge, views)

    def test(
        self,
        classes: Sequence[str],
        merge: Merge = "mean",
        views: Sequence[str] | None = None,
    ) -> NDArray[Any]:
        """Test probabilities float32 `[folds, test samples, classes]` in the order of `classes`."""
        if 0 in self.test_logits.shape:
            return np.empty(
                (self.record.folds, len(self.samples.test), len(classes)), np.float32
            )
        return np.stack(
            [self._probs(fold, classes, merge, views) for fold in self.test_logits]
        )

    def _probs(
        self,
        logits: NDArray[np.floating],
        classes: Sequence[str],
        merge: Merge,
        views: Sequence[str] | None,
    ) -> NDArray[Any]:
        kept = (
            [self.view_index(v) for v in views]
            if views
            else list(range(len(self.record.views)))
        )
        of = self.record.kind_of_target
        probs = merge_views(logits[kept], merge, kind=self.record.kind, of=of)
        return probs[..., self.class_order(classes)]

    def view_index(self, view: str) -> int:
        """Position of a view on the first axis of the logits."""
        if view not in self.record.views:
            raise UnknownNameError(
                "view", view, self.record.views, of=f"member {self.name!r}"
            )
        return self.record.views.index(view)

    def class_order(self, classes: Sequence[str]) -> list[int]:
        """Positions of `classes` among this member's own, matched by name."""
        own = {name: i for i, name in enumerate(self.record.classes)}
        if set(own) != set(classes):
            odd = sorted(set(own) ^ set(classes))
            raise StoreError(
                f"member {self.name!r} has other classes than the run: {', '.join(odd[:5])} differ"
            )
        return [own[name] for name in classes]

    @cached_property
    def _files(self) -> dict[str, HeldFile]:
        """The files of logits, opened together so that they are of one version."""
        target = self.record.target

        def names(record: MemberRecord) -> list[str]:
            task = target if record.tasks else None
            return [array_file("oof", task), array_file("test", task)]

        settled = open_settled(self.folder, MEMBER_RECORD, MemberRecord, names)
        self.record = (
            _of_target(settled.record, target) if settled.record.tasks else settled.record
        )
        return settled.files

    def _open(self, part: Literal["oof", "test"]) -> NDArray[np.floating]:
        files = self._files  # first: it is these that the record then describes
        name = self.oof_file if part == "oof" else self.test_file
        views, classes = len(self.record.views), len(self.record.classes)
        oof_shape = (views, len(self.samples.train), classes)
        shape = (
            oof_shape
            if part == "oof"
            else (self.record.folds, views, len(self.samples.test), classes)
        )
        if name not in self.record.sha256:
            raise StoreError(
                f"{self.folder / MEMBER_RECORD} has no sha256 of {name}; it was altered"
            )
        sha256 = self.record.sha256[name]
        return open_array(
            self.folder / name,
            shape,
            sha256=sha256,
            of=MEMBER_RECORD,
            file=files.pop(name, None),
        )

    def _check_finite(self, oof: NDArray[np.floating]) -> None:
        if self.record.partial:
            return  # imported with rows missing, and said so
        validated = self.folds >= 0
        finite = is_finite(oof).all(axis=0)
        bad = np.unique(self.folds[validated & ~finite])
        if len(bad):
            raise StoreError(
                f"{self.folder / self.oof_file}: fold {int(bad[0])} of member "
                f"{self.name!r} holds values that are not finite; the file was altered, or "
                "the fold must be trained again"
            )


def _of_target(record: MemberRecord, target: str) -> MemberRecord:
    """The record of a member of several tasks as one of that target alone."""
    if target not in record.tasks:
        raise UnknownNameError("target", target, record.tasks, of=f"member {record.name!r}")
    scores = {
        split: found.get(target) if isinstance(found, dict) else None
        for split, found in record.scores.items()
    }
    return record.model_copy(
        update={"target": target, "classes": record.tasks[target], "scores": scores}
    )


def open_member(folder: Path, samples: SampleTable, samples_sha256: str) -> Member:
    """Open the complete member in `folder`; MissingFileError when it is not complete.

    Raises StoreError when the record is altered, belongs to another member or to other samples.
    """
    path = folder / MEMBER_RECORD
    record = read_settled(folder, MEMBER_RECORD, MemberRecord)
    if record.name != folder.name:
        raise StoreError(
            f"{path} describes member {record.name!r}, not {folder.name!r}; files were swapped"
        )
    wanted = record.sha256.get("samples.csv")
    if wanted is not None and wanted != samples_sha256:
        raise StoreError(
            f"{path} was made for another samples.csv (its sha256 differs); restore samples.csv or "
            f"remove {folder}"
        )
    if record.fold_column not in samples.table:
        raise StoreError(f"{path}: samples.csv has no column {record.fold_column!r}")
    return Member(folder, record, samples)


def checksums(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The sha256 of each file in `folder`, by file name."""
    return {name: sha256_of(folder / name) for name in names}


def shared_views(members: Sequence[Member]) -> list[str]:
    """The views that all members have, in the order of the first."""
    common = set.intersection(*(set(member.record.views) for member in members))
    return [view for view in members[0].record.views if view in common]
