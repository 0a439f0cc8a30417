"""`ens merge`: members of a colleague's run, taken into one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ensembler.errors import EnsemblerError, RequestError, StoreError
from ensembler.files import fingerprint
from ensembler.predictions.members import MEMBER_RECORD, Member
from ensembler.predictions.store import RunStore
from ensembler.sharing.arrays import files_of
from ensembler.sharing.copying import copied
from ensembler.sharing.layout import is_sha256
from ensembler.sharing.offers import Offer, why_kept_back
from ensembler.sharing.pool import Unusable
from ensembler.sharing.records import Blob
from ensembler.sharing.take import Taken, selected, take_members


def merge_run(
    store: RunStore,
    other: RunStore,
    *,
    members: Sequence[str] | None = None,
    author: str | None = None,
    holdout_only: bool = False,
) -> Taken:
    """Take the complete members of another run (or those named) into a run.

    `author` is whose run it is (default: the run's name), for names that clash. Raises
    RequestError when there is none: see `take_members`.
    """
    if store.folder.resolve() == other.folder.resolve():
        raise RequestError(f"run {store.name!r} cannot be merged with itself")
    offers = selected(
        list(_offers(store, other, author or other.name)), members, other.name
    )
    if not offers:
        raise RequestError(f"run {other.name!r} has no complete member to take")
    return take_members(store, str(other.folder), offers, holdout_only=holdout_only)


def _offers(store: RunStore, other: RunStore, author: str) -> Iterator[Offer | Unusable]:
    is_same = store.samples_sha256 == other.samples_sha256
    for name in other.complete_members:
        try:
            member = other.member(name)
            reason = why_kept_back(other, member)
            yield (
                _offer(other, member, author, is_same=is_same)
                if reason is None
                else Unusable(name, reason)
            )
        except EnsemblerError as error:
            yield Unusable(name, str(error))


def _offer(other: RunStore, member: Member, author: str, *, is_same: bool) -> Offer:
    record = member.record
    files = {}
    for file in files_of(record, other.samples):
        path = member.folder / file
        if not is_sha256(record.sha256.get(file)) or not path.is_file():
            raise StoreError(f"{path} is missing, or {MEMBER_RECORD} does not name it")
        files[file] = Blob(sha256=record.sha256[file], size=path.stat().st_size)

    def fetch(file: str, blob: Blob, into: IO[bytes]) -> None:
        _copy(member.folder / file, blob, into)

    return Offer(
        name=member.name,
        author=record.author or author,
        record=record,
        samples=None if is_same else other.samples,
        data=other.lock.data,
        files=files,
        origin=record.pulled_from or fingerprint(record.to_json()),
        fetch=fetch,
    )


def _copy(path: Path, blob: Blob, into: IO[bytes]) -> None:
    with path.open("rb") as opened:
        found = copied(opened, into, blob.size)
    if found != blob.sha256:
        raise StoreError(f"{path} is not the file that {MEMBER_RECORD} describes")
