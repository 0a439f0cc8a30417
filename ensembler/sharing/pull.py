"""`ens pull`: members of a pool, taken into a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ensembler.errors import EnsemblerError, RequestError
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.store import RunStore
from ensembler.sharing.offers import Offer
from ensembler.sharing.pool import Listed, Pool, Unusable
from ensembler.sharing.take import Taken, selected, take_members


def pull_members(
    store: RunStore,
    source: str,
    *,
    members: Sequence[str] | None = None,
    holdout_only: bool = False,
) -> Taken:
    """Take the members of a pool (or those named, as `name` or `name@author`) into a run.

    Raises RequestError when there is none: see `take_members`.
    """
    pool = Pool.open(source)
    offers = selected(list(_offers(store, pool)), members, source)
    if not offers:
        raise RequestError(
            f"{source} has no member yet; `ens share RUN {source}` adds some"
        )
    return take_members(store, pool.place.name, offers, holdout_only=holdout_only)


def _offers(store: RunStore, pool: Pool) -> Iterator[Offer | Unusable]:
    """The members of the run's own split, then those of others."""
    mine = store.samples_sha256
    for split in sorted(pool.splits, key=lambda split: (split != mine, split)):
        found = pool.members(split)
        rows: SampleTable | None = None
        reason = None
        if split != mine:
            try:
                rows = pool.samples(split)
            except EnsemblerError as error:
                reason = str(error)
        for listed in found:
            if isinstance(listed, Unusable):
                yield listed
            elif reason is not None:
                yield Unusable(listed.shared.name, reason)
            else:
                yield _offer(pool, listed, rows)


def _offer(pool: Pool, listed: Listed, rows: SampleTable | None) -> Offer:
    shared = listed.shared
    return Offer(
        name=shared.name,
        author=shared.author,
        record=shared.member,
        samples=rows,
        data=shared.data,
        files=shared.files,
        origin=listed.sha256,
        fetch=pool.fetch,
    )
