"""Members and blends against one of them, row by row: by how much each is better, and what of it is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensembler.blending.judging.comparison import Difference, compare_with_first
from ensembler.blending.judging.guards import Finding
from ensembler.blending.judging.remarks import few_groups, ordered_classes
from ensembler.errors import RequestError, UnknownNameError
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore
from ensembler.targets.label_sets import is_known


@dataclass(frozen=True)
class PairedGains:
    """Gains over the prediction named `over`, out of fold on the `n` rows that all of them predict."""

    over: str
    target: str
    n: int
    n_groups: int | None
    rows: tuple[tuple[str, Difference], ...]
    warnings: tuple[Finding, ...] = ()

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
    opened = {name: store.member(name) for name in store.complete_members}
    blends = {f"blend {name}": store.blend(name) for name in store.blends}
    first = over if over in opened or f"blend {over}" not in blends else f"blend {over}"
    if first in opened:
        targets = opened[first].targets
    elif first in blends:
        targets = (blends[first].record.target,)
    else:
        raise UnknownNameError("member or blend", over, [*opened, *store.blends])
    target = target or store.samples.first_target(targets) or targets[0]
    if target not in targets:
        raise RequestError(
            f"{over!r} does not predict {target!r}, it predicts {', '.join(targets)}"
        )
    classes = store.classes(target)
    wanted = [
        n for n, m in opened.items() if target in m.targets and (members is None or n in members)
    ]
    names = [first, *(n for n in wanted if n != first)]
    if members is None:
        names += [n for n, blend in blends.items() if blend.record.target == target and n != first]
    if len(names) == 1:
        raise RequestError(
            f"nothing else predicts {target!r}; there is nothing to compare {over!r} with"
        )
    probs = [
        np.asarray(blends[name].oof)
        if name in blends
        else opened[name].for_target(target).oof(classes, merge, views)
        for name in names
    ]
    labels = store.labels(target, "train", classes)
    rows = np.flatnonzero(
        is_known(labels) & np.all([np.isfinite(p).all(axis=1) for p in probs], axis=0)
    )
    if not len(rows):
        raise RequestError(f"no labelled row is predicted by all of {', '.join(names)}")
    groups = store.samples.groups()
    groups = None if groups is None else groups[rows]
    stacks = [p[None, rows] for p in probs]
    found = [
        zip(names[1:], compare_with_first(m, stacks, labels[rows], groups), strict=True)
        for m in metrics
    ]
    by_name = {name: i for i, name in enumerate(names)}
    ordered = sorted(
        (pair for of_metric in found for pair in of_metric), key=lambda pair: by_name[pair[0]]
    )
    n_groups = None if groups is None else len(np.unique(groups))
    remarks = [few_groups(n_groups), *(ordered_classes(metric, classes) for metric in metrics)]
    return PairedGains(
        over=first,
        target=target,
        n=len(rows),
        n_groups=n_groups,
        rows=tuple(ordered),
        warnings=tuple(remark for remark in remarks if remark is not None),
    )
