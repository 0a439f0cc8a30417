"""What `ens ls POOL` shows, as a table."""

from __future__ import annotations

from ensembler.predictions.members import number_in
from ensembler.reporting.tables import Table
from ensembler.sharing.ls import PoolListing

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
            "yes" if member.weights else "",
            member.note,
        )
        for member in listing.members
    ]
    columns = (
        "member",
        "author",
        "split",
        "folds",
        "accuracy",
        "log loss",
        "weights",
        "note",
    )
    notes = [f"{left.member} cannot be used: {left.reason}" for left in listing.skipped]
    return Table(f"pool {listing.pool}", columns, tuple(rows), notes=tuple(notes))
