"""What a leak is worth, and whether test images look like train images.

Both are measured with one cheap model, cross-validated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import Units
from ensembler.errors import DataError
from ensembler.metrics.ranking import roc_auc_ovr

ROWS = 6000  # at most so many are probed, whole groups of them
TREES = 100
_PARTS = 5
_DRAWS = 500


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class LeakTest:
    """Accuracy of one cheap model under plain folds that split groups, and under grouped folds."""

    group: str
    target: str
    n: int
    n_groups: int
    plain: Estimate
    grouped: Estimate

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        estimates = {"plain": self.plain.__dict__, "grouped": self.grouped.__dict__}
        return {
            "group": self.group,
            "target": self.target,
            "n": self.n,
            "n_groups": self.n_groups,
            **estimates,
        }


def _features(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(thumbs.reshape(len(thumbs), -1) / np.float32(255), np.float32)


def _trees() -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(TREES, n_jobs=-1, random_state=0)


def _predicted(
    x: NDArray[np.float32], y: NDArray[np.int64], splitter: Any, groups: Any
) -> NDArray[np.float64]:
    """Cross-validated probabilities `[rows, classes]`.

    A class that a training side lacks has none there.
    """
    out = np.zeros((len(y), int(y.max()) + 1))
    with warnings.catch_warnings():
        # scikit-learn warns of classes with few rows: they are few here too
        warnings.simplefilter("ignore")
        for train, valid in splitter.split(x, y, groups):
            model = _trees().fit(x[train], y[train])
            out[np.ix_(valid, model.classes_)] = model.predict_proba(x[valid])
    return out


def leak_test(
    thumbs: NDArray[np.uint8],
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    group: str,
    target: str,
) -> LeakTest:
    """Score trees on small pixels under plain stratified and under stratified grouped folds.

    `thumbs` uint8 `[rows, height, width, 3]`, `y` label positions and `groups` group numbers
    `[rows]`. Intervals are bootstrap intervals over groups. Raises DataError when there are fewer
    groups than parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    rows = _some_groups(groups)
    x, y, groups = _features(thumbs[rows]), y[rows], groups[rows]
    n_groups = len(np.unique(groups))
    if n_groups < _PARTS or len(np.unique(y)) < 2:
        raise DataError(
            f"the leak test needs {_PARTS} groups and two classes; there are {n_groups} groups"
        )
    plain = StratifiedKFold(_PARTS, shuffle=True, random_state=0)
    grouped = StratifiedGroupKFold(_PARTS, shuffle=True, random_state=0)
    right = [
        (_predicted(x, y, cv, groups).argmax(axis=1) == y).astype(np.float64)
        for cv in (plain, grouped)
    ]
    estimates = [_over_groups(partial(_mean, values), groups) for values in right]
    return LeakTest(group, target, len(y), n_groups, estimates[0], estimates[1])


def _mean(values: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    return float(values[rows].mean())


def _some_groups(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of whole groups, drawn until there are enough."""
    if len(groups) <= ROWS:
        return np.arange(len(groups))
    names = np.random.default_rng(0).permutation(np.unique(groups))
    sizes = np.bincount(groups)[names]
    kept = names[np.cumsum(sizes) <= ROWS]
    return np.flatnonzero(np.isin(groups, kept if len(kept) else names[:1]))


def part_of_groups(groups: NDArray[np.int64], n_rows: int) -> NDArray[np.bool_]:
    """Rows `[rows]` of some whole groups, drawn with a fixed seed.

    They are about `n_rows`, at most half of all rows.
    """
    names = np.random.default_rng(0).permutation(np.unique(groups))
    sizes = np.cumsum(np.bincount(groups)[names])
    return np.isin(groups, names[sizes <= min(n_rows, len(groups) // 2)])


def _over_groups(
    value: Callable[[NDArray[np.int64]], float], groups: NDArray[np.int64]
) -> Estimate:
    """The value over all rows with the interval of a bootstrap that draws whole groups."""
    units = Units.of(len(groups), groups)
    draws = [value(rows) for rows in units.drawn(np.random.default_rng(0), _DRAWS)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(value(np.arange(len(groups))), float(low), float(high))


def adversarial_validation(
    train: NDArray[np.uint8],
    test: NDArray[np.uint8],
    train_groups: NDArray[np.int64] | None = None,
    test_groups: NDArray[np.int64] | None = None,
) -> Estimate:
    """How well trees on small pixels tell train images from test images: AUC, 0.5 when they cannot.

    Groups stay on one side of every split, for otherwise the model would recognise the group and
    not the part.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    a = np.arange(len(train)) if train_groups is None else train_groups
    b = np.arange(len(test)) if test_groups is None else test_groups
    rows_a, rows_b = (_some_groups(g) for g in (a, b))
    if min(len(np.unique(a[rows_a])), len(np.unique(b[rows_b]))) < _PARTS:
        raise DataError(
            f"adversarial validation needs {_PARTS} images or groups in train and in test"
        )
    x = np.concatenate([_features(train[rows_a]), _features(test[rows_b])])
    y = np.repeat([0, 1], [len(rows_a), len(rows_b)])
    groups = np.concatenate([a[rows_a], b[rows_b] + a.max() + 1])
    splitter = StratifiedGroupKFold(_PARTS, shuffle=True, random_state=0)
    probs = _predicted(x, y, splitter, groups)

    def auc(rows: NDArray[np.int64]) -> float:
        return roc_auc_ovr(probs[rows], y[rows])

    return _over_groups(auc, groups)
