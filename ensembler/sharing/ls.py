"""`ens ls POOL`: everybody's members, and what each would add to one's own blend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ensembler.predictions.store import RunStore, run_names
from ensembler.sharing.adds import Addition, what_each_adds
from ensembler.sharing.folder import Folder
from ensembler.sharing.pool import Listed, Pool, Unusable
from ensembler.sharing.records import SharedMember


@dataclass(frozen=True)
class PoolMember:
    """One member of a pool."""

    name: str
    author: str
    split: str
    target: str
    folds: int
    views: tuple[str, ...]
    scores: Mapping[str, Any]
    weights: bool
    bytes: int
    record: str
    note: str | None = None
    adds: Addition | None = None

    @classmethod
    def of(cls, listed: Listed) -> PoolMember:
        """A member as its record says what it is."""
        shared: SharedMember = listed.shared
        member = shared.member
        return cls(
            name=shared.name,
            author=shared.author,
            split=shared.split,
            target=member.target,
            folds=member.folds,
            views=member.views,
            scores=member.scores,
            weights=shared.has_weights,
            bytes=shared.bytes,
            record=listed.sha256,
            note=shared.note,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        adds = None if self.adds is None else asdict(self.adds)
        return {**self.__dict__, "adds": adds}


@dataclass(frozen=True)
class PoolListing:
    """What is in a pool; `skipped` are records that cannot be used.

    `run` is the run whose blend they are measured against, if any.
    """

    pool: str
    run: str | None
    members: tuple[PoolMember, ...]
    skipped: tuple[Unusable, ...]

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens ls POOL --json` prints."""
        return {
            "pool": self.pool,
            "run": self.run,
            "members": [member.to_json() for member in self.members],
            "skipped": [skipped.__dict__ for skipped in self.skipped],
        }


def list_pool(source: str, store: RunStore | None = None) -> PoolListing:
    """What a pool holds, split by split, and what each member would add to the blend of a run."""
    pool = Pool.open(source)
    found = [member for split in pool.splits for member in pool.members(split)]
    listed = [member for member in found if isinstance(member, Listed)]
    adds = {} if store is None else what_each_adds(store, pool, listed)
    members = (
        replace(PoolMember.of(member), adds=adds.get(member.sha256)) for member in listed
    )
    skipped = (member for member in found if isinstance(member, Unusable))
    run = None if store is None else store.name
    return PoolListing(pool.place.name, run, tuple(members), tuple(skipped))


def run_beside(source: str, artifacts: Path) -> RunStore | None:
    """The one run among all that has a split of a pool in a folder; None for none or several.

    A bucket is not asked: what its members would add takes their predictions, which somebody pays
    for.
    """
    pool = Pool.open(source)
    if not isinstance(pool.place, Folder):
        return None
    stores = [RunStore(artifacts / name) for name in run_names(artifacts)]
    splits = set(pool.splits)
    fitting = [store for store in stores if store.samples_sha256 in splits]
    return fitting[0] if len(fitting) == 1 else None


def order_by_gain(members: Sequence[PoolMember]) -> list[PoolMember]:
    """Members with the largest gain first, those without one last in their order."""
    with_gain = [member for member in members if member.adds is not None]
    without = [member for member in members if member.adds is None]
    return sorted(with_gain, key=lambda m: -(m.adds.value if m.adds else 0)) + without
