"""From the probabilities of a run's tasks to those of the label they compose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.predictions.store import RunStore
from ensembler.targets.composition import Composition


def compose_probs(
    store: RunStore,
    probs: Mapping[str, NDArray[np.floating]],
    count_on: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """The label's probabilities `[rows, classes]` from those of its tasks.

    Classes are in the run's order. Co-occurrence, when the recipe asks for it, is counted on the
    train rows `count_on` (default: all).
    """
    composition = composition_of(store)
    classes_of = {task: store.classes(task) for task in composition.tasks}
    factors = co_occurrence_of(store, count_on)
    return composition.compose(probs, classes_of, factors).astype(np.float32)


def co_occurrence_of(
    store: RunStore, count_on: NDArray[np.int64] | None = None
) -> NDArray[np.float64] | None:
    """By how much the parts of each class `[classes]` occur together more often than by chance.

    None where the recipe does not ask for it.
    """
    composition = composition_of(store)
    if composition.prior != "observed":
        return None
    classes_of = {task: store.classes(task) for task in composition.tasks}
    labels = {task: store.labels(task, "train", classes_of[task]) for task in classes_of}
    if count_on is not None:
        labels = {task: y[count_on] for task, y in labels.items()}
    return composition.co_occurrence(labels, classes_of)


def composition_of(store: RunStore) -> Composition:
    """How the run's label is composed; RequestError when it is not."""
    composition = store.composition
    if composition is None:
        raise RequestError(
            f"run {store.name!r} composes no class; say data.compose in its recipe"
        )
    return composition
