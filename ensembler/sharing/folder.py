"""A pool in a folder: of this machine, or on a drive that several share."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import sweep, write_aside
from ensembler.sharing.copying import copied


@dataclass(frozen=True)
class Folder:
    """Files in a folder; see `Place`."""

    root: Path

    @classmethod
    def named(cls, target: str) -> Folder:
        """The folder of a path or of a URL `file://...`."""
        if target.lower().startswith("file://"):
            return cls(Path(unquote(urlsplit(target).path)))
        return cls(Path(target).expanduser())

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.root)

    def is_empty(self) -> bool:
        """Whether the folder has nothing in it but hidden files, or does not exist."""
        if not self.root.exists():
            return True
        return all(entry.name.startswith(".") for entry in self.root.iterdir())

    def size(self, file: str) -> int | None:
        """How many bytes a file has; None where no plain file of that name exists."""
        try:
            found = (self.root / file).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def listing(self) -> dict[str, int]:
        """All plain files and their bytes, in order; files that are being written have dots."""
        found = {}
        for place, folders, names in os.walk(self.root):
            folders.sort()
            below = Path(place).relative_to(self.root)
            for name in sorted(name for name in names if not name.startswith(".")):
                file = (below / name).as_posix()
                size = self.size(file)
                if size is not None:
                    found[file] = size
        return found

    def read(self, file: str, most: int) -> bytes:
        """A file of at most `most` bytes."""
        size = self._size_of(file)
        if size > most:
            raise StoreError(
                f"{self.root / file} has {size} bytes, expected at most {most}"
            )
        with (self.root / file).open("rb") as opened:
            return opened.read(most)

    def fetch(self, file: str, into: IO[bytes], size: int) -> str:
        """Copy a file of exactly `size` bytes, and return its sha256."""
        found = self._size_of(file)
        if found != size:
            raise StoreError(f"{self.root / file} has {found} bytes, expected {size}")
        with (self.root / file).open("rb") as opened:
            return copied(opened, into, size)

    def _size_of(self, file: str) -> int:
        size = self.size(file)
        if size is None:
            raise MissingFileError(f"{self.root / file} is missing")
        return size

    def create(self, file: str, content: bytes) -> bool:
        """Write a file unless it is there: written aside and then linked, so it is never half.

        Where the file system knows no hard links, it is created exclusively and then filled;
        whoever reads it in between finds that its digest does not fit its name.
        """
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with write_aside(path, exclusive=True) as aside:
                aside.write(content)
        except FileExistsError:
            return False
        return True

    def put(self, file: str, source: IO[bytes], size: int) -> None:
        """Copy an open file here; what is there already gives way in one step."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(path, size=size) as into:
            copied(source, into, size)

    def clean_up(self) -> None:
        """Remove files that writers that died have left, known by locks that nobody holds."""
        if self.root.is_dir():
            sweep(self.root)
