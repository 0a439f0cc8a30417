"""A team's pool: its splits, and the members that were shared for each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from ensembler.arguments import POOL_RECORD
from ensembler.errors import EnsemblerError, RequestError, StoreError
from ensembler.predictions.samples import SampleTable, parse_samples_csv
from ensembler.sharing.layout import (
    MEMBERS,
    RecordName,
    blob_path,
    digest,
    is_sha256,
    members_folder,
    parsed_record_file,
    samples_path,
)
from ensembler.sharing.places import Place, open_place
from ensembler.sharing.records import (
    MOST_RECORD_BYTES,
    Blob,
    PoolRecord,
    SharedMember,
    content_of,
    parsed,
)

AT_ONCE = 16  # records read from a bucket at the same time


@dataclass(frozen=True)
class Listed:
    """A member of a pool: its record, and the sha256 of that."""

    shared: SharedMember
    sha256: str


@dataclass(frozen=True)
class Unusable:
    """A record of a pool that cannot be used, and why."""

    member: str
    reason: str


@dataclass(frozen=True)
class Pool:
    """A pool as it was when it was opened."""

    place: Place

    @classmethod
    def open(cls, source: str) -> Pool:
        """Open the pool that a folder or URL holds; RequestError when there is none."""
        place = open_place(source)
        if place.size(POOL_RECORD) is None:
            raise RequestError(
                f"{source} is not a pool: it has no {POOL_RECORD}; `ens share RUN {source}` makes "
                "one"
            )
        _check_format(place)
        return cls(place)

    @classmethod
    def open_or_make(cls, target: str) -> Pool:
        """Open a pool, or make one in a folder or bucket that is empty."""
        place = open_place(target)
        if place.size(POOL_RECORD) is None:
            is_empty = place.is_empty()
            # somebody else may have made it between the two looks
            if not is_empty and place.size(POOL_RECORD) is None:
                raise RequestError(
                    f"{target} is not a pool and not empty: name a new folder, or one with an "
                    f"{POOL_RECORD}"
                )
            place.create(POOL_RECORD, content_of(PoolRecord(format=1)))
        _check_format(place)
        return cls(place)

    @cached_property
    def listing(self) -> dict[str, int]:
        """All files of the pool and their bytes, looked up once."""
        return self.place.listing()

    @property
    def splits(self) -> list[str]:
        """The splits that have members, by the sha256 of their samples.csv."""
        return sorted({split for split, _ in self._record_files})

    @property
    def _record_files(self) -> list[tuple[str, str]]:
        """The names of records with their splits, in order."""
        found = []
        for path in self.listing:
            parts = path.split("/")
            if len(parts) == 3 and parts[0] == MEMBERS and is_sha256(parts[1]):
                found.append((parts[1], parts[2]))
        return sorted(found)

    def samples(self, split: str) -> SampleTable:
        """The rows of a split; StoreError when they are not those that its name says."""
        path = samples_path(split)
        content = self.place.read(path, self.listing.get(path, 0))
        where = Path(f"{self.place.name}/{path}")
        if digest(content) != split:
            raise StoreError(f"{where} is not the file that its folder is named after")
        return parse_samples_csv(content, where)

    def members(self, split: str) -> list[Listed | Unusable]:
        """The members shared for a split, by name, author and content."""
        files = [file for of, file in self._record_files if of == split]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = list(threads.map(lambda file: self._member(split, file), files))
        return sorted(found, key=_order)

    def _member(self, split: str, file: str) -> Listed | Unusable:
        """One record, checked; one that does not fit says why."""
        named = parsed_record_file(file)
        where = f"{self.place.name}/{members_folder(split)}/{file}"
        if named is None:
            return Unusable(file, f"{where} is not named as records are")
        try:
            return self._read(split, file, named, where)
        except EnsemblerError as error:
            return Unusable(named.name, str(error))

    def _read(self, split: str, file: str, named: RecordName, where: str) -> Listed:
        content = self.place.read(f"{members_folder(split)}/{file}", MOST_RECORD_BYTES)
        sha256 = digest(content)
        if not sha256.startswith(named.digits):
            raise StoreError(
                f"{where} is not the record that its name says; it was altered or cut short"
            )
        shared = parsed(content, SharedMember, where)
        if (shared.name, shared.split) != (named.name, split):
            raise StoreError(f"{where} is the record of another member or split")
        for name, blob in shared.files.items():
            if self.listing.get(blob_path(blob.sha256)) != blob.size:
                raise StoreError(
                    f"{where} names {name}, whose file {blob_path(blob.sha256)} is missing or has "
                    "another size; its author shares it again"
                )
        return Listed(shared, sha256)

    def fetch(self, name: str, blob: Blob, into: IO[bytes]) -> None:
        """Copy a file of a member; StoreError when it is not the one that the record names."""
        path = blob_path(blob.sha256)
        found = self.place.fetch(path, into, blob.size)
        if found != blob.sha256:
            raise StoreError(
                f"{self.place.name}/{path} ({name}) was altered: its sha256 differs; remove it, "
                "and have its author share it again"
            )


def reasons(skipped: Sequence[Unusable], most: int = 5) -> str:
    """Why members were left, in one line."""
    said = [f"{left.member}: {left.reason}" for left in skipped[:most]]
    more = [f"{len(skipped) - most} more"] if len(skipped) > most else []
    return "; ".join(said + more)


def _check_format(place: Place) -> None:
    where = f"{place.name}/{POOL_RECORD}"
    try:
        parsed(place.read(POOL_RECORD, MOST_RECORD_BYTES), PoolRecord, where)
    except StoreError as error:
        raise RequestError(f"{error}; this version of ens reads format 1") from error


def _order(found: Listed | Unusable) -> tuple[str, str, str]:
    if isinstance(found, Unusable):
        return (found.member, "", found.reason)
    return (found.shared.name, found.shared.author, found.sha256)
