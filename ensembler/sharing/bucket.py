"""A pool in a bucket or on a server: S3, GCS, Azure and whatever else fsspec knows by a URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from ensembler.errors import (
    EnsemblerError,
    MissingExtraError,
    MissingFileError,
    RequestError,
    StoreError,
)
from ensembler.sharing.copying import PIECE, copied

_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "az": "azure",
    "abfss": "azure",
}
_AT_ONCE = 50_000_000  # bytes that are written in one request


class UnreachableError(EnsemblerError, OSError):
    """A bucket that does not answer, or refuses; its own words say why."""

    code = "unreachable"


@dataclass(frozen=True)
class Bucket:
    """Files below a URL; see `Place`.

    Where the store can create a file only if it is not there (S3, GCS, memory), a record is created
    so. Elsewhere it is written: since every name says its content, whoever is second writes the
    same bytes.
    """

    url: str
    files: Any  # an fsspec file system
    root: str

    @classmethod
    def open(cls, url: str) -> Bucket:
        """The bucket of a URL, which need not exist; its options come from the environment."""
        scheme = url.partition("://")[0].lower()
        extra = _EXTRAS.get(scheme, "pool")
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingExtraError(url, "pool") from error
        try:
            files, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MissingExtraError(url, extra) from error
        except ValueError as error:
            raise RequestError(f"{url} cannot be opened: {error}") from error
        return cls(url.rstrip("/"), files, root.rstrip("/"))

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    def is_empty(self) -> bool:
        """Whether nothing lies below the URL."""
        with self._reached():
            try:
                return not self.files.ls(self.root, detail=False)
            except FileNotFoundError:
                return True

    def size(self, file: str) -> int | None:
        """How many bytes a file has; None where it does not exist."""
        with self._reached():
            try:
                found = self.files.info(self._path(file))
            except FileNotFoundError:
                return None
        return int(found["size"]) if found["type"] == "file" else None

    def listing(self) -> dict[str, int]:
        """All files and their bytes, in order."""
        with self._reached():
            found = self.files.find(self.root, detail=True)
        prefix = f"{self.root}/"
        sizes = {
            path.removeprefix(prefix): int(info["size"])
            for path, info in found.items()
            if path.startswith(prefix)
        }
        return dict(sorted(sizes.items()))

    def read(self, file: str, most: int) -> bytes:
        """A file of at most `most` bytes."""
        with self._reached(file):
            content: bytes = self.files.cat_file(self._path(file), start=0, end=most + 1)
        if len(content) > most:
            raise StoreError(f"{self.url}/{file} has more than {most} bytes")
        return content

    def fetch(self, file: str, into: IO[bytes], size: int) -> str:
        """Copy a file of exactly `size` bytes, and return its sha256."""
        found = self.size(file)
        if found is None:
            raise MissingFileError(f"{self.url}/{file} is missing")
        if found != size:
            raise StoreError(f"{self.url}/{file} has {found} bytes, expected {size}")
        path = self._path(file)
        with self._reached(file), self.files.open(path, "rb", block_size=PIECE) as opened:
            return copied(opened, into, size)

    def create(self, file: str, content: bytes) -> bool:
        """Write a small file unless it is there."""
        path = self._path(file)
        with self._reached():
            try:
                self.files.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError, ValueError):
                # a store that creates nothing exclusively: the same name means the same bytes
                if self.files.exists(path):
                    return False
                self.files.pipe_file(path, content)
        return True

    def put(self, file: str, source: IO[bytes], size: int) -> None:
        """Copy an open file here; buckets show a file when all of it is there."""
        path = self._path(file)
        with self._reached():
            if size <= _AT_ONCE:
                self.files.pipe_file(path, source.read(size))
                return
            with self.files.open(path, "wb") as into:
                copied(source, into, size)

    def clean_up(self) -> None:
        """Nothing is left of a writer that died: what was not finished is not shown."""

    def _path(self, file: str) -> str:
        return f"{self.root}/{file}"

    @contextmanager
    def _reached(self, file: str | None = None) -> Iterator[None]:
        """Errors of the store in a sentence; each client has its own classes for them."""
        try:
            yield
        except EnsemblerError:
            raise
        except FileNotFoundError as error:
            where = self.url if file is None else f"{self.url}/{file}"
            raise MissingFileError(f"{where} is missing") from error
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UnreachableError(f"{self.url} cannot be used: {said[0][:300]}") from error
