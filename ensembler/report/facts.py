"""What the page of a run is made from: its members, blends and rows, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import EnsemblerError
from ensembler.evaluation.digest import Digest, blend_digest, member_digest
from ensembler.evaluation.ls import MemberListing, list_run
from ensembler.predictions.blends import Blend, BlendRecord
from ensembler.predictions.members import Member
from ensembler.predictions.store import RunStore, cache_folder
from ensembler.reporting.submitted import submitted_blend
from ensembler.targets.kinds import Labels

T = TypeVar("T")
CACHE = "digests"  # the folder of digests beside the pixel cache


@dataclass
class Faults:
    """What could not be read, to be said on the page; the rest of the page is made without it."""

    messages: list[str] = field(default_factory=list)

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Note an error of the store about a part of the page, and go on."""
        try:
            yield
        except EnsemblerError as error:
            self.messages.append(f"{what}: {error}")


@dataclass(frozen=True)
class TargetFacts:
    """What is known of one target: labels of the train rows, and digests of what predicts it.

    `shown` is the prediction that is looked at in detail: the submitted blend, else a blend, else
    the member with the best log loss.
    """

    name: str
    classes: tuple[str, ...]
    y: Labels
    is_multi_label: bool
    digests: tuple[Digest, ...]
    shown: Digest
    record: BlendRecord | None

    @property
    def members(self) -> tuple[Digest, ...]:
        """The digests of members."""
        return tuple(digest for digest in self.digests if digest.kind == "member")

    def member(self, name: str) -> Digest | None:
        """The digest of a member."""
        return next((digest for digest in self.members if digest.name == name), None)


@dataclass(frozen=True)
class RunFacts:
    """A run as its page sees it."""

    store: RunStore
    targets: tuple[TargetFacts, ...]
    members: tuple[MemberListing, ...]
    submitted: str | None
    faults: Faults
    cache: Path | None = None  # where what was computed is kept

    @property
    def label(self) -> TargetFacts | None:
        """What is known of the label; None while nothing predicts it."""
        label = self.store.samples.targets[0] if self.store.samples.targets else None
        found = [facts for facts in self.targets if facts.name == label]
        return found[0] if found else None

    @cached_property
    def groups(self) -> NDArray[np.int64] | None:
        """The group of each train row; None without groups."""
        return self.store.samples.groups()

    @property
    def has_groups(self) -> bool:
        """Whether intervals are those of whole groups."""
        return self.groups is not None


def digest_cache(store: RunStore, artifacts: Path) -> Path | None:
    """Where the digests of a run among `artifacts` are kept; None for a run that lies elsewhere."""
    is_among = store.folder.resolve().parent == artifacts.resolve()
    return cache_folder(artifacts) / CACHE if is_among else None


def read_run(store: RunStore, cache: Path | None, say: Callable[[str], None]) -> RunFacts:
    """Read a run; what is altered or cannot be read is noted, not raised."""
    faults = Faults()
    submitted = None
    with faults.noted("submission"):
        submitted = submitted_blend(store)
    members = _opened(store.complete_members, store.member, faults)
    blends = _opened(store.blends, store.blend, faults)
    targets = []
    for name in store.samples.targets:
        of_target = [m.for_target(name) for m in members if name in m.targets]
        of_blends = [blend for blend in blends if blend.record.target == name]
        if not of_target and not of_blends:
            continue
        with faults.noted(f"target {name}"):
            y = store.labels(name, "train")
            digests = _digests(store, of_target, of_blends, y, _Reading(cache, faults, say))
            if digests:
                targets.append(_target_facts(store, name, y, digests, of_blends, submitted))
    listing: tuple[MemberListing, ...] = ()
    with faults.noted("members"):
        listing = list_run(store).members
    return RunFacts(store, tuple(targets), listing, submitted, faults, cache)


@dataclass(frozen=True)
class _Reading:
    """How digests are read: from a cache, with what fails noted, and a word on each."""

    cache: Path | None
    faults: Faults
    say: Callable[[str], None]


def _digests(
    store: RunStore,
    members: list[Member],
    blends: list[Blend],
    y: Labels,
    reading: _Reading,
) -> list[Digest]:
    digests: list[Digest] = []
    for member in members:
        reading.say(f"reading {member.name}")
        with reading.faults.noted(f"member {member.name}"):
            digests += _there(member_digest(store, member, reading.cache, y))
    for blend in blends:
        with reading.faults.noted(f"blend {blend.record.name}"):
            digests += _there(blend_digest(store, blend, reading.cache))
    return digests


def _there(digest: Digest | None) -> list[Digest]:
    return [] if digest is None else [digest]


def _opened(names: list[str], open_one: Callable[[str], T], faults: Faults) -> list[T]:
    found = []
    for name in names:
        with faults.noted(name):
            found.append(open_one(name))
    return found


def _target_facts(
    store: RunStore,
    name: str,
    y: Labels,
    digests: list[Digest],
    blends: list[Blend],
    submitted: str | None,
) -> TargetFacts:
    shown = _shown(digests, submitted)
    records = {blend.record.name: blend.record for blend in blends}
    record = records.get(shown.name) if shown.kind == "blend" else None
    return TargetFacts(
        name,
        store.classes(name),
        y,
        store.kind(name).is_multi_label,
        tuple(digests),
        shown,
        record,
    )


def _shown(digests: list[Digest], submitted: str | None) -> Digest:
    blends = [digest for digest in digests if digest.kind == "blend"]
    chosen = [digest for digest in blends if digest.name == submitted]
    if chosen or blends:
        return (chosen or blends)[0]
    return min(digests, key=lambda digest: digest.scores["log_loss"])


def position_of(digest: Digest, n_train: int) -> NDArray[np.int64]:
    """Where each train row is among the rows of a digest `[train rows]`; -1 = not predicted."""
    position = np.full(n_train, -1, np.int64)
    position[digest.rows] = np.arange(len(digest.rows))
    return position
