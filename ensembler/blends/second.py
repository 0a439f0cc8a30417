"""`ens submit --second`: the most different submission that is not clearly worse.

Of two submissions the better one counts, so the second should err elsewhere. Candidates are the
other blends of the run, each of its members alone, and the soft votes of all members and of those
that the first one hardly uses. Their honest probabilities are compared with the first one's on the
same rows; whose difference is worse beyond its 95 % interval is no candidate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import Gain
from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import check_code_is_named, members_below
from ensembler.blends.blend import blend_run
from ensembler.blends.gain import gain_on_shared_rows
from ensembler.blends.origin import metric_of
from ensembler.blends.pool import StorePool, read_pool
from ensembler.blends.submit import default_blend, submission_spec
from ensembler.errors import MissingFileError, RequestError
from ensembler.predictions.blends import Blend
from ensembler.predictions.store import RunStore

SECOND = "second"
SECOND_FILE = "submission-second.csv"


@dataclass(frozen=True)
class SecondChoice:
    """What is submitted beside `over`: by how much it is better, and how different.

    `different` is the share of submitted rows with another answer, or where probabilities are
    submitted the share of probability that is elsewhere, on average.
    """

    blend: str
    over: str
    gain: Gain
    different: float
    candidates: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "over": self.over,
            "metric": self.gain.metric,
            "value": self.gain.value,
            "low": self.gain.low,
            "high": self.gain.high,
            "different": self.different,
            "candidates": self.candidates,
        }

    @property
    def words(self) -> str:
        """Why this one, in a sentence."""
        gain = self.gain
        return (
            f"blend {self.blend!r} is {self.different:.1%} different from {self.over!r}, the most "
            f"of {self.candidates} candidates; in {gain.metric} it is better by {gain.value:+.4f} "
            f"({gain.low:+.4f} to {gain.high:+.4f})"
        )


@dataclass(frozen=True)
class _Candidate:
    """Honest probabilities of train rows (NaN = none) and of test rows, `[rows, classes]`.

    `made_by` is the method and the members of one that is no blend of the store yet.
    """

    name: str
    oof: NDArray[np.floating]
    test: NDArray[np.floating]
    made_by: tuple[str, tuple[str, ...]] | None = None


def second_choice(store: RunStore, first: str | None = None) -> SecondChoice:
    """Find, and keep as a blend, what to submit beside the blend `first` (the submitted one).

    RequestError when nothing else is as good beyond doubt.
    """
    over = first or default_blend(store)
    blend = store.blend(over)
    check_code_is_named(store, blend.record)
    metric, oof = metric_of(blend), np.asarray(blend.oof)
    candidates = list(_candidates(store, blend))
    judged = []
    for candidate in candidates:
        gain = gain_on_shared_rows(store, blend.record, metric, candidate.oof, over, oof)
        different = _difference(store, blend, candidate)
        if gain is not None and gain.verdict != "worse" and different > 0:
            judged.append((different, gain.value, candidate, gain))
    if not judged:
        raise RequestError(
            f"none of {len(candidates)} other blends and members of run {store.name!r} differs "
            f"from {over!r} without being clearly worse; another member or `ens blend` gives more"
        )
    different, _, chosen, gain = max(judged, key=lambda found: found[:2])
    name = _kept(store, blend, chosen)
    return SecondChoice(name, over, gain, different, len(candidates))


def _candidates(store: RunStore, first: Blend) -> Iterator[_Candidate]:
    target, classes = first.record.target, first.record.classes
    flattered = store.flattered_students
    for name in store.blends:
        other = store.blend(name)
        if name in (first.record.name, SECOND) or other.record.target != target:
            continue
        if set(members_below(store, name)) & flattered:
            continue  # their scores are flattered
        columns = [other.record.classes.index(label) for label in classes]
        oof, test = np.asarray(other.oof)[:, columns], np.asarray(other.test)[:, columns]
        yield _Candidate(name, oof, test)
    try:
        found = read_pool(store, target=target, common_rows=True)
    except MissingFileError:  # of a composed label no member may predict all
        return
    yield from _of_members(store, found, first)


def _of_members(store: RunStore, found: StorePool, first: Blend) -> Iterator[_Candidate]:
    """Every member with probabilities alone, and soft votes of some of them."""
    pool = found.pool
    columns = [pool.classes.index(label) for label in first.record.classes]
    if pool.test is None:
        return
    tests = [np.asarray(test).mean(axis=0)[:, columns] for test in pool.test]

    def vote(members: Sequence[int], method: str) -> _Candidate:
        oof = np.full((len(store.samples.train), len(columns)), np.nan)
        oof[found.rows] = np.mean([pool.oof[m][:, columns] for m in members], axis=0)
        test = np.mean([tests[m] for m in members], axis=0)
        names = tuple(pool.names[m] for m in members)
        return _Candidate(f"{method} of {', '.join(names)}", oof, test, (method, names))

    everyone = [m for m, name in enumerate(pool.names) if name not in pool.votes_only]
    for member in everyone:
        yield vote([member], "single")
    hardly_used = _hardly_used(first, pool.names)
    sets = {tuple(everyone), tuple(m for m in everyone if m in hardly_used)}
    for members in sorted(sets):
        if len(members) > 1:
            yield vote(members, "soft")


def _hardly_used(first: Blend, names: Sequence[str]) -> list[int]:
    """The members that have less than an equal share of the first one's weight."""
    weights = first.record.weights or {}
    total = sum(abs(weight) for weight in weights.values())
    fair = total / len(names)
    return [i for i, name in enumerate(names) if abs(weights.get(name, 0.0)) < fair]


def _difference(store: RunStore, first: Blend, candidate: _Candidate) -> float:
    """How different what would be submitted is, from 0 to 1."""
    rows = store.samples.to_submit
    ours, theirs = candidate.test[rows], np.asarray(first.test)[rows]
    if not len(ours):
        raise RequestError(
            f"run {store.name!r} has no test rows to submit; add data.test or folds.holdout"
        )
    kind = store.kind(first.record.target)
    if submission_spec(store).format == "probs":
        return float(kind.moved(theirs, ours).mean())
    return float(kind.decides_otherwise(theirs, ours).mean())


def _kept(store: RunStore, first: Blend, chosen: _Candidate) -> str:
    """The name of the chosen one as a blend of the store."""
    if chosen.made_by is None:
        return chosen.name
    method, members = chosen.made_by
    spec = BlendSpec(method=method, members=members, name=SECOND, metric=metric_of(first))
    blend_run(store, spec, target=first.record.target, common_rows=True)
    return SECOND
