"""What trials are worth to a blend, and which of them to complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.blends.partial import quick_spec
from ensembler.metrics import check_metric, score
from ensembler.predictions.store import RunStore
from ensembler.reporting.provisional import FoldProbs, finished_together
from ensembler.targets.label_sets import is_known

_ROUNDS = 100  # of the greedy search


@dataclass(frozen=True)
class Judge:
    """Scores what is finished of a run's members in one target, on the rows of some folds."""

    store: RunStore
    target: str

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of the target, in the run's order."""
        return self.store.classes(self.target)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The labels of the train rows."""
        return self.store.labels(self.target, "train")

    def folds_of(self, members: Sequence[str]) -> dict[int, FoldProbs]:
        """What the members of one trial predict together, by fold that all have finished."""
        finished = finished_together(self.store, members, self.target, self.classes)
        found = [folds for folds in finished.values() if folds]
        if not found:
            return {}
        shared = sorted(set.intersection(*map(set, found)))
        return {fold: _mean([folds[fold] for folds in found]) for fold in shared}

    def value(self, members: Sequence[str], metric: str, folds: Sequence[int]) -> float:
        """A metric of a trial's members on the validation rows of `folds`; NaN without any."""
        found = self.folds_of(members)
        parts = [found[fold] for fold in folds if fold in found]
        if len(parts) < len(folds):
            return float("nan")
        rows = np.concatenate([part.rows for part in parts])
        probs = np.concatenate([part.oof for part in parts])
        known = is_known(self.labels[rows])
        if not known.any() or not np.isfinite(probs[known]).all():
            return float("nan")
        return score(metric, probs[known], self.labels[rows[known]])

    def pool(self, members: Mapping[str, Sequence[str]], fold: int = 0) -> Pool | None:
        """Those of `members` that have finished a fold, on its rows; None without any."""
        found = {name: self.folds_of(of) for name, of in members.items()}
        there = {name: folds[fold] for name, folds in found.items() if fold in folds}
        if not there:
            return None
        rows = next(iter(there.values())).rows
        rows = rows[is_known(self.labels[rows])]
        groups = self.store.samples.groups()
        stack = [_on(part, rows) for part in there.values()]
        return Pool(
            names=tuple(there),
            oof=np.stack(stack).astype(np.float32),
            y=self.labels[rows],
            classes=self.classes,
            folds=np.zeros(len(rows), np.int64),
            groups=None if groups is None else groups[rows],
        )


def most_useful(pool: Pool, metric: str, count: int) -> list[str]:
    """Names of at most `count` members that add most to a blend, the best by itself first.

    They are chosen by greedy forward selection (Caruana et al., 2004); where it takes fewer, the
    best of the others by their own score follow.
    """
    sign = 1.0 if check_metric(metric).greater_is_better else -1.0
    own = {
        name: sign * score(metric, probs, pool.y)
        for name, probs in zip(pool.names, pool.oof, strict=True)
    }
    by_score = sorted(pool.names, key=lambda name: (-own[name], name))
    options = {"rounds": _ROUNDS, "max_members": min(count, len(pool.names))}
    spec = BlendSpec(method="greedy", metric=metric, options=options)
    weights = (make_blend(pool, spec).weights or {}) if len(pool.names) > 1 else {}
    taken = sorted(
        (name for name, weight in weights.items() if weight > 0),
        key=lambda name: (-weights[name], name),
    )
    return list(dict.fromkeys([by_score[0], *taken, *by_score]))[:count]


def gains_of(pool: Pool, asked: BlendSpec, names: Sequence[str]) -> dict[str, float]:
    """What each of `names` changes in the cross-fitted blend of all: below 0 it makes it better.

    The difference of the blend's metric with the member and without it, its sign turned where more
    is better. 0 of a member that is alone.
    """
    sign = -1.0 if check_metric(asked.metric).greater_is_better else 1.0
    whole = _cross_fitted(pool, asked)
    found = {}
    for name in names:
        others = [other for other in pool.names if other != name]
        rest = _cross_fitted(pool.choose(others), asked) if others else whole
        found[name] = sign * (whole - rest)
    return found


def _cross_fitted(pool: Pool, asked: BlendSpec) -> float:
    if len(pool.names) == 1:
        return score(asked.metric, pool.oof[0], pool.y)
    result = make_blend(pool, quick_spec(asked, pool.names))
    return float((result.scores["cross_fitted"] or {})[asked.metric])


def _mean(parts: Sequence[FoldProbs]) -> FoldProbs:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    oof = np.mean([_on(part, first.rows) for part in parts], axis=0)
    return FoldProbs(first.rows, oof, np.mean([part.test for part in parts], axis=0))


def _on(part: FoldProbs, rows: NDArray[np.int64]) -> NDArray[np.floating]:
    """A fold's out-of-fold probabilities on some of its rows, in their order."""
    if np.array_equal(part.rows, rows):
        return part.oof
    order = np.argsort(part.rows)
    return part.oof[order[np.searchsorted(part.rows[order], rows)]]
