"""Members and blends compared with one of them, row by row, and what of it is noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import Difference, compare_with_first
from ensembler.blending.judging.guards import PoolFinding
from ensembler.blending.judging.remarks import few_groups, ordered_classes
from ensembler.errors import RequestError, UnknownNameError
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore
from ensembler.targets.label_sets import is_known


@dataclass(frozen=True)
class PairedGains:
    """Gains over the prediction `over`, out of fold on the `n` rows that all of them predict."""

    over: str
    target: str
    n: int
    n_groups: int | None
    rows: tuple[tuple[str, Difference], ...]
    warnings: tuple[PoolFinding, ...] = ()

    @property
    def n_comparisons(self) -> int:
        """How many predictions are compared with `over`."""
        return len({name for name, _ in self.rows})

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = [{"name": name, **difference.to_json()} for name, difference in self.rows]
        return {
            **self.__dict__,
            "rows": rows,
            "warnings": [warning.to_json() for warning in self.warnings],
        }


def gains_over(
    store: RunStore,
    over: str,
    *,
    members: Sequence[str] | None = None,
    target: str | None = None,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    metrics: Sequence[str] = ("accuracy", "log_loss"),
) -> PairedGains:
    """Compare the members and blends of one target with the member or blend `over`, row by row.

    Blends count with their cross-fitted predictions. Whole groups are independent when the run has
    any; the joint intervals of a metric hold for all comparisons together. Raises UnknownNameError
    for a name that is not there.
    """
    there = _Predictions.of(store)
    first = there.named(over)
    target = _target_of(store, there, first, over, target)
    names = [first, *there.beside(first, target, members)]
    if len(names) == 1:
        raise RequestError(
            f"nothing else predicts {target!r}; there is nothing to compare {over!r} with"
        )
    classes = store.classes(target)
    probs = [there.oof(name, target, classes, merge, views) for name in names]
    labels = store.labels(target, "train", classes)
    rows = _common_rows(names, probs, labels)
    groups = store.samples.groups()
    groups = None if groups is None else groups[rows]
    n_groups = None if groups is None else len(np.unique(groups))
    stacks = [of_one[None, rows] for of_one in probs]
    remarks = [
        few_groups(n_groups),
        *(ordered_classes(metric, classes) for metric in metrics),
    ]
    return PairedGains(
        over=first,
        target=target,
        n=len(rows),
        n_groups=n_groups,
        rows=_differences(names[1:], stacks, labels[rows], groups, metrics),
        warnings=tuple(remark for remark in remarks if remark is not None),
    )


@dataclass(frozen=True)
class _Predictions:
    """The complete members of a run, and its blends as `blend NAME`."""

    members: Mapping[str, Member]
    blends: Mapping[str, Blend]

    @classmethod
    def of(cls, store: RunStore) -> _Predictions:
        members = {name: store.member(name) for name in store.complete_members}
        blends = {f"blend {name}": store.blend(name) for name in store.blends}
        return cls(members, blends)

    def named(self, given: str) -> str:
        """A member, or else a blend, by the name that a user gives."""
        names = [*self.members, *self.blends]
        for name in (given, f"blend {given}"):
            if name in names:
                return name
        known = [name.removeprefix("blend ") for name in names]
        raise UnknownNameError("member or blend", given, known)

    def targets_of(self, name: str) -> tuple[str, ...]:
        """What it predicts."""
        if name in self.members:
            return self.members[name].targets
        return (self.blends[name].record.target,)

    def beside(self, first: str, target: str, members: Sequence[str] | None) -> list[str]:
        """What else predicts the target: of the members, where some are named, those alone."""
        names = [*self.members, *self.blends]
        if members is not None:
            names = [name for name in self.members if name in members]
        return [name for name in names if name != first and target in self.targets_of(name)]

    def oof(
        self,
        name: str,
        target: str,
        classes: Sequence[str],
        merge: Merge,
        views: Sequence[str] | None,
    ) -> NDArray[np.floating]:
        """Probabilities `[rows, classes]` out of fold; of a blend the cross-fitted ones."""
        if name in self.blends:
            return np.asarray(self.blends[name].oof)
        return self.members[name].for_target(target).oof(classes, merge, views)


def _target_of(
    store: RunStore, there: _Predictions, first: str, over: str, target: str | None
) -> str:
    """The target to compare in: the one asked for, or the first that is predicted."""
    predicted = there.targets_of(first)
    found = target or store.samples.first_target(predicted) or predicted[0]
    if found not in predicted:
        raise RequestError(
            f"{over!r} does not predict {found!r}, it predicts {', '.join(predicted)}"
        )
    return found


def _common_rows(
    names: Sequence[str], probs: Sequence[NDArray[np.floating]], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The labelled rows that all of them predict."""
    are_common = is_known(labels)
    for of_one in probs:
        are_common = are_common & np.isfinite(of_one).all(axis=1)
    if not are_common.any():
        raise RequestError(f"no labelled row is predicted by all of {', '.join(names)}")
    return np.flatnonzero(are_common)


def _differences(
    names: Sequence[str],
    stacks: Sequence[NDArray[np.floating]],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    metrics: Sequence[str],
) -> tuple[tuple[str, Difference], ...]:
    """The differences of each prediction from the first stack, metric after metric."""
    by_metric = [compare_with_first(metric, stacks, labels, groups) for metric in metrics]
    rows = []
    for i, name in enumerate(names):
        rows += [(name, of_metric[i]) for of_metric in by_metric]
    return tuple(rows)
