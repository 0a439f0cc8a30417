"""The submission of a run: the file, its record, and which blend it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.files import READ_ONLY, claim, sha256_of, write_bytes
from ensembler.predictions.merging import merge_groups
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.kept import keep_files
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.table import submission_table
from ensembler.reporting.versions import (
    MadeOf,
    ScoreRecord,
    SubmissionVersion,
    all_versions,
    submission_versions,
    write_versions,
)

SUBMISSION = "submission.csv"
_MOST_IN_BETWEEN = 20_000_000  # bytes of a version that a run makes on its way, to be kept


@dataclass(frozen=True)
class Origin:
    """What a version is made of, how good it is, and what makes it again.

    `sources` are the sha256 of the files it was computed from, `files` contents to keep, both by
    path below the run.
    """

    made_of: MadeOf
    score: ScoreRecord | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    replay_of: int | None = None


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


@dataclass(frozen=True)
class Submission:
    """A submission that is ready to be written: probabilities as `content` of a file."""

    content: bytes
    rows: int
    columns: tuple[str, ...]
    target: str
    classes: tuple[str, ...]
    spec: SubmissionSpec

    @property
    def sha256(self) -> str:
        """The sha256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


def make_submission(
    store: RunStore,
    spec: SubmissionSpec,
    test: NDArray[np.floating],
    target: str,
    classes: tuple[str, ...],
) -> Submission | None:
    """The submission of a target's probabilities `test` `[test samples, classes]`.

    None when the run has no rows to submit.
    """
    if not submitted_ids(store):
        return None
    table = _table(store, spec, test, target, classes)
    content = table.to_csv(index=False, lineterminator="\n").encode()
    columns = tuple(str(column) for column in table.columns)
    return Submission(content, len(table), columns, target, classes, spec)


def write_submission(
    store: RunStore,
    submission: Submission | None,
    origin: Origin,
    *,
    by_hand: bool = False,
    progress: Progress = QUIET,
) -> bool:
    """Write `submission.csv`, and keep in the history what it was made of.

    `by_hand` says that it was asked for by name, so that a run that makes nothing new leaves it
    alone. A file there that is not one of ours is kept under another name, with a warning on
    `progress`. Returns False, and writes nothing, without a submission. For whoever holds the run's
    lock.
    """
    if submission is None:
        return False
    versions = submission_versions(store)
    version = _version(submission, origin, by_hand)
    newest = versions[-1] if versions else None
    is_again = newest is not None and newest.makes_the_same(version)
    if is_again and is_as_recorded(store):
        return True
    _keep_altered(store, progress)
    if newest is None or not is_again or newest.options != version.options:
        # The record comes first: it may name a version that never arrived, but no file is without
        # its record.
        add_version(store, version, submission, origin)
    write_bytes(store.submission_path, submission.content)
    return True


def _version(submission: Submission, origin: Origin, by_hand: bool) -> SubmissionVersion:
    options = submission.spec.model_dump(mode="json")
    version = SubmissionVersion(
        sha256=submission.sha256,
        rows=submission.rows,
        made_of=origin.made_of,
        target=submission.target,
        classes=submission.classes,
        written_with=options,
    )
    said: dict[str, object] = {"by_hand": True, "options": options} if by_hand else {}
    if origin.score is not None:
        said["score"] = origin.score
    if origin.replay_of is not None:
        said["replay_of"] = origin.replay_of
    return version.model_copy(update=said)


def add_version(
    store: RunStore, version: SubmissionVersion, submission: Submission, origin: Origin
) -> None:
    """Record a version as the newest, its content and what makes it again kept before."""
    files = {SUBMISSION: submission.content, **origin.files}
    is_in_between = origin.made_of.blend is None and not version.by_hand
    if is_in_between and len(submission.content) > _MOST_IN_BETWEEN:
        del files[SUBMISSION]
    sources = {**_template_of(submission.spec, origin.sources), **origin.sources}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept = keep_files(store, files)
    known: dict[str, object] = {"time": now, "sources": sources, "kept": kept}
    earlier = all_versions(store)
    public = [v.public for v in earlier if v.sha256 == version.sha256 and v.public]
    if public:
        known["public"] = public[-1]
    write_versions(store, [*earlier, version.model_copy(update=known)])


def note_out_version(
    store: RunStore, place: str, submission: Submission, origin: Callable[[], Origin]
) -> list[str]:
    """Record a submission that was written to another place than the run's own.

    Return what is to be said where the run cannot be written. `origin` is asked for it under the
    run's lock.
    """
    try:
        with claim(store.lock_path, wait=True):
            _add_out_version(store, place, submission, origin())
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        return [f"`ens history` will not list it: {error.strerror}: {error.filename}"]
    return []


def _add_out_version(
    store: RunStore, place: str, submission: Submission, origin: Origin
) -> None:
    """Nothing when that is the newest of its place already."""
    version = _version(submission, origin, by_hand=True)
    version = version.model_copy(update={"file": place})
    there = [earlier for earlier in all_versions(store) if earlier.file == place]
    if not there or not there[-1].makes_the_same(version):
        add_version(store, version, submission, origin)


def _template_of(spec: SubmissionSpec, known: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of the template; of one that is known already, which may be gone, nothing."""
    if spec.template is None or spec.template in known:
        return {}
    return {spec.template: sha256_of(Path(spec.template))}


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


def current_number(store: RunStore) -> int | None:
    """The number, from 1, of the version that `submission.csv` is; None where it is none."""
    digest = _digest_of(store.submission_path)
    numbers = [
        n
        for n, version in enumerate(all_versions(store), start=1)
        if version.file is None and version.sha256 == digest
    ]
    return numbers[-1] if numbers and digest is not None else None


def blend_to_submit(store: RunStore) -> str | None:
    """The name of the blend last chosen for the submission, whatever became of the file."""
    versions = submission_versions(store)
    return _blend_of(store, versions[-1]) if versions else None


def _blend_of(store: RunStore, version: SubmissionVersion) -> str | None:
    name = version.made_of.blend
    return name if name in store.blends else None
