"""The labels that one member is trained on, where it draws the borders of bins otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ensembler.data.labels import TRAIN_PREFIX, VALUE_PREFIX, labels_to_train_on
from ensembler.data.samples import SampleSet
from ensembler.data.spec import TargetSpec, TrainBins
from ensembler.errors import DataError

OwnBins = Mapping[str, TrainBins]  # by target


def bins_that_count(samples: SampleSet, target: str, own: OwnBins) -> dict[str, TrainBins]:
    """Those of a member's own training bins that change the labels of a target."""
    composed = samples.composition
    parts = composed.tasks if composed is not None and composed.name == target else ()
    return {name: own[name] for name in (target, *parts) if name in own}


def cells_to_train_on(
    samples: SampleSet, specs: Mapping[str, TargetSpec], target: str, own: OwnBins
) -> pd.Series:
    """The labels of a target `[images]` by a member's own training bins; None = not trained on.

    `specs` are the recipe's. A row whose parts make no class with those bins is not trained on.
    """
    if target in own:
        return _binned(samples, specs, target, own)
    composed = samples.composition
    if composed is None or composed.name != target or not set(own) & set(composed.tasks):
        return usual_cells(samples, target)
    columns = [
        _binned(samples, specs, task, own) if task in own else usual_cells(samples, task)
        for task in composed.tasks
    ]
    name_of = dict(zip(composed.parts, composed.classes, strict=True))
    labels = [name_of.get(tuple(parts)) for parts in zip(*columns, strict=True)]
    return pd.Series(labels, dtype=object)


def usual_cells(samples: SampleSet, target: str) -> pd.Series:
    """The labels of a target that every member is trained on, unless it says otherwise."""
    column = f"{TRAIN_PREFIX}{target}"
    return samples.table[column if column in samples.table else target]


def _binned(
    samples: SampleSet, specs: Mapping[str, TargetSpec], target: str, own: OwnBins
) -> pd.Series:
    column = f"{VALUE_PREFIX}{target}"
    if column not in samples.table:
        raise DataError(
            f"train_bins: the source has no column of numbers for target {target!r}"
        )
    cells = samples.table[column].fillna("")
    labels = labels_to_train_on(cells, specs[target], own[target])
    return labels.where(labels.isin(samples.classes[target]), None)
