"""Telling trackers what a run's folder holds and they do not have yet.

What was told is noted in the run's `.track` folder, so what could not be sent (no network, a server
that is down) is sent at the next start: the folder is the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from ensembler.errors import EnsemblerError, MissingFileError
from ensembler.files import claim, read_json, write_json
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress
from ensembler.sharing.trackers.facts import member_facts, run_facts
from ensembler.sharing.trackers.tracker import Tracker, TrackerError, open_tracker

PATIENCE = 120.0  # seconds that a run waits for a tracker at its end
_FOLDER = ".track"


@dataclass(frozen=True)
class Mirrored:
    """What a tracker was told now, and what it had `already`."""

    tracker: str
    members: tuple[str, ...]
    already: tuple[str, ...]


class Noted:
    """What one tracker was told of a run, kept in a file of the run."""

    def __init__(self, store: RunStore, tracker: str) -> None:
        self.path = store.folder / _FOLDER / f"{tracker}.json"
        said = _read(self.path)
        self.members: dict[str, str] = _texts(said.get("members"))
        self.run: str | None = said["run"] if isinstance(said.get("run"), str) else None
        kept = said.get("kept")
        self.kept: dict[str, Any] = kept if isinstance(kept, dict) else {}

    def save(self) -> None:
        """Write it, whole or not at all."""
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, {"members": self.members, "run": self.run, "kept": self.kept})


@contextmanager
def only_teller(store: RunStore, tracker: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the right to tell a tracker of a run; TrackerError when another has it, or `wait`."""
    folder = store.folder / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with claim(folder / f".{tracker}.lock", wait=wait) as is_mine:
        if not is_mine:
            raise TrackerError(
                f"another process is telling {tracker} of run {store.name!r}"
            )
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except MissingFileError:
        return {}


def _texts(said: object) -> dict[str, str]:
    if not isinstance(said, dict):
        return {}
    return {str(key): str(value) for key, value in said.items()}


def mirror_run(
    store: RunStore,
    tracker: str,
    *,
    members: Sequence[str] | None = None,
    wait: bool = False,
) -> Mirrored:
    """Tell a tracker of every complete member (or of those named) that it does not know.

    `wait` lets whoever tells it just now end first, instead of an error. Raises TrackerError when
    it does not take something: what it took is noted.
    """
    with only_teller(store, tracker, wait=wait):
        noted = Noted(store, tracker)
        try:
            opened = open_tracker(tracker, store.name, store.folder, noted.kept)
            return _tell(store, tracker, opened, noted, members)
        except EnsemblerError:
            raise
        except Exception as error:  # each client has its own
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise TrackerError(
                f"{tracker} did not take run {store.name!r}: {said[0][:300]}; "
                f"`ens share {store.name} --to {tracker}` tries again"
            ) from error


def _tell(
    store: RunStore,
    tracker: str,
    opened: Tracker,
    noted: Noted,
    members: Sequence[str] | None,
) -> Mirrored:
    told: list[str] = []
    already: list[str] = []
    for name in store.complete_members if members is None else members:
        facts = member_facts(store, name)
        if noted.members.get(name) == facts.digest:
            already.append(name)
            continue
        opened.member(facts)
        noted.members[name] = facts.digest
        noted.save()
        told.append(name)
    run = run_facts(store)
    if noted.run != run.digest:
        opened.run(run)
        noted.run = run.digest
    opened.close()
    noted.save()
    return Mirrored(tracker, tuple(told), tuple(already))


def mirror_in_time(store: RunStore, trackers: Sequence[str], progress: Progress) -> None:
    """Tell several trackers at the end of a run; one that fails or hangs is a warning."""
    for tracker in trackers:
        thread = Thread(target=_mirror, args=(store, tracker, progress), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            progress.warn(
                f"{tracker} did not answer in {PATIENCE:.0f} seconds; `ens share {store.name} --to "
                f"{tracker}` tries again"
            )


def _mirror(store: RunStore, tracker: str, progress: Progress) -> None:
    try:
        mirror_run(RunStore(store.folder), tracker, wait=True)
    except (EnsemblerError, OSError) as error:
        progress.warn(str(error))
