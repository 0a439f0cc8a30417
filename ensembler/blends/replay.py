"""`ens replay`: write a submission of the history again, byte for byte."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.blends.apply import apply_blend, merging_below
from ensembler.errors import EnsemblerError, StoreError
from ensembler.files import claim, sha256_of
from ensembler.outputs import check_output, write_output
from ensembler.predictions.blends import STATE
from ensembler.predictions.store import RunStore
from ensembler.progress import RecordedProgress
from ensembler.reporting.history import version_number
from ensembler.reporting.kept import read_kept
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import (
    SUBMISSION,
    Origin,
    Submission,
    make_submission,
    note_out_version,
    write_submission,
)
from ensembler.reporting.versions import SubmissionVersion


@dataclass(frozen=True)
class Replay:
    """A version that was written again.

    `made_again` says that it was computed from the members' predictions, not copied; `changed` are
    the files it was once computed from that are others now.
    """

    run: str
    n: int
    path: Path
    rows: int
    made_again: bool
    changed: tuple[str, ...]
    notes: tuple[str, ...] = ()


def replay(
    store: RunStore, n: int, *, out: Path | None = None, remake: bool = False
) -> Replay:
    """Write version `n` of the submission again, to its place or to `out`.

    It is the kept file, or with `remake` (and where the kept file is gone) computed from the
    members' predictions and the blend as it was fitted then. The file is the same byte for byte, or
    nothing is written and StoreError names what changed; RequestError when there is no version `n`.
    """
    if out is not None:
        check_output(out)
    version = version_number(store, n)
    changed = tuple(changed_sources(store, version))
    notes = []
    lost = None if remake else _why_not_kept(store, version)
    if remake or lost is not None:
        content = _made_again(store, n, version, changed, lost)
        notes += [] if lost is None else [f"{lost}; it was made again from its members"]
    else:
        content = read_kept(store, version.kept[SUBMISSION])
        if changed:
            notes.append(
                f"{', '.join(changed)} changed since; what is written is the file of then"
            )
    path = out or store.submission_path
    notes += _write(store, n, version, content, out)
    made_again = remake or lost is not None
    rows = version.rows or 0
    return Replay(store.name, n, path, rows, made_again, changed, tuple(notes))


def changed_sources(store: RunStore, version: SubmissionVersion) -> list[str]:
    """The files that a version was computed from and that are gone or others now."""
    return [
        path
        for path, sha256 in version.sources.items()
        if not (store.folder / path).is_file() or sha256_of(store.folder / path) != sha256
    ]


def _why_not_kept(store: RunStore, version: SubmissionVersion) -> str | None:
    """What is wrong with the kept file; None when it is as it was."""
    if SUBMISSION not in version.kept:
        return "its file was not kept"
    try:
        content = read_kept(store, version.kept[SUBMISSION])
    except StoreError as error:
        return str(error)
    return None if content else "its kept file is empty"


def _made_again(
    store: RunStore,
    n: int,
    version: SubmissionVersion,
    changed: tuple[str, ...],
    lost: str | None,
) -> bytes:
    """The content computed anew; StoreError unless it is that of then."""
    because = "" if lost is None else f"{lost}, and "
    if changed:
        raise StoreError(
            f"submission {n} of run {store.name!r} cannot be made again: {because}"
            f"{', '.join(changed)} changed since"
        )
    try:
        submission = _computed(store, version)
    except EnsemblerError as error:
        raise StoreError(
            f"submission {n} of run {store.name!r} cannot be made again: {because}{error}"
        ) from error
    if submission is None or submission.sha256 != version.sha256:
        raise StoreError(
            f"submission {n} of run {store.name!r} was made again from the same files, and "
            f"{because}is another file: this version of ens, numpy or the machine computes "
            "otherwise"
        )
    return submission.content


def _computed(store: RunStore, version: SubmissionVersion) -> Submission | None:
    """The submission from the members' predictions and the blend as it was fitted then."""
    name = version.made_of.blend
    if name is None or version.written_with is None or version.target is None:
        raise StoreError("its record does not say how it was made")
    if not any(path.endswith(STATE) for path in version.kept):
        raise StoreError(f"blend {name!r} was not kept as it was fitted")
    with tempfile.TemporaryDirectory(prefix="ens-replay-") as folder:
        then = _run_of_then(store, version, Path(folder) / store.name)
        test = apply_blend(then, name, _test_probs(then, name), progress=RecordedProgress())
        spec = SubmissionSpec.model_validate(version.written_with)
        classes = then.blend(name).record.classes
        return make_submission(then, spec, test, version.target, classes)


def _run_of_then(store: RunStore, version: SubmissionVersion, folder: Path) -> RunStore:
    """A run that has the members of today and the blends of then."""
    folder.mkdir()
    (folder / "members").symlink_to((store.folder / "members").resolve())
    (folder / "samples.csv").symlink_to(store.samples_path.resolve())
    for path, name in version.kept.items():
        if path != SUBMISSION:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(read_kept(store, name))
    return RunStore(folder)


def _test_probs(
    store: RunStore, name: str
) -> Mapping[tuple[str, str], NDArray[np.floating]]:
    """The members' test probabilities `[folds, samples, classes]`, merged as the blend does."""
    found = {}
    for (member, target), merging in merging_below(store, name).items():
        opened = store.member(member).for_target(target)
        classes = store.classes(target)
        found[member, target] = opened.test(classes, merging.how, merging.views)
    return found


def _write(
    store: RunStore, n: int, version: SubmissionVersion, content: bytes, out: Path | None
) -> list[str]:
    """Write the content, as one more version of the history."""
    options = version.written_with or version.options or {}
    submission = Submission(
        content,
        version.rows or 0,
        (),
        version.target or "label",
        version.classes or (),
        SubmissionSpec.model_validate(options),
    )
    kept = {path: name for path, name in version.kept.items() if path != SUBMISSION}
    files = {path: read_kept(store, name) for path, name in kept.items()}
    again = version.replay_of or n
    origin = Origin(version.made_of, version.score, version.sources, files, again)
    if out is not None:
        write_output(out, content)
        return note_out_version(store, os.fspath(out), submission, lambda: origin)
    recorded = RecordedProgress()
    with claim(store.lock_path, wait=True):
        write_submission(store, submission, origin, by_hand=True, progress=recorded)
    return recorded.warnings
