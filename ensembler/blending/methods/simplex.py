"""The best linear pool there is, with its certificate.

It is the optimum over non-negative weights that sum to one.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize, nnls

from ensembler.blending.methods.base import Blender, check_number
from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.methods.voting import linear_pool
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_stack
from ensembler.errors import RequestError
from ensembler.machine.threads import one_thread

_COARSE = 8  # the support is looked for on every 8th row first
_ENOUGH = 2_000  # rows on which a support is found well enough to start from
_NEWCOMERS = 8  # members that join the support in a round
_BLOCK = 4096  # rows summed in float32 before they are summed in float64
# tried on a Hessian's diagonal until the step can be solved
_RIDGES = tuple(10.0**power for power in range(-6, 3))


class SimplexWeights(Blender):
    """The weights of the linear pool with the smallest log loss (or Brier score).

    The loss is that on the fitted rows. The problem is convex. `gap_` bounds how far the loss may
    be from the optimum: with g_m the mean of q_m / (w q), the excess is at most max g - 1 (log
    loss; q are probabilities of the true class).
    """

    capacity = "linear"
    takes_parts = True
    zero_weight_is_absent = True
    searches_by = ("log_loss", "brier")

    def __init__(self, metric: str = "log_loss", tolerance: float = 1e-6) -> None:
        self.metric = metric
        self.tolerance = tolerance

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Find the weights; RequestError for a metric other than log_loss and brier."""
        if self.metric not in ("log_loss", "brier"):
            raise RequestError(
                f"simplex is for log_loss or brier, not {self.metric!r}; greedy takes any metric"
            )
        check_number("tolerance", self.tolerance)
        stack, y = self._enter_shape(stack, y)
        with one_thread():
            if self.metric == "log_loss":
                self.weights_, self.gap_ = log_loss_optimum(
                    true_class_column(stack, y), self.tolerance
                )
            else:
                self.weights_, self.gap_ = _brier_optimum(check_stack(stack, y), y)
        return self

    def learned(self) -> dict[str, Any]:
        """The certified gap."""
        return {"gap": self.gap_}

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return linear_pool(self._known(stack), self.weights_)


def log_loss_optimum(
    column: NDArray[np.float32], tolerance: float = 1e-6, rounds: int = 200
) -> tuple[NDArray[np.float64], float]:
    """Weights `[members]` that minimise -mean log(w q), and the certified gap.

    `column` is q `[members, rows]`. Each round takes one gradient over all rows and members, which
    certifies the weights and names the members that should join, then one Newton step over the
    members with weight.
    """
    members, rows = column.shape
    if members == 1:
        return np.ones(1), 0.0
    if rows >= _COARSE * _ENOUGH:
        # Which members matter shows on an eighth of the rows.
        weights, _ = log_loss_optimum(
            np.ascontiguousarray(column[:, ::_COARSE]), max(tolerance, 1e-3), rounds
        )
    else:
        weights = np.zeros(members)
        weights[int(np.log(column).mean(axis=1).argmax())] = 1.0
    best, best_gap = weights, np.inf
    for _ in range(rounds):
        support = np.flatnonzero(weights)
        mix = _mixed(weights[support], column[support])
        gains = _gains(column, mix)
        gap = float(gains.max() - 1)
        if gap < best_gap:
            best, best_gap = weights, gap
        if gap <= tolerance:
            break
        newcomers = np.argsort(-gains)[:_NEWCOMERS]
        support = np.union1d(support, newcomers[gains[newcomers] > 1])
        moved = _newton_step(column[support], mix, weights[support], gains[support])
        if moved is None:
            break
        weights = np.zeros(members)
        weights[support] = moved
    return best, max(best_gap, 0.0)


# Products of float32 are summed in float32 within a block and in float64 over blocks: float32 alone
# would limit the certificate to about 1e-5, float64 alone would take twice the time.


def _mixed(weights: NDArray[np.float64], q: NDArray[np.float32]) -> NDArray[np.float64]:
    mix = np.empty(q.shape[1])
    for start in range(0, len(mix), _BLOCK):
        np.matmul(weights, q[:, start : start + _BLOCK], out=mix[start : start + _BLOCK])
    return mix


def _gains(column: NDArray[np.float32], mix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of q_m / mix for each member `[members]`."""
    inverse = (1.0 / mix).astype(np.float32)
    total = np.zeros(len(column))
    for start in range(0, len(inverse), _BLOCK):
        total += column[:, start : start + _BLOCK] @ inverse[start : start + _BLOCK]
    return total / len(inverse)


def _hessian(q: NDArray[np.float32], mix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of q_l q_m / mix^2 `[members, members]`."""
    inverse = (1.0 / mix).astype(np.float32)
    total = np.zeros((len(q), len(q)))
    for start in range(0, len(inverse), _BLOCK):
        ratio = q[:, start : start + _BLOCK] * inverse[start : start + _BLOCK]
        total += ratio @ ratio.T
    return total / len(inverse)


def _newton_step(
    q: NDArray[np.float32],
    mix: NDArray[np.float64],
    w: NDArray[np.float64],
    gains: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """One step of minimising sum(w) - mean log(w q) over w >= 0, whose optimum sums to one.

    None where none helps. `mix` is w q and `gains` are the means of q / mix. The step is the
    non-negative minimum of the quadratic that gradient and Hessian make, shortened until the loss
    falls.
    """
    moved = _quadratic_minimum(_hessian(q, mix), w, 1 - gains)
    if moved is None:
        return None
    step = moved - w
    slope = float((1 - gains) @ step)
    if slope > -1e-13:
        return None
    change = _mixed(step, q)
    value, size = float(w.sum() - np.log(mix).mean()), 1.0
    while size > 1e-6:
        trial = mix + size * change
        if (trial > 0).all() and (w + size * step).sum() - np.log(
            trial
        ).mean() <= value + 1e-4 * size * slope:
            found = np.maximum(w + size * step, 0)
            return np.asarray(found / found.sum())
        size /= 2
    return None


def _quadratic_minimum(
    hessian: NDArray[np.float64], w: NDArray[np.float64], gradient: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The non-negative minimum of the quadratic with this gradient and Hessian at w.

    None where none can be found. Near-copies of a member, or more members than rows, make the
    Hessian singular, and sums in float32 may leave it short of that: a ridge grows until there is a
    solution. A larger one shortens the step and leaves it downhill.
    """
    for ridge in _RIDGES:
        raised = hessian + np.diag(ridge * np.diag(hessian))
        try:
            factor = cholesky(raised, lower=True)
            target = solve_triangular(factor, raised @ w - gradient, lower=True)
            return np.asarray(nnls(factor.T, target)[0])
        except (
            np.linalg.LinAlgError,
            RuntimeError,
        ):  # not positive definite; too many rounds of nnls
            continue
    return None


def _brier_optimum(stack: Stack, y: Targets) -> tuple[NDArray[np.float64], float]:
    """The quadratic programme of the Brier score over the simplex.

    The gap is that of Frank and Wolfe.
    """
    members, rows, _ = stack.shape
    flat = np.asarray(stack).reshape(members, -1).astype(np.float64)
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
