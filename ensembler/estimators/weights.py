"""How much rows and classes count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import UnknownNameError

BETA = 0.999  # of effective numbers (Cui et al., 2019)


def class_weights(
    given: str | Mapping[str, float],
    counts: NDArray[np.int64],
    classes: Sequence[str],
) -> NDArray[np.float64] | None:
    """The weight of each class `[classes]`, on average 1 over the train rows.

    None when all weigh the same. balanced is 1 / n; effective is (1 - b) / (1 - b^n) with b = 0.999
    (Cui et al., 2019).
    """
    if given == "none":
        return None
    n = np.maximum(counts, 1).astype(np.float64)
    if isinstance(given, Mapping):
        for name in given:
            if name not in classes:
                raise UnknownNameError("class in class_weights", name, classes)
        return np.array([given.get(name, 1.0) for name in classes])
    effective = (1 - BETA) / (1 - BETA**n)
    weights = 1 / n if given == "balanced" else effective
    return np.asarray(weights * counts.sum() / (weights * counts).sum())


def label_ratios(
    given: str | Mapping[str, float], labels: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.float64] | None:
    """How much more it counts that a row has a label than that it has not `[classes]`.

    `labels` are 0 and 1 `[rows, classes]`. None when both count alike. balanced is the ratio of
    rows without the label to rows with it, effective that of their effective numbers.
    """
    if given == "none":
        return None
    if isinstance(given, Mapping):
        return class_weights(given, labels.sum(axis=0), classes)
    having = np.maximum(labels.sum(axis=0), 1).astype(np.float64)
    lacking = np.maximum(len(labels) - having, 1)
    if given == "effective":
        return np.asarray((1 - BETA**lacking) / (1 - BETA**having))
    return np.asarray(lacking / having)
