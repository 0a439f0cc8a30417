"""What of a member is on disk: complete, or which of its folds are trained and finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ensembler.errors import StoreError
from ensembler.estimators.files import check_heads, is_of_heads
from ensembler.predictions.finished_folds import fold_path, read_finished_fold, weights_path
from ensembler.predictions.members import MEMBER_RECORD, RETRAINING, MemberRecord
from ensembler.predictions.settled import has_record, read_settled
from ensembler.progress import Progress


@dataclass(frozen=True)
class Identity:
    """What tells whether something on disk was made by a plan.

    `older_fingerprints` are as earlier versions wrote them: some are without classes, which stand
    in the record beside it, some without what was in files of the user's own, against which nothing
    speaks then.
    """

    fingerprint: str
    older_fingerprints: frozenset[str]
    classes: tuple[str, ...]
    view_names: tuple[str, ...]

    def made(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of a member, its weights or a finished fold is of this training."""
        if record.get("fingerprint") == self.fingerprint:
            return True
        same_classes = tuple(record.get("classes") or ()) == self.classes
        return same_classes and record.get("fingerprint") in self.older_fingerprints


@dataclass(frozen=True)
class MemberOnDisk:
    """What of a member with `n_folds` folds is in `final_folder`."""

    final_folder: Path
    identity: Identity
    n_folds: int
    progress: Progress

    @cached_property
    def folder(self) -> Path:
        """Where its folds are gathered: aside while an older version is in its folder."""
        older = has_record(self.final_folder, MEMBER_RECORD) and not self.is_complete
        return self.final_folder / RETRAINING if older else self.final_folder

    @property
    def record(self) -> MemberRecord | None:
        """What `member.json` says now, if the member is complete with these options or others."""
        if not has_record(self.final_folder, MEMBER_RECORD):
            return None
        return read_settled(self.final_folder, MEMBER_RECORD, MemberRecord)

    @property
    def is_complete(self) -> bool:
        """Whether the store holds this member as the recipe describes it."""
        record = self.record
        if record is None:
            return False
        if not self.identity.made(
            {"fingerprint": record.fingerprint, "classes": record.classes}
        ):
            return False
        return (
            record.fingerprint == self.identity.fingerprint
            or self._folds_agree_on_classes()
        )

    def _folds_agree_on_classes(self) -> bool:
        """Whether all networks of the complete member have these classes.

        In earlier versions a fold could differ.
        """
        from ensembler.networks.header import read_description

        for fold in range(self.n_folds):
            try:
                classes = read_description(weights_path(self.final_folder, fold)).get(
                    "classes"
                )
            except StoreError:
                continue  # not there, or not whole: its logits are, and only these are asked about
            if classes != list(self.identity.classes):
                return False
        return True

    def missing(self, folds: Sequence[int] | None) -> list[int]:
        """Folds still to be finished."""
        wanted = range(self.n_folds) if folds is None else sorted(set(folds))
        return (
            []
            if self.is_complete
            else [fold for fold in wanted if not self.is_finished(fold)]
        )

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
        return (
            self.identity.made(record)
            and tuple(record["views"]) == self.identity.view_names
        )

    def checkpoint_header(self, fold: int) -> dict[str, Any] | None:
        """What is written beside the weights of a fold trained with these options, or None."""
        from ensembler.networks.header import read_description

        path = weights_path(self.folder, fold)
        if not path.is_file():
            return None
        try:
            description = read_description(path)
        except StoreError as error:
            self.progress.warn(f"{error}; the fold is trained again")
            return None
        return description if self.identity.made(description) else None

    def drop_altered_weights(self, fold: int) -> None:
        """Remove the weights of a fold when they are not what its training saved, and say so."""
        header = self.checkpoint_header(fold)
        if header is None:
            return
        path = weights_path(self.folder, fold)
        try:
            check_weights(path, header)
        except StoreError as error:
            self.progress.warn(f"{error}; the fold is trained again")
            path.unlink(missing_ok=True)


def check_weights(path: Path, header: Mapping[str, Any]) -> bool:
    """Raise StoreError when the weights, or fitted heads, of a fold are not what was saved.

    False when the file, whose description is `header`, is of a version that kept no digest.
    """
    if is_of_heads(header):
        check_heads(path)
        return True
    from ensembler.networks.checkpoint import check_checkpoint

    return check_checkpoint(path)
