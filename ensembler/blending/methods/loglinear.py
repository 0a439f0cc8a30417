"""The log-linear pool: softmax of a weighted sum of log-probabilities.

Weights have any sign, and each class has a bias. A mean of probabilities is under-confident
wherever members err differently; adding logarithms adds evidence, and a negative weight subtracts
what a weak member shares with the strong ones. The weights are not importances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from ensembler.blending.judging.cross_fitting import fitting_parts
from ensembler.blending.methods.base import (
    Blender,
    check_choice,
    check_strength,
    check_switch,
    check_whole,
)
from ensembler.blending.methods.shared_fits import fitted_once
from ensembler.blending.pool import Probs, Stack, Targets, some_rows
from ensembler.blending.registry import check_stack, check_values
from ensembler.logits import FLOOR, softmax
from ensembler.machine.memory import room
from ensembler.machine.threads import one_thread

_SPREAD = (
    10.0  # of features within rows; logarithms of probabilities from 1e-7 on stay below it
)
_SOLVED = 1e-3  # the largest slope that counts as none
_SEARCH_ROWS = 4000  # enough to choose a ridge on; the fit itself takes all rows
_BLOCK_BYTES = 2**22
RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # tried as multiples of 1 / rows


@dataclass(frozen=True)
class _Solution:
    """What a log-linear pool learns from a stack."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    ridge: float
    ridge_scores: dict[float, float]
    converged: bool


class LogLinearPool(Blender):
    """softmax(sum of w_m log p_m + b), the parameters fitted by ridge-penalised log loss.

    `ridge` multiplies half the squared distance of the weights from 1/members, on features scaled
    to deviation one; "auto" chooses it by cross-fitting over rows. With `inputs="logits"` raw
    logits are used, for a constant in a row cancels; those that spread over more than 10 within
    rows are scaled to that first. `nonnegative` keeps weights at or above zero. A class that no
    fitted row has keeps a bias of zero, the mean of the others.

    After `fit`: `weights_` `[members]`, `bias_` `[classes]`, `ridge_`, `ridge_scores_`
    (cross-fitted log loss of each ridge tried) and `converged_`.
    """

    takes_parts = True
    keeps = ("bias_",)

    def __init__(
        self,
        ridge: float | str = "auto",
        nonnegative: bool = False,
        inputs: str = "probs",
        seed: int = 0,
    ) -> None:
        self.ridge = ridge
        self.nonnegative = nonnegative
        self.inputs = inputs
        self.seed = seed

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Fit weights and biases."""
        ridge = check_strength("ridge", self.ridge)
        check_switch("nonnegative", self.nonnegative)
        check_choice("inputs", self.inputs, ("probs", "logits"))
        check_whole("seed", self.seed)
        stack, y = self._enter_shape(stack, y)
        options = (ridge, self.nonnegative, self.inputs, self.seed)
        found = fitted_once(lambda: self._solved(stack, y, ridge), stack, y, options)
        self.weights_, self.bias_ = found.weights.copy(), found.bias.copy()
        self.ridge_, self.ridge_scores_ = found.ridge, dict(found.ridge_scores)
        self.converged_ = found.converged
        return self

    def _solved(self, stack: Stack, y: Targets, ridge: float | None) -> _Solution:
        """What is learned from a stack, at `ridge` or the best one for None."""
        n_classes = stack.shape[2]
        present = np.flatnonzero(np.bincount(y, minlength=n_classes))
        with one_thread():
            features, factors = _moderate(log_features(stack, self.inputs))
            if len(present) < n_classes:
                # What no row has, no row can fit: the others are fitted among themselves.
                features, y = (
                    np.ascontiguousarray(features[:, :, present]),
                    np.searchsorted(present, y),
                )
            problem = LogLinearProblem.of(features, y, self.nonnegative)
            scores: dict[float, float] = {}
            if ridge is None:
                ridge, scores = self._search(problem)
            found = problem.solve(ridge)
            converged = problem.is_solved_by(found, ridge)
        weights, bias = found[: len(stack)] * factors, np.zeros(n_classes)
        of_present = found[len(stack) :]
        if len(present) < n_classes:
            of_present = of_present - of_present.mean()
        bias[present] = of_present
        return _Solution(weights, bias, ridge, scores, converged)

    def strengths(self) -> dict[str, Any]:
        """The ridge that was found."""
        return {"ridge": self.ridge_}

    def learned(self) -> dict[str, Any]:
        """Biases, and the ridge with the losses of those that were tried."""
        return {
            "bias": self.bias_.tolist(),
            "ridge": self.ridge_,
            "ridge_scores": self.ridge_scores_,
        }

    def _search(self, problem: LogLinearProblem) -> tuple[float, dict[float, float]]:
        """The best ridge among multiples of 1/rows, and the losses of those that were tried.

        This is a prior of fixed strength, so a part of many rows chooses as well.
        """
        n = len(problem.y)
        problem = problem.part(max(_SEARCH_ROWS, 20 * len(problem.features)), self.seed)
        searched = len(problem.y)
        part = fitting_parts(problem.y, np.zeros(searched, np.int64), seed=self.seed)
        parts = np.unique(part)
        if len(parts) < 2:
            return RIDGES[-1] / n, {}  # a single row leaves nothing to choose by
        # From strong to weak, each warm-started where the stronger one ended.
        starts: dict[int, NDArray[np.float64]] = {}
        whole = problem.solve(RIDGES[-1] / searched)
        best, best_loss = RIDGES[-1], np.inf
        scores: dict[float, float] = {}
        for multiple in reversed(RIDGES):
            total = 0.0
            for p in parts:
                inside = part != p
                starts[p] = problem.solve(
                    multiple / searched, rows=inside, start=starts.get(p, whole)
                )
                total += problem.loss_on(starts[p], ~inside)
            scores[multiple / n] = total / searched
            if total < best_loss:
                best, best_loss = multiple, total
        return best / n, scores

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        stack = self._known(stack)
        z = np.zeros(stack.shape[1:], np.float64)
        for values, weight in zip(stack, self.weights_, strict=True):
            check_values(values, self.inputs)
            z += weight * (
                values if self.inputs == "logits" else np.log(np.clip(values, FLOOR, None))
            )
        return softmax(z + self.bias_)


def log_features(stack: Stack, inputs: str = "probs") -> NDArray[np.float32]:
    """Logits as they are (float32), or logarithms of probabilities `[members, rows, classes]`.

    Checks the values.
    """
    if inputs == "logits":
        return np.asarray(check_stack(stack, inputs="logits"), np.float32)
    logs = room(stack.shape)
    for member, out in zip(stack, logs, strict=True):
        check_values(member)
        np.maximum(member, np.float32(FLOOR), out=out, casting="same_kind")
        np.log(out, out=out)
    return logs


def _moderate(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features that spread over at most `_SPREAD` within rows, and their factors `[members]`.

    The features were multiplied by the factors. From logits in the thousands softmax is 0 or 1, and
    no step from there shows a way. Logarithms of probabilities are never as wide.
    """
    factors = np.minimum(_SPREAD / _deviations(features), 1.0)
    if (factors == 1.0).all():
        return features, factors
    return features * factors.astype(np.float32)[:, None, None], factors


