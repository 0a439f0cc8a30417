"""A member that somebody else offers, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

from ensembler.predictions.members import Member, MemberRecord
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.store import RunStore
from ensembler.sharing.records import Blob

PULLED = "pulled"  # the origin of a member that somebody else made
Fetch = Callable[
    [str, Blob, IO[bytes]], None
]  # copies a file, and raises if it is another one


@dataclass(frozen=True)
class Offer:
    """A member, its rows, and how its files are fetched.

    `samples` is None where the rows are those of the run, byte for byte; `data` is the fingerprint
    of the data that it was trained on, where that is known; `origin` tells it from every other.
    """

    name: str
    author: str
    record: MemberRecord
    samples: SampleTable | None
    data: str | None
    files: Mapping[str, Blob]
    origin: str
    fetch: Fetch


def why_kept_back(store: RunStore, member: Member) -> str | None:
    """Why a member of a run is none for others to take; None when it is one."""
    if member.record.holdout_only:
        return "it has predictions of test rows alone"
    was_taught = "teacher" in member.record.options
    if member.name in store.flattered_students or (was_taught and member.record.flattered):
        return (
            "it is a student, which has learned from the labels of all folds: its out-of-fold "
            "predictions would flatter every blend"
        )
    return None
