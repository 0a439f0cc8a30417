"""`ens ls POOL`: everybody's members, and what each would add to one's own blend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class PoolListing:
    """What is in a pool; `skipped` are records that cannot be used."""

    pool: str
    members: tuple[PoolMember, ...]
    skipped: tuple[Unusable, ...]

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens ls POOL --json` prints."""
        return {
            "pool": self.pool,
            "members": [member.__dict__ for member in self.members],
            "skipped": [skipped.__dict__ for skipped in self.skipped],
        }


def list_pool(source: str) -> PoolListing:
    """What a pool holds, split by split."""
    pool = Pool.open(source)
    members: list[PoolMember] = []
    skipped: list[Unusable] = []
    for split in pool.splits:
        for found in pool.members(split):
            if isinstance(found, Unusable):
                skipped.append(found)
            else:
                members.append(PoolMember.of(found))
    return PoolListing(pool.place.name, tuple(members), tuple(skipped))
