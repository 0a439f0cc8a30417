"""Whether machines that share a folder may share a run in it: its file locks hold among them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembler.errors import RequestError
from ensembler.files import claim, read_json, write_json

_LOCK, _HOLDER = ".ens-doctor.lock", ".ens-doctor.json"
# Tries the lock as another process does, and says whether it is free.
_TRY = (
    "import sys; from pathlib import Path; from ensembler.files import claim\n"
    "with claim(Path(sys.argv[1])) as is_ours: print(is_ours)"
)


@dataclass(frozen=True)
class SharedFolder:
    """What was found of a shared folder: whether its locks `hold`, among which machines, and how.

    `machines` are those that took part: one alone says little of the others.
    """

    folder: str
    holds: bool
    machines: tuple[str, ...]
    message: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**self.__dict__, "machines": list(self.machines)}


def check_shared(folder: Path, hold: float = 0.0) -> SharedFolder:
    """Look whether locks in a folder hold: among two processes here, and with other machines.

    The lock is held for `hold` seconds, in which the same check on another machine has to meet it.
    RequestError for a folder that is none, or without file locks.
    """
    if not folder.is_dir():
        raise RequestError(f"--shared {folder}: expected a folder that the machines share")
    here, record = platform.node(), folder / _HOLDER
    with claim(folder / _LOCK) as is_ours:
        holder = _holder(record)
        if not is_ours:
            there = holder or "another process"
            text = f"the lock that {there} holds is seen here: machines may share runs in {folder}"
            return SharedFolder(str(folder), True, (there, here), text)
        if holder is not None:
            text = (
                f"{here} could take the lock that {holder} holds: machines that share a run in "
                f"{folder} would spoil it; mount it with locks (NFS 4, or Lustre: -o flock)"
            )
            return SharedFolder(str(folder), False, (holder, here), text)
        try:
            write_json(record, {"machine": here, "until": time.time() + hold})
            is_free = _is_free_for_others(folder / _LOCK)
            time.sleep(hold)
        finally:
            record.unlink(missing_ok=True)
    if is_free:
        text = f"a second process could take a lock that is held: runs in {folder} are not safe"
        return SharedFolder(str(folder), False, (here,), text)
    text = (
        f"locks hold among processes of this machine; `ens doctor --shared {folder} --hold 60` "
        "here and the same on another machine within that minute tests both"
    )
    return SharedFolder(str(folder), True, (here,), text)


def _holder(record: Path) -> str | None:
    """The machine that says that it holds the lock now; None when none does."""
    if not record.is_file():
        return None
    content = read_json(record)
    if float(content.get("until", 0.0)) < time.time():
        return None  # of a check that was killed
    return str(content.get("machine"))


def _is_free_for_others(lock: Path) -> bool:
    """Whether another process of this machine can take the lock."""
    found = subprocess.run(
        [sys.executable, "-c", _TRY, str(lock)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return found.stdout.strip() == "True"
