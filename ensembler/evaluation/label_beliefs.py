"""What members and groups believe of labels, as one cross-fitted prediction.

A row's own label never speaks for itself: members have not trained on it, weights are fitted on
other rows, and of a group the labels of its other rows count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.cross_fitting import fitting_parts, splits
from ensembler.blending.methods.loglinear import LogLinearPool
from ensembler.blending.pool import Pool, Probs, Stack, StackPart, Targets
from ensembler.logits import log_probs, softmax
from ensembler.machine.memory import room
from ensembler.progress import QUIET, Progress

_LEAST_ROWS = 50  # below, weights of members are not fitted
_FIT_ROWS = 20_000  # of each part; weights of members need no more
_FLOOR = 1e-4  # a member that is certain and wrong does not decide alone
_SHARPNESSES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)


def believed(
    pool: Pool, of_groups: Probs | None = None, progress: Progress = QUIET
) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` of the labels of a pool with one label a row.

    The members' log-linear pool, or their geometric mean where that explains the labels better.
    `of_groups` `[rows, classes]` (see `group_beliefs`) counts as one more member if it tells more
    than the shares of the classes.
    """
    stack = pool.oof
    if of_groups is not None and _tells_more_than_shares(of_groups, pool.y):
        stack = _with_member(stack, of_groups)
    mean = _sharpened(_geometric_mean(stack), pool.y)
    if len(pool.y) < _LEAST_ROWS or len(stack) < 2:
        return mean
    part = fitting_parts(pool.y, pool.folds, pool.groups)
    fitted = _log_linear(stack, pool.y, part, progress)
    return fitted if _loss(fitted, pool.y) < _loss(mean, pool.y) else mean


def group_beliefs(
    given: Targets, groups: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64] | None:
    """The labels of the other rows of each row's group, as probabilities `[rows, classes]`.

    The shares of all classes count as one row more. None where every row is a group of its own.
    """
    others = labels_of_others(given, groups, n_classes)
    sizes = others.sum(axis=1, keepdims=True)
    if not sizes.any():
        return None
    shares = np.bincount(given, minlength=n_classes) / len(given)
    return np.asarray((others + shares) / (sizes + 1))


def labels_of_others(
    given: Targets, groups: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    """How many other rows of each row's group have each label `[rows, classes]`."""
    counts = np.zeros((int(groups.max()) + 1, n_classes))
    np.add.at(counts, (groups, given), 1)
    others = counts[groups]
    others[np.arange(len(given)), given] -= 1
    return others


def _tells_more_than_shares(beliefs: Probs, given: Targets) -> bool:
    shares = np.bincount(given, minlength=beliefs.shape[1]) / len(given)
    return _loss(beliefs, given) < _loss(np.broadcast_to(shares, beliefs.shape), given)


def _with_member(stack: Stack, beliefs: Probs) -> Stack:
    whole = room((len(stack) + 1, *stack.shape[1:]))
    for member, out in zip(stack, whole, strict=False):
        out[:] = member
    whole[-1] = beliefs
    return whole


def _geometric_mean(stack: Stack) -> NDArray[np.float64]:
    total = np.zeros(stack.shape[1:])
    for member in stack:
        total += log_probs(member, _FLOOR)
    return softmax(total / len(stack))


def _sharpened(probs: Probs, given: Targets) -> NDArray[np.float64]:
    """Probabilities to the power that explains the labels best."""
    logs = log_probs(probs)
    candidates = [softmax(power * logs) for power in _SHARPNESSES]
    return min(candidates, key=lambda found: _loss(found, given))


def _log_linear(
    stack: Stack, given: Targets, part: NDArray[np.int64], progress: Progress
) -> NDArray[np.float64]:
    """The log-linear pool of the members, cross-fitted; the first part chooses the ridge."""
    out = np.empty(stack.shape[1:])
    ridge: float | str = "auto"
    rng = np.random.default_rng(0)
    n_parts = len(np.unique(part))
    for done, (others, rows) in enumerate(splits(part), start=1):
        progress.step("weighing members", done, n_parts)
        if len(others) > _FIT_ROWS:
            others = np.sort(rng.choice(others, _FIT_ROWS, replace=False))
        method = LogLinearPool(ridge=ridge)
        of_part: Any = StackPart(stack, rows=others).for_method(method)
        method.fit(of_part, given[others])
        ridge = method.ridge_
        to_judge: Any = StackPart(stack, rows=rows).for_method(method)
        out[rows] = method.predict_proba(to_judge)
    return out


def _loss(probs: Probs, given: Targets) -> float:
    return float(-log_probs(probs[np.arange(len(given)), given]).mean())
