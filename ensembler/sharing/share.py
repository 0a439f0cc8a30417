"""`ens share`: members of a run, published in a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ensembler.arguments import check_is, what_is
from ensembler.errors import StoreError, UnknownNameError
from ensembler.predictions.members import MEMBER_RECORD, MemberRecord, array_file
from ensembler.predictions.settled import open_settled
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.sharing.authors import author_named
from ensembler.sharing.copying import copied
from ensembler.sharing.layout import (
    blob_path,
    digest,
    members_folder,
    record_file,
    samples_path,
)
from ensembler.sharing.offers import PULLED, why_kept_back
from ensembler.sharing.pool import Pool, Unusable, reasons
from ensembler.sharing.recipes import shareable_recipe, without_paths_in
from ensembler.sharing.records import (
    MOST_RECORD_BYTES,
    Blob,
    SharedMember,
    content_of,
)


@dataclass(frozen=True)
class Shared:
    """What `ens share` did: `members` are in the pool now, of which `already` were before."""

    run: str
    pool: str
    split: str
    author: str
    members: tuple[str, ...]
    already: tuple[str, ...]
    skipped: tuple[Unusable, ...]
    bytes: int

    @property
    def refusal(self) -> str | None:
        """What to say when nothing could be shared."""
        if self.members or not self.skipped:
            return None
        return f"nothing of run {self.run!r} can be shared: {reasons(self.skipped)}"

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens share --json` prints."""
        return {**self.__dict__, "skipped": [skipped.__dict__ for skipped in self.skipped]}


def share_run(
    store: RunStore,
    target: str,
    *,
    members: Sequence[str] | None = None,
    weights: bool = False,
    author: str | None = None,
    note: str | None = None,
    progress: Progress = QUIET,
) -> Shared:
    """Publish complete members (those that a blend would take, or those named) in a pool.

    `weights` publishes their networks, too. What is there already is not written again, so that
    an interrupted call is given again. Raises UnknownNameError for a member that is not there.
    """
    if what_is(target) in ("recipe", "bundle"):
        check_is(target, "pool")
    names = _named(store, members)
    asked = _Asked(author_named(author), note, weights)
    skipped = [
        Unusable(name, reason)
        for name in names
        if (reason := _why_not(store, name)) is not None
    ]
    left_out = {found.member for found in skipped}
    fit = [name for name in names if name not in left_out]
    if not fit:
        return Shared(
            store.name,
            target,
            store.samples_sha256,
            asked.author,
            (),
            (),
            tuple(skipped),
            0,
        )
    pool = Pool.open_or_make(target)
    pool.place.clean_up()
    publisher = _Publisher(store, pool, asked)
    publisher.put_samples()
    for name in fit:
        progress.note(f"sharing {name}")
        publisher.publish(name)
    return Shared(
        run=store.name,
        pool=pool.place.name,
        split=store.samples_sha256,
        author=asked.author,
        members=tuple(fit),
        already=tuple(publisher.already),
        skipped=tuple(skipped),
        bytes=publisher.bytes,
    )


def _named(store: RunStore, members: Sequence[str] | None) -> list[str]:
    if members is None:
        names = store.pool_members
        if not names:
            raise StoreError(
                f"run {store.name!r} has no complete member to share; `ens ls {store.name}` shows "
                "what is there"
            )
        return names
    for name in members:
        if name not in store.complete_members:
            raise UnknownNameError("member", name, store.complete_members)
    return list(dict.fromkeys(members))


def _why_not(store: RunStore, name: str) -> str | None:
    """Why a member of the run is none to share; None when it is one."""
    member = store.member(name)
    if member.record.origin == PULLED:
        return f"it came from {member.record.author or 'somebody else'}, who shares it"
    return why_kept_back(store, member)


@dataclass(frozen=True)
class _Asked:
    author: str
    note: str | None
    weights: bool


class _Publisher:
    """Writes members into a pool: their files, then their records."""

    def __init__(self, store: RunStore, pool: Pool, asked: _Asked) -> None:
        self.store = store
        self.pool = pool
        self.asked = asked
        self.already: list[str] = []
        self.bytes = 0
        self.recipe = shareable_recipe(store)

    def put_samples(self) -> None:
        """Publish the rows that the members are aligned with."""
        content = self.store.samples_path.read_bytes()
        if digest(content) != self.store.samples_sha256:
            raise StoreError(f"{self.store.samples_path} was altered while it was shared")
        self._put(samples_path(self.store.samples_sha256), BytesIO(content), len(content))

    def publish(self, name: str) -> None:
        """Publish one member, record last."""
        folder = self.store.member_folder(name)
        settled = open_settled(folder, MEMBER_RECORD, MemberRecord, self._files_of)
        files: dict[str, Blob] = {}
        for file in self._files_of(settled.record):
            held = settled.files.get(file)
            if held is None:
                raise StoreError(
                    f"{folder / file} is missing though {MEMBER_RECORD} names it"
                )
            with held.reader() as opened:
                blob = _blob(folder / file, opened, settled.record.sha256[file])
                opened.seek(0)
                self._put(blob_path(blob.sha256), opened, blob.size)
            files[file] = blob
        recipe = self._put_recipe()
        sums = {file: blob.sha256 for file, blob in files.items()}
        shared = SharedMember(
            format=1,
            name=name,
            author=self.asked.author,
            split=self.store.samples_sha256,
            member=without_paths_in(settled.record).model_copy(update={"sha256": sums}),
            files=files,
        )
        said = {"note": self.asked.note, "data": self.store.lock.data, "recipe": recipe}
        known = {key: value for key, value in said.items() if value is not None}
        self._put_record(shared.model_copy(update=known))

    def _files_of(self, record: MemberRecord) -> list[str]:
        tasks: list[str | None] = [*record.tasks] or [None]
        files = [array_file(part, task) for task in tasks for part in ("oof", "test")]
        if self.asked.weights:
            files += sorted(f for f in record.sha256 if f.endswith(".safetensors"))
        return files

    def _put_recipe(self) -> Blob | None:
        if self.recipe is None:
            return None
        blob = Blob(sha256=digest(self.recipe), size=len(self.recipe))
        self._put(blob_path(blob.sha256), BytesIO(self.recipe), blob.size)
        return blob

    def _put_record(self, shared: SharedMember) -> None:
        content = content_of(shared)
        if len(content) > MOST_RECORD_BYTES:
            raise StoreError(
                f"member {shared.name!r}: its record has {len(content)} bytes, and a pool takes "
                f"{MOST_RECORD_BYTES}"
            )
        path = f"{members_folder(shared.split)}/{record_file(shared.name, content)}"
        if path in self.pool.listing or not self.pool.place.create(path, content):
            self.already.append(shared.name)
            return
        self.bytes += len(content)

    def _put(self, path: str, opened: Any, size: int) -> None:
        """Write a file unless it is there with its size."""
        if self.pool.listing.get(path) == size:
            return
        self.pool.place.put(path, opened, size)
        self.pool.listing[path] = size
        self.bytes += size


def _blob(path: Path, opened: Any, sha256: str) -> Blob:
    """An open file of the run as what a pool calls it; StoreError when it was altered."""
    opened.seek(0, 2)
    size = opened.tell()
    opened.seek(0)
    if copied(opened, None, size) != sha256:
        raise StoreError(f"{path} is not the file that {MEMBER_RECORD} describes")
    return Blob(sha256=sha256, size=size)
