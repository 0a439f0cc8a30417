"""What `ens ls POOL` shows, as a table."""

from __future__ import annotations

from ensembler.predictions.members import number_in
from ensembler.reporting.tables import Table
from ensembler.sharing.ls import PoolListing, PoolMember, order_by_gain

_DIGITS = 8  # of a split


def pool_table(listing: PoolListing) -> Table:
    """The members of a pool in a line each."""
    rows = [
        (
            member.name,
            member.author,
            member.split[:_DIGITS],
            member.folds,
            number_in(member.scores, "oof", "accuracy"),
            number_in(member.scores, "oof", "log_loss"),
            _gain(member),
            "yes" if member.weights else "",
            member.note,
        )
        for member in order_by_gain(listing.members)
    ]
    columns = (
        "member",
        "author",
        "split",
        "folds",
        "accuracy",
        "log loss",
        "adds",
        "weights",
        "note",
    )
    notes = _about_gains(listing)
    notes += [f"{left.member} cannot be used: {left.reason}" for left in listing.skipped]
    return Table(f"pool {listing.pool}", columns, tuple(rows), notes=tuple(notes))


def _gain(member: PoolMember) -> str | None:
    if member.adds is None:
        return None
    gain = member.adds
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


def _about_gains(listing: PoolListing) -> list[str]:
    gains = [member.adds for member in listing.members if member.adds is not None]
    if not gains:
        return []
    first = gains[0]
    return [
        f"adds: by how much {first.over!r} of run {listing.run!r} gets better in {first.metric} "
        f"with the member beside it, cross-fitted on {first.n} rows; 95 % intervals for all of "
        "them together."
    ]
