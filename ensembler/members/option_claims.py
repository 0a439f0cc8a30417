"""With which options a training is at work: processes that share them share its folds, others are told.

The file `.training/<training>/.options` holds these options and a lock (flock) that every process
at work shares. It is a claim like any other: free the moment the last of them has ended, however
that happens.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensembler.errors import RequestError
from ensembler.files import lies_at, open_lock
from ensembler.members.plan import MemberPlan
from ensembler.members.training import Training, group_trainings
from ensembler.workspace.workspace import Workspace

_LOOKS = 25
_PAUSE = 0.02  # seconds; whoever only looks holds the lock for less


@contextmanager
def claim_options(training: Training) -> Iterator[None]:
    """Hold a share of the claim on a training's options.

    RequestError while another process works with others.
    """
    path = _path(training)
    descriptor = _share(path, _content(training))
    if descriptor is None:
        raise _at_work(training)
    try:
        yield
    finally:
        _release(descriptor, path)


def check_options(training: Training) -> None:
    """Raise RequestError when another process is at work on a training with other options."""
    path = _path(training)
    for _ in range(_LOOKS):
        if not _is_shared(path) or _read(path) in (None, _content(training)):
            return
        time.sleep(_PAUSE)
    raise _at_work(training)


def check_nobody_trains_otherwise(workspace: Workspace) -> None:
    """Raise RequestError while another process trains a member of the run with other options than this recipe's."""
    if not (workspace.store.folder / ".training").is_dir():
        return
    for training in group_trainings(
        [MemberPlan(workspace, job) for job in workspace.jobs if not job.parts]
    ):
        check_options(training)


def _path(training: Training) -> Path:
    return training.folder / ".options"


def _content(training: Training) -> dict[str, Any]:
    first = training.all_plans[0]
    return json.loads(
        json.dumps({"fingerprint": training.fingerprint, "options": first.options}, default=str)
    )


def _share(path: Path, content: dict[str, Any]) -> int | None:
    """A descriptor that shares the lock on a file of this content.

    None while others share one of another content.
    """
    for _ in range(_LOOKS):
        descriptor = open_lock(path)
        try:
            if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and lies_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(content).encode(), 0)
            _lock(descriptor, fcntl.LOCK_SH)
            if lies_at(descriptor, path) and _read(path) == content:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_PAUSE)
    return None


def _is_shared(path: Path) -> bool:
    """Whether some process holds a share of the lock just now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True


def _release(descriptor: int, path: Path) -> None:
    try:
        if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and lies_at(descriptor, path):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any] | None:
    """What the claim says; None when it is just being made or removed."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _at_work(training: Training) -> RequestError:
    old, new = (
        (c or {}).get("options") or {} for c in (_read(_path(training)), _content(training))
    )
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    differ = ", ".join(f"{key} ({old.get(key)!r} there, {new.get(key)!r} here)" for key in keys[:4])
    return RequestError(
        f"another process is training {training.name!r} of this run with other "
        f"options{': ' * bool(differ)}{differ}; "
        "wait until it has ended, or give this recipe another name (name: or --set name=...)"
    )
