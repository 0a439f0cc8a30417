"""Settings of a head, chosen by cross-validation inside the train rows of a fold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ensembler.estimators.problem import Problem

PARTS = 3
_MOST_SCALE = (
    7.0  # in natural logarithms: logits are not scaled by more than about a thousand
)

Setting = TypeVar("Setting")
Fit = Callable[[Problem, Setting], Callable[[NDArray[np.float32]], NDArray[np.float32]]]


def chosen(
    problem: Problem, settings: Sequence[Setting], fit: Fit[Setting], *, scale: bool
) -> tuple[Setting, float]:
    """The setting of the least log loss on rows left out, and the factor of its logits.

    The factor is 1 unless a `scale` is wanted, which is then that of the least log loss. Rows of
    one group are left out together. Where rows are too few to be divided, it is the middle one.
    """
    parts = divided(problem)
    middle = settings[len(settings) // 2]
    if not parts or (len(settings) == 1 and not scale):
        return middle, 1.0
    found = [_left_out(problem, parts, setting, fit, scale=scale) for setting in settings]
    losses = [loss for loss, _ in found]
    best = int(np.argmin(losses))
    return settings[best], found[best][1]


def divided(
    problem: Problem,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Train and left-out rows of each part; none where every part would lack what it needs."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = problem.groups
    n_units = len(problem.y) if groups is None else len(np.unique(groups))
    rarest = np.bincount(problem.y, minlength=problem.n_classes).max()
    if n_units < PARTS or rarest < PARTS:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(PARTS, shuffle=True, random_state=problem.seed)
    with warnings.catch_warnings():
        # scikit-learn warns of classes with few rows: they are few here too
        warnings.simplefilter("ignore")
        parts = list(splitter.split(problem.x, problem.y, groups))
    return [(train, valid) for train, valid in parts if len(train) and len(valid)]


def _left_out(
    problem: Problem,
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    setting: Setting,
    fit: Fit[Setting],
    *,
    scale: bool,
) -> tuple[float, float]:
    """Log loss of the rows left out, and the factor of the logits at which it is."""
    logits, labels, weights = [], [], []
    for train, valid in parts:
        inside = problem.of_rows(train)
        if len(np.unique(inside.y)) < 2:
            continue
        # a class that only the left-out rows have cannot be predicted, whatever the setting
        known = valid[np.isin(problem.y[valid], inside.y)]
        if not len(known):
            continue
        kept, codes = np.unique(inside.y, return_inverse=True)
        of_kept = Problem(
            inside.x, codes, len(kept), inside.weights, inside.groups, inside.seed
        )
        of_part = fit(of_kept, setting)(problem.x[known])
        wide = np.full((len(known), problem.n_classes), -np.inf)
        wide[:, kept] = of_part
        logits.append(wide)
        labels.append(problem.y[known])
        weights.append(problem.weights[known])
    if not logits:
        return 0.0, 1.0
    stacked = np.concatenate(logits), np.concatenate(labels), np.concatenate(weights)
    if not scale:
        return _log_loss(1.0, *stacked), 1.0
    found = minimize_scalar(
        lambda power: _log_loss(float(np.exp(power)), *stacked),
        bounds=(-_MOST_SCALE, _MOST_SCALE),
        method="bounded",
    )
    return float(found.fun), float(np.exp(found.x))


def _log_loss(
    factor: float,
    logits: NDArray[np.float64],
    y: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> float:
    of_true = log_softmax(factor * logits, axis=1)[np.arange(len(y)), y]
    return float(-np.average(of_true, weights=weights if weights.sum() > 0 else None))
