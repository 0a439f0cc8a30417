"""The best linear pool there is: the optimum over non-negative weights that sum to one, with its certificate."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize, nnls

from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_stack
from ensembler.blending.threads import one_thread
from ensembler.blending.voting import linear_pool
from ensembler.errors import RequestError
from ensembler.metrics.probabilities import FLOOR

_COARSE = 8  # the support is looked for on every 8th row first
_NEWCOMERS = 8  # members that join the support in a round


def true_class_column(stack: Stack, y: Targets) -> NDArray[np.float32]:
    """Probabilities of the true class, float32 `[members, rows]`: all that a linear pool's log loss depends on."""
    column = np.empty(stack.shape[:2], np.float32)
    rows = np.arange(stack.shape[1])
    for m, probs in enumerate(stack):
        column[m] = probs[rows, y]
    return np.clip(column, np.float32(FLOOR), None, out=column)


class SimplexWeights:
    """The weights of the linear pool with the smallest log loss (or Brier score) on the fitted rows.

    The problem is convex. `gap_` bounds how far the loss may be from the optimum: with g_m the mean of q_m / (w q),
    the excess is at most max g - 1 (log loss; q are probabilities of the true class).
    """

    def __init__(self, metric: str = "log_loss", tolerance: float = 1e-6) -> None:
        self.metric = metric
        self.tolerance = tolerance

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Find the weights; RequestError for a metric other than log_loss and brier."""
        stack = check_stack(stack, y)
        if self.metric not in ("log_loss", "brier"):
            raise RequestError(f"simplex is for log_loss or brier, not {self.metric!r}; greedy takes any metric")
        with one_thread():
            if self.metric == "log_loss":
                self.weights_, self.gap_ = log_loss_optimum(true_class_column(stack, y), self.tolerance)
            else:
                self.weights_, self.gap_ = _brier_optimum(stack, y)
        return self

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return linear_pool(check_stack(stack), self.weights_)


def log_loss_optimum(
    column: NDArray[np.float32], tolerance: float = 1e-6, rounds: int = 60
) -> tuple[NDArray[np.float64], float]:
    """Weights `[members]` that minimise -mean log(w q) for `column` q `[members, rows]`, and the certified gap."""
    members, rows = column.shape
    if members == 1:
        return np.ones(1), 0.0
    if rows > 2000 * _COARSE:
        # Which members matter shows on an eighth of the rows.
        weights, _ = log_loss_optimum(np.ascontiguousarray(column[:, ::_COARSE]), max(tolerance, 1e-5), rounds)
    else:
        weights = np.zeros(members)
        weights[int(np.log(column).mean(axis=1).argmax())] = 1.0
    gap = np.inf
    best, best_gap = weights, np.inf
    for _ in range(rounds):
        gradient = _gains(column, weights)
        gap = float(gradient.max() - 1)
        if gap < best_gap:
            best, best_gap = weights, gap
        if gap <= tolerance:
            break
        newcomers = np.argsort(-gradient)[:_NEWCOMERS]
        support = np.union1d(np.flatnonzero(weights > 0), newcomers[gradient[newcomers] > 1])
        weights = np.zeros(members)
        weights[support] = _newton(column[support].astype(np.float64), best[support])
    return best, max(best_gap, 0.0)


def _gains(column: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    support = np.flatnonzero(weights)
    mix = weights[support] @ column[support]
    # Sums in blocks of rows: float32 alone would limit the certificate to about 1e-5.
    inverse = (1.0 / mix).astype(np.float32)
    total = np.zeros(len(column))
    for start in range(0, len(inverse), 4096):
        total += column[:, start : start + 4096] @ inverse[start : start + 4096]
    return total / len(inverse)


def _newton(q: NDArray[np.float64], weights: NDArray[np.float64], steps: int = 50) -> NDArray[np.float64]:
    """Minimise sum(w) - mean log(w q) over w >= 0, whose optimum sums to one, by Newton steps with non-negative QPs."""
    w = np.maximum(weights, 0)
    if w.sum() == 0:
        w = np.full(len(q), 1 / len(q))
    mix = w @ q
    value = float(w.sum() - np.log(mix).mean())
    for _ in range(steps):
        ratio = q / mix
        hessian = ratio @ ratio.T / q.shape[1]
        hessian[np.diag_indices_from(hessian)] *= 1 + 1e-10
        hessian[np.diag_indices_from(hessian)] += 1e-12
        gradient = 1 - ratio.mean(axis=1)
        factor = cholesky(hessian, lower=True)
        target = solve_triangular(factor, hessian @ w - gradient, lower=True)
        step = nnls(factor.T, target)[0] - w
        size, slope = 1.0, float(gradient @ step)
        if slope > -1e-13:
            break
        while size > 1e-6:
            trial = w + size * step
            trial_mix = trial @ q
            if (trial_mix > 0).all():
                trial_value = float(trial.sum() - np.log(trial_mix).mean())
                if trial_value <= value + 1e-4 * size * slope:
                    break
            size /= 2
        else:
            break
        w, mix, value = trial, trial_mix, trial_value
    return w / w.sum()


def _brier_optimum(stack: Stack, y: Targets) -> tuple[NDArray[np.float64], float]:
    """The quadratic programme of the Brier score over the simplex; the gap is that of Frank and Wolfe."""
    members, rows, _ = stack.shape
    flat = stack.reshape(members, -1).astype(np.float64)
    gram = flat @ flat.T / rows
    linear = true_class_column(stack, y).astype(np.float64).mean(axis=1)

    def objective(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return float(w @ gram @ w - 2 * linear @ w), 2 * (gram @ w - linear)

    start = np.full(members, 1 / members)
    total = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    found = minimize(
        objective,
        start,
        jac=True,
        bounds=[(0, 1)] * members,
        constraints=[total],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights = np.clip(found.x, 0, None)
    weights /= weights.sum()
    gradient = objective(weights)[1]
    return weights, float(gradient @ weights - gradient.min())
