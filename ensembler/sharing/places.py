"""Where a pool lies: a folder of this machine or network, or a bucket named by a URL."""

from __future__ import annotations

from typing import IO, Protocol

from ensembler.arguments import is_url
from ensembler.sharing.folder import Folder


class Place(Protocol):
    """Files by names of the form `a/b/c`, each written once."""

    @property
    def name(self) -> str:
        """What a user calls it."""
        ...

    def is_empty(self) -> bool:
        """Whether there is nothing, or no such place yet."""
        ...

    def size(self, file: str) -> int | None:
        """How many bytes a file has; None where it does not exist."""
        ...

    def listing(self) -> dict[str, int]:
        """All files and their bytes, in order."""
        ...

    def read(self, file: str, most: int) -> bytes:
        """A file of at most `most` bytes; StoreError for a larger one or none."""
        ...

    def fetch(self, file: str, into: IO[bytes], size: int) -> str:
        """Copy a file of exactly `size` bytes, and return its sha256; StoreError otherwise."""
        ...

    def create(self, file: str, content: bytes) -> bool:
        """Write a small file, whole or not at all, unless it is there: False when it is."""
        ...

    def put(self, file: str, source: IO[bytes], size: int) -> None:
        """Copy an open file of `size` bytes here, whole or not at all."""
        ...

    def clean_up(self) -> None:
        """Remove what writers that died have left."""
        ...


def open_place(target: str) -> Place:
    """The folder or bucket called `target`, which need not exist."""
    if is_url(target) and not target.lower().startswith("file://"):
        from ensembler.sharing.bucket import Bucket

        return Bucket.open(target)
    return Folder.named(target)
