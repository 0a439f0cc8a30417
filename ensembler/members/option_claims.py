"""With which options trainings are at work: processes with the same ones share the folds.

Every process at work keeps one file `.training/.options-<number>` with the options of all its
trainings, and a lock (flock) on it. It is a claim like any other: free the moment the process has
ended, however that happens. One file a process, however many trainings there are: the system
allows a process about a thousand open files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensembler.errors import RequestError
from ensembler.files import claim, open_lock
from ensembler.members.plan import MemberPlan
from ensembler.members.training import Training, group_trainings
from ensembler.workspace.workspace import Workspace

PREFIX = ".options-"

Options = Mapping[str, Any]  # of one training: its fingerprint and its options


@contextmanager
def claim_options(trainings: Sequence[Training]) -> Iterator[None]:
    """Claim the options of `trainings` while the block runs.

    RequestError while another process works on one of them with others.
    """
    if not trainings:
        yield
        return
    folder = _folder(trainings[0])
    path = folder / f"{PREFIX}{uuid.uuid4().hex}"
    # One at a time, so that of two processes that begin at once the second sees the first.
    with claim(folder / ".options.lock", wait=True):
        _remove_dead(folder)
        _check(folder, trainings)
        descriptor = _claimed(path, {t.name: claimed_options(t) for t in trainings})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def check_options(trainings: Sequence[Training]) -> None:
    """Raise RequestError when another process works on one of `trainings` with other options."""
    if trainings:
        _check(_folder(trainings[0]), trainings)


def check_nobody_trains_otherwise(workspace: Workspace) -> None:
    """Raise RequestError while another process trains a member of the run with other options."""
    if (workspace.store.folder / ".training").is_dir():
        plans = [
            MemberPlan(workspace, planned)
            for planned in workspace.members
            if not planned.parts
        ]
        check_options(group_trainings(plans))


def _folder(training: Training) -> Path:
    return training.folder.parent


def claimed_options(training: Training) -> dict[str, Any]:
    """What a claim holds of a training: its fingerprint and options, as plain values."""
    content = {
        "fingerprint": training.fingerprint,
        "options": training.all_plans[0].options,
    }
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def _check(folder: Path, trainings: Sequence[Training]) -> None:
    claims = [options for path in folder.glob(f"{PREFIX}*") if (options := _at_work(path))]
    for training in trainings:
        ours = claimed_options(training) if claims else {}
        for claimed in claims:
            theirs = claimed.get(training.name, ours)
            if theirs != ours:
                raise _conflict(training, theirs, ours)


def _claimed(path: Path, content: Mapping[str, Options]) -> int:
    """A descriptor that holds the lock on a new claim of this content."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, json.dumps(content).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _at_work(path: Path) -> Mapping[str, Options]:
    """What a claim says; nothing when its process has ended, or has just removed it."""
    with _opened(path) as descriptor:
        if descriptor is None or not _is_held(descriptor):
            return {}
        return _read(descriptor)


def _remove_dead(folder: Path) -> None:
    """Remove the claims of processes that were killed."""
    for path in folder.glob(f"{PREFIX}*"):
        with _opened(path) as descriptor:
            if descriptor is None or _is_held(descriptor):
                continue
            with contextlib.suppress(
                PermissionError
            ):  # another user's: it counts no more anyway
                path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_held(descriptor: int) -> bool:
    """Whether the process that made a claim is still at work; lookers share the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(descriptor: int) -> Mapping[str, Options]:
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    try:
        found = json.loads(content)
    except ValueError:  # it is just being made
        return {}
    return found if isinstance(found, dict) else {}


def _conflict(training: Training, theirs: Options, ours: Options) -> RequestError:
    old, new = theirs.get("options") or {}, ours.get("options") or {}
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    differ = ", ".join(
        f"{key} ({old.get(key)!r} there, {new.get(key)!r} here)" for key in keys[:4]
    )
    return RequestError(
        f"another process is training {training.name!r} of this run with other "
        f"options{': ' * bool(differ)}{differ}; wait until it has ended, or give this "
        "recipe another name (name: or --set name=...)"
    )
