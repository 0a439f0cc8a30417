"""Reading one version of a member or blend that another process may be replacing.

A version is a record and the files it describes. A replacement (see `publish`) removes the old
record first and puts the new one there last. So files that are opened between two looks at one and
the same record belong to it, whatever happens to their names afterwards. A replacement that is
decided is read from wherever its files are at that moment: its process may be at work, or may have
been killed.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from ensembler.errors import MissingFileError
from ensembler.predictions.publish import NEXT
from ensembler.predictions.records import read_record

PAUSE = 0.005  # seconds between two looks at an entry that is just being replaced
PATIENCE = 60.0  # seconds

R = TypeVar("R", bound=BaseModel)


class HeldFile:
    """A file that is opened now and may be read later.

    It is closed when nobody holds it any more.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def reader(self) -> BufferedReader:
        """The file from its beginning."""
        file = os.fdopen(self._descriptor, "rb", closefd=False)
        file.seek(0)
        return file


@dataclass(frozen=True)
class Settled(Generic[R]):
    """A record, and those of its files that are there, all of one version."""

    record: R
    files: dict[str, HeldFile]


def read_settled(entry: Path, name: str, model: type[R]) -> R:
    """The record `name` of a member or blend.

    Of one that is being replaced the new one, once that is decided.
    """
    return _look(entry, name, model)[0]


def open_settled(
    entry: Path, name: str, model: type[R], files_of: Callable[[R], Sequence[str]]
) -> Settled[R]:
    """The record `name` of a member or blend, and the files that `files_of` names, opened."""
    until = time.monotonic() + PATIENCE
    while True:
        record, folders = _look(entry, name, model)
        files = {
            file: held
            for file in files_of(record)
            if (held := _hold(file, folders)) is not None
        }
        if _look(entry, name, model) == (record, folders) or time.monotonic() > until:
            return Settled(record, files)


def has_record(entry: Path, name: str) -> bool:
    """Whether a member or blend is complete, be it one that is just being replaced."""
    # a record that moves up between two looks is seen by the third
    places = (entry, entry / NEXT, entry)
    return any((place / name).is_file() for place in places)


def _look(entry: Path, name: str, model: type[R]) -> tuple[R, tuple[Path, ...]]:
    """The record, and the folders in which to look for its files, one after the other."""
    places = ((entry / name, (entry,)), (entry / NEXT / name, (entry / NEXT, entry)))
    until = time.monotonic() + PATIENCE
    while True:
        for path, folders in places:
            try:
                return read_record(path, model), folders
            except MissingFileError:
                continue
        if not has_record(entry, name) or time.monotonic() > until:
            return read_record(entry / name, model), (entry,)
        time.sleep(PAUSE)  # it has moved between the two looks


def _hold(file: str, folders: Sequence[Path]) -> HeldFile | None:
    for folder in folders:
        try:
            return HeldFile(folder / file)
        except FileNotFoundError:
            continue
    return None