def _deviations(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The deviation of each member's features within rows `[members]`."""
    rows = some_rows(features.shape[1], 5000)
    deviation = np.empty(len(features))
    for m, member in enumerate(features):
        sample = member[rows]
        centred = sample - sample.mean(axis=1, keepdims=True)
        deviation[m] = np.sqrt(np.square(centred, out=centred).mean(dtype=np.float64))
    return np.maximum(deviation, 1e-6)


@dataclass(frozen=True)
class LogLinearProblem:
    """The penalised log loss of a log-linear pool.

    Its parameters are the weights `[members]`, then the biases `[classes]`.
    """

    features: NDArray[np.float32]
    y: Targets
    scale: NDArray[np.float64]
    nonnegative: bool = False

    @classmethod
    def of(
        cls, features: NDArray[np.float32], y: Targets, nonnegative: bool = False
    ) -> LogLinearProblem:
        """The problem of these features, which are scaled by their deviation within rows."""
        return cls(features, y, _deviations(features), nonnegative)

    def part(self, most: int, seed: int) -> LogLinearProblem:
        """The problem on at most `most` rows, drawn at random."""
        if len(self.y) <= most:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.y), most, replace=False))
        return LogLinearProblem(
            np.ascontiguousarray(self.features[:, rows]),
            self.y[rows],
            self.scale,
            self.nonnegative,
        )

    @property
    def start(self) -> NDArray[np.float64]:
        """The geometric mean."""
        members, _, classes = self.features.shape
        return np.concatenate([np.full(members, 1 / members), np.zeros(classes)])

    def solve(
        self,
        ridge: float,
        rows: NDArray[np.bool_] | None = None,
        start: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The parameters at `ridge`, fitted on the rows of a mask (all for None), from `start`."""
        weight = (
            np.full(len(self.y), 1 / len(self.y)) if rows is None else rows / rows.sum()
        )
        weight = weight.astype(np.float32)
        theta = self.start if start is None else start
        if self.nonnegative:
            return self._bounded(ridge, weight, theta)
        sample, n = self._sample(weight), int((weight > 0).sum())
        if len(sample) == n:
            return self._newton(ridge, sample, theta, 25 if start is None else 3, 1e-8)[0]
        # What follows on all rows starts near the subsample's optimum: no need to find that to the
        # last digit. Fewer rows need the same prior, which is a larger share of their mean.
        near, factor = self._newton(
            ridge * n / len(sample), sample, theta, 25 if start is None else 3, 1e-2
        )
        return self._polish(ridge, weight, near, factor)

    def is_solved_by(self, theta: NDArray[np.float64], ridge: float) -> bool:
        """Whether the gradient there is next to nothing, features scaled to deviation one."""
        weight = np.full(len(self.y), 1 / len(self.y), np.float32)
        gradient = self._value(theta, ridge, weight)[1]
        members = len(self.features)
        gradient[:members] /= self.scale
        if self.nonnegative:
            at_bound = (theta[:members] <= 0) & (gradient[:members] > 0)
            gradient[:members][at_bound] = 0
        return bool(np.abs(gradient).max() <= _SOLVED)

    def loss_on(self, theta: NDArray[np.float64], rows: NDArray[np.bool_]) -> float:
        """The summed log loss on the rows of a mask, without penalty."""
        z = self._logits(theta, slice(None))[rows]
        z -= z.max(axis=1, keepdims=True)
        return float(
            (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), self.y[rows]]).sum()
        )

    def _sample(self, weight: NDArray[np.float32]) -> NDArray[np.int64]:
        inside = np.flatnonzero(weight)
        most = max(3000, 15 * len(self.features))
        if len(inside) <= 1.5 * most:
            return inside
        return inside[np.linspace(0, len(inside) - 1, most).astype(np.int64)]

    def _logits(
        self, theta: NDArray[np.float64], rows: slice | NDArray[np.int64]
    ) -> NDArray[np.float32]:
        members, _, classes = self.features.shape
        features = self.features[:, rows] if not isinstance(rows, slice) else self.features
        flat = features.reshape(members, -1)
        z = (theta[:members].astype(np.float32) @ flat).reshape(-1, classes)
        return z + theta[members:].astype(np.float32)

    def _penalty(
        self, theta: NDArray[np.float64], ridge: float
    ) -> tuple[float, NDArray[np.float64]]:
        members = len(self.features)
        away = (theta[:members] - 1 / members) * self.scale
        gradient = np.concatenate([ridge * away * self.scale, ridge * theta[members:]])
        return float(
            ridge * (away @ away + theta[members:] @ theta[members:]) / 2
        ), gradient

    def _value(
        self, theta: NDArray[np.float64], ridge: float, weight: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float64]]:
        members, rows, classes = self.features.shape
        weights, bias = (
            theta[:members].astype(np.float32),
            theta[members:].astype(np.float32),
        )
        loss, gradient = 0.0, np.zeros(len(theta))
        # A block stays in the processor's cache between the logits and the gradient: the features
        # are read once.
        size = max(1, _BLOCK_BYTES // (4 * members * classes))
        for start in range(0, rows, size):
            block = self.features[:, start : start + size].reshape(members, -1)
            y, share = self.y[start : start + size], weight[start : start + size]
            z = (weights @ block).reshape(-1, classes) + bias
            z -= z.max(axis=1, keepdims=True)
            at = np.arange(len(z))
            true = z[at, y].astype(np.float64)
            np.exp(z, out=z)
            total = z.sum(axis=1)
            loss += float((np.log(total, dtype=np.float64) - true) @ share)
            z *= (share / total)[:, None]
            z[at, y] -= share
            gradient[:members] += block @ z.ravel()
            gradient[members:] += z.sum(axis=0)
        penalty, penalty_gradient = self._penalty(theta, ridge)
        return loss + penalty, gradient + penalty_gradient

    def _newton(
        self,
        ridge: float,
        rows: NDArray[np.int64],
        theta: NDArray[np.float64],
        steps: int,
        enough: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Newton's method on some rows.

        Returns the parameters and the Hessian's lower Cholesky factor there.
        """
        members, _, classes = self.features.shape
        features = np.ascontiguousarray(self.features[:, rows])
        sub = LogLinearProblem(features, self.y[rows], self.scale)
        weight = np.full(len(rows), 1 / len(rows), np.float32)
        value, gradient = sub._value(theta, ridge, weight)
        factor = np.eye(len(theta))
        for _ in range(steps):
            hessian = sub._hessian(theta, ridge)
            factor = _lower_factor(hessian)
            step = -cho_solve((factor, True), gradient)
            slope = float(gradient @ step)
            size = 1.0
            while size > 1e-4:
                trial_value, trial_gradient = sub._value(theta + size * step, ridge, weight)
                if trial_value <= value + 1e-4 * size * slope:
                    break
                size /= 2
            else:
                break
            theta, gradient = theta + size * step, trial_gradient
            decrease, value = value - trial_value, trial_value
            if decrease < enough and -slope < 10 * enough:
                break
        return theta, factor

    def _hessian(self, theta: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
        members, rows, classes = self.features.shape
        hessian = np.zeros((len(theta), len(theta)))
        size = max(1, _BLOCK_BYTES // (8 * members * classes))
        for start in range(0, rows, size):
            block = self.features[:, start : start + size]
            z = theta[:members].astype(np.float32) @ block.reshape(members, -1)
            probs = softmax(z.reshape(-1, classes) + theta[members:]).astype(np.float32)
            root = np.sqrt(probs)
            # Columns of A are the derivatives of the logits, features first and biases last,
            # centred by their mean under p and times sqrt(p): A A' is the Hessian.
            a = np.empty((len(theta), len(probs), classes), np.float32)
            mean = np.einsum("mnc,nc->mn", block, probs)
            np.subtract(block, mean[:, :, None], out=a[:members])
            a[members:] = (
                np.eye(classes, dtype=np.float32)[:, None, :] - probs.T[:, :, None]
            )
            a *= root
            flat = a.reshape(len(theta), -1)
            hessian += flat @ flat.T
        hessian /= rows
        penalty = np.concatenate([ridge * self.scale**2, np.full(classes, ridge)])
        # Biases are free up to a constant: a little on the diagonal keeps the factor.
        jitter = 1e-7 * max(float(np.trace(hessian)) / len(hessian), 1e-3)
        hessian[np.diag_indices_from(hessian)] += penalty + jitter
        return hessian

    def _polish(
        self,
        ridge: float,
        weight: NDArray[np.float32],
        theta: NDArray[np.float64],
        factor: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """L-BFGS on all rows in coordinates in which the subsample's Hessian is the identity."""
        first_value, first_gradient = self._value(theta, ridge, weight)
        # L-BFGS begins with a step of length one: in units of this one that is the Newton step.
        unit = max(
            float(np.linalg.norm(solve_triangular(factor, first_gradient, lower=True))),
            1e-12,
        )

        def value(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            loss, gradient = first_value, first_gradient
            if not np.array_equal(u, start):
                loss, gradient = self._value(
                    solve_triangular(factor, unit * u, lower=True, trans="T"), ridge, weight
                )
            return loss, unit * solve_triangular(factor, gradient, lower=True)

        start = factor.T @ theta / unit
        options = {"gtol": 2e-5 * unit, "ftol": 1e-9, "maxiter": 60}
        found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        return np.asarray(solve_triangular(factor, unit * found.x, lower=True, trans="T"))

    def _bounded(
        self, ridge: float, weight: NDArray[np.float32], theta: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        members, _, classes = self.features.shape
        bounds: Sequence[tuple[float | None, None]] = [(0.0, None)] * members + [
            (None, None)
        ] * classes
        found = minimize(
            lambda t: self._value(t, ridge, weight),
            np.maximum(
                theta, np.concatenate([np.zeros(members), np.full(classes, -np.inf)])
            ),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"gtol": 1e-6, "ftol": 1e-11, "maxiter": 500, "maxcor": 20},
        )
        return np.asarray(found.x)


def _lower_factor(hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower Cholesky factor of a Hessian.

    The diagonal is raised as far as needed: copies of members without a ridge make it singular.
    """
    typical = max(float(np.trace(hessian)) / len(hessian), 1e-9)
    for jitter in (0.0, *10.0 ** np.arange(-7.0, 1.0)):
        try:
            return np.asarray(
                cholesky(hessian + jitter * typical * np.eye(len(hessian)), lower=True)
            )
        except np.linalg.LinAlgError:
            continue
    return np.sqrt(typical) * np.eye(len(hessian))  # a step along the gradient
