"""What follows a prediction: a temperature, a scale and a bias for each class (Guo et al., 2017), or class biases."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.class_biases import apply_class_biases, fit_class_biases
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import BlendMethod, check_stack
from ensembler.logits import softmax

Calibration = Literal["none", "temperature", "vector", "biases"]
FLOOR = 1e-7
_RANGE = (-3.0, 3.0)  # of log T


def fit_temperature(probs: Probs, y: Targets) -> float:
    """The T > 0 that divides the log-probabilities `[rows, classes]` for the smallest log loss; never worse than 1."""
    from scipy.optimize import minimize_scalar  # half a second that most blends do without

    logs = _logs(probs)

    def loss(log_t: float) -> float:
        return _log_loss(logs / np.exp(log_t), y)

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_temperature(probs: Probs, temperature: float) -> NDArray[np.float64]:
    """Probabilities with their logarithms divided by `temperature`: above 1 softer, below 1 sharper."""
    if temperature == 1.0:
        return np.asarray(probs, np.float64)
    return softmax(_logs(probs) / temperature)


def fit_vector(probs: Probs, y: Targets) -> NDArray[np.float64]:
    """Scales and biases `[2, classes]` of the log-probabilities for the smallest log loss; never worse than none.

    A ridge of one row's worth pulls scales to 1 and biases to 0, so that a class with few rows stays as it is.
    """
    from scipy.optimize import minimize

    logs, n, rows = _logs(probs), len(y), np.arange(len(y))
    nothing = np.stack([np.ones(logs.shape[1]), np.zeros(logs.shape[1])])

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = flat.reshape(nothing.shape)
        z = logs * both[0] + both[1]
        residual = softmax(z)
        residual[rows, y] -= 1
        gradient = np.stack([np.einsum("nc,nc->c", residual, logs), residual.sum(axis=0)]) / n
        away = both - nothing
        return _log_loss(z, y) + float((away**2).sum()) / (2 * n), (gradient + away / n).ravel()

    found = minimize(value, nothing.ravel(), jac=True, method="L-BFGS-B").x.reshape(nothing.shape)
    return found if _log_loss(logs * found[0] + found[1], y) < _log_loss(logs, y) else nothing


def apply_vector(probs: Probs, both: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` after the scales and biases `[2, classes]` of `fit_vector`."""
    return softmax(_logs(probs) * both[0] + both[1])


class Calibrated:
    """A method between calibrations: of each member before it, of its probabilities after it.

    Both are fitted on the rows the method is fitted on: temperature and vector never make their log loss worse, biases
    (which may) never their `metric`.
    """

    def __init__(
        self,
        method: BlendMethod,
        after: Calibration = "temperature",
        before: Calibration = "none",
        metric: str = "log_loss",
    ) -> None:
        self.method = method
        self.after = after
        self.before = before
        self.metric = metric

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Calibrate the members, fit the method, calibrate what comes out; RequestError for what does not fit."""
        if self.before != "none":
            stack = check_stack(stack, y)
            self.members_ = [_fit(self.before, probs, y, self.metric) for probs in stack]
            stack = self._calibrate_members(stack)
        self.method.fit(stack, y)
        self.blend_ = _fit(self.after, self.method.predict_proba(stack), y, self.metric)
        return self

    @property
    def takes_parts(self) -> bool:
        """Whether member after member is enough."""
        return self.before == "none" and getattr(self.method, "takes_parts", False)

    @property
    def weights_(self) -> Any:
        """The method's weights."""
        return self.method.weights_

    @property
    def biases_(self) -> NDArray[np.float64] | None:
        """The biases `[classes]` of decisions, when it has them."""
        return np.asarray(self.blend_) if self.after == "biases" else None

    @property
    def temperature_(self) -> float | None:
        """The temperature of the blend, when it has one."""
        return float(self.blend_) if self.after == "temperature" else None

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return _apply(self.after, self.method.predict_proba(self._calibrate_members(stack)), self.blend_)

    def _calibrate_members(self, stack: Stack) -> Stack:
        if self.before == "none":
            return stack
        return np.stack([_apply(self.before, p, found) for p, found in zip(stack, self.members_, strict=True)])


def _fit(kind: Calibration, probs: Probs, y: Targets, metric: str) -> Any:
    if kind == "none":
        return None
    if kind == "biases":
        return fit_class_biases(probs, y, metric)
    return fit_temperature(probs, y) if kind == "temperature" else fit_vector(probs, y)


def _apply(kind: Calibration, probs: Probs, found: Any) -> Probs:
    if kind == "none":
        return probs
    if kind == "biases":
        return apply_class_biases(probs, found)
    return apply_temperature(probs, found) if kind == "temperature" else apply_vector(probs, found)


def _logs(probs: Probs) -> NDArray[np.float64]:
    return np.log(np.clip(probs, FLOOR, None, dtype=np.float64))


def _log_loss(z: NDArray[np.float64], y: Targets) -> float:
    shifted = z - z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(z)), y]).mean())
