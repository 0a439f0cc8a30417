"""The submission of a run: the file, its record, and which blend it was made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.files import sha256_of, write_bytes
from ensembler.predictions.merging import merge_groups
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.history import (
    MadeOf,
    SubmissionVersion,
    submission_versions,
    write_versions,
)
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.table import submission_table


def check_submission(
    store: RunStore, spec: SubmissionSpec, target: str, classes: tuple[str, ...]
) -> None:
    """Raise RequestError now when the submission could not be written later.

    That is, when its columns or its template do not fit.
    """
    if submitted_ids(store):
        even = np.full((len(store.samples.test), len(classes)), 1 / len(classes))
        _table(store, spec, even, target, classes)


def submitted_ids(store: RunStore) -> list[str]:
    """The ids of the rows that a submission holds; [] when there are none to submit."""
    return store.samples.test["id"][store.samples.to_submit].tolist()


def _table(
    store: RunStore,
    spec: SubmissionSpec,
    test: NDArray[np.floating],
    target: str,
    classes: tuple[str, ...],
) -> pd.DataFrame:
    """The submission of probabilities `test` `[test samples, classes]`.

    It has a row for each sample or each group.
    """
    asked = store.target(target, classes)
    ids, probs = submitted_ids(store), np.asarray(test)[store.samples.to_submit]
    if spec.per == "group":
        names, numbers = _submitted_groups(store)
        together = merge_groups(probs, numbers, spec.reduce, of=asked.kind)
        ids, probs = (ids, together[numbers]) if spec.each else (names, together)
    return submission_table(ids, probs, asked, spec)


def _submitted_groups(store: RunStore) -> tuple[list[str], NDArray[np.int64]]:
    """The groups of the submitted rows in order of appearance, and each row's number among them."""
    rows = store.samples.test[store.samples.to_submit]
    if "group" not in rows or (rows["group"].fillna("") == "").any():
        raise RequestError(
            "submission.per: group needs the group of every submitted row; name the "
            "column with data.group, and see that the table of data.test has it"
        )
    numbers, names = pd.factorize(rows["group"])
    return [str(name) for name in names], np.asarray(numbers, np.int64)


def write_submission(
    store: RunStore,
    spec: SubmissionSpec,
    test: NDArray[np.floating],
    target: str,
    classes: tuple[str, ...],
    made_of: MadeOf,
    *,
    by_hand: bool = False,
    progress: Progress = QUIET,
) -> bool:
    """Write `submission.csv` from a target's probabilities `test` `[test samples, classes]`.

    What it was made of is recorded. `by_hand` says that it was asked for by name, so that a run
    that makes nothing new leaves it alone. A file there that is not one of ours is kept under
    another name, with a warning on `progress`. Returns False, and writes nothing, when the run has
    no rows to submit.
    """
    if not submitted_ids(store):
        return False
    table = _table(store, spec, test, target, classes)
    content = table.to_csv(index=False, lineterminator="\n").encode()
    digest = hashlib.sha256(content).hexdigest()
    versions = submission_versions(store)
    version = SubmissionVersion(sha256=digest, rows=len(table), made_of=made_of)
    if by_hand:
        options = spec.model_dump(mode="json")
        version = version.model_copy(update={"by_hand": True, "options": options})
    newest = versions[-1] if versions else None
    if newest is not None and is_as_recorded(store) and newest.makes_the_same(version):
        return True
    _keep_altered(store, progress)
    if newest is None or newest.to_json() != version.to_json():
        # The record comes first: it may name a version that never arrived, but no file is without
        # its record.
        write_versions(store, [*versions, version])
    write_bytes(store.submission_path, content)
    return True


def _keep_altered(store: RunStore, progress: Progress) -> None:
    """Before a new version is written, keep a file that was altered or made by hand.

    It is kept under another name.
    """
    path = store.submission_path
    digest = _digest_of(path)
    if digest is None or path.stat().st_size == 0 or _version_of(store, digest) is not None:
        return
    kept = path.with_name(f"submission.altered-{digest[:8]}.csv")
    if not kept.is_file():
        write_bytes(kept, path.read_bytes())
    progress.warn(
        f"{path} was not as it was written; it is written again, and what was there is kept as "
        f"{kept.name}"
    )


def is_as_recorded(store: RunStore) -> bool:
    """Whether `submission.csv` is the newest recorded version, not an older, cut or altered one."""
    versions = submission_versions(store)
    return bool(versions) and _digest_of(store.submission_path) == versions[-1].sha256


def _digest_of(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _version_of(store: RunStore, digest: str | None) -> SubmissionVersion | None:
    """The newest version that is a file of this sha256."""
    versions = reversed(submission_versions(store))
    return next((version for version in versions if version.sha256 == digest), None)


@dataclass(frozen=True)
class SubmissionChoice:
    """The blend that the submission was last made of, and whether it was chosen `by_hand`.

    `options` are those it was written with, when they were recorded.
    """

    blend: str
    by_hand: bool
    options: SubmissionSpec | None


def last_choice(store: RunStore) -> SubmissionChoice | None:
    """The blend that the submission was last made of.

    None when it was not made of a blend, the blend is gone, or the file was removed to have it made
    anew.
    """
    versions = submission_versions(store)
    if not versions or not store.submission_path.is_file():
        return None
    newest, name = versions[-1], blend_to_submit(store)
    if name is None:
        return None
    options = (
        None if newest.options is None else SubmissionSpec.model_validate(newest.options)
    )
    return SubmissionChoice(name, newest.by_hand, options)


def submitted_blend(store: RunStore) -> str | None:
    """The name of the blend that `submission.csv` was made of, when it was one.

    None for an altered file.
    """
    version = _version_of(store, _digest_of(store.submission_path))
    return None if version is None else _blend_of(store, version)


def blend_to_submit(store: RunStore) -> str | None:
    """The name of the blend last chosen for the submission, whatever became of the file."""
    versions = submission_versions(store)
    return _blend_of(store, versions[-1]) if versions else None


def _blend_of(store: RunStore, version: SubmissionVersion) -> str | None:
    name = version.made_of.blend
    return name if name in store.blends else None


def export_submission(
    store: RunStore, blend: str, spec: SubmissionSpec
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The submission table of a named blend, without writing it.

    And the classes it was made from.
    """
    found = store.blend(blend)
    if not submitted_ids(store):
        raise RequestError(
            f"run {store.name!r} has no test rows to submit; add data.test or folds.holdout"
        )
    classes = found.record.classes
    return _table(
        store, spec, np.asarray(found.test), found.record.target, classes
    ), classes
