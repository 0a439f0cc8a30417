"""Calibration of probabilities, before or after a blend.

A temperature, a scale and a bias for each class (Guo et al., 2017), or class biases.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.calibration.class_biases import apply_class_biases, fit_class_biases
from ensembler.blending.judging.cross_fitting import cross_fit, fitting_parts
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import BlendMethod, Capacity, check_shape, check_stack
from ensembler.blending.state import State
from ensembler.errors import NotFittedError, RequestError
from ensembler.logits import FLOOR, softmax

Calibration = Literal["none", "temperature", "vector", "biases"]
_RANGE = (-3.0, 3.0)  # of log T
# Rows for each member from which a linear pool predicts the rows it was fitted on like any others.
_ROWS_EACH = 20


def fit_temperature(probs: Probs, y: Targets) -> float:
    """The T > 0 that divides the log-probabilities `[rows, classes]` for the smallest log loss.

    Never worse than 1.
    """
    from scipy.optimize import minimize_scalar  # half a second that most blends do without

    logs = _logs(probs)

    def loss(log_t: float) -> float:
        return _log_loss(logs / np.exp(log_t), y)

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_temperature(probs: Probs, temperature: float) -> NDArray[np.float64]:
    """Probabilities with their logarithms divided by `temperature`.

    Above 1 they become softer, below 1 sharper.
    """
    if temperature == 1.0:
        return np.asarray(probs, np.float64)
    return softmax(_logs(probs) / temperature)


def fit_vector(probs: Probs, y: Targets) -> NDArray[np.float64]:
    """Scales and biases `[2, classes]` of the log-probabilities for the smallest log loss.

    Never worse than none. A ridge of one row's worth pulls scales to 1 and biases to 0, so that a
    class with few rows stays as it is. One without any does, whatever the others do.
    """
    from scipy.optimize import minimize

    present = np.flatnonzero(np.bincount(y, minlength=probs.shape[1]))
    if len(present) < probs.shape[1]:
        among_them = fit_vector(probs[:, present], np.searchsorted(present, y))
        whole = np.stack([np.ones(probs.shape[1]), np.zeros(probs.shape[1])])
        whole[:, present] = among_them
        return whole
    logs, n, rows = _logs(probs), len(y), np.arange(len(y))
    nothing = np.stack([np.ones(logs.shape[1]), np.zeros(logs.shape[1])])

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = flat.reshape(nothing.shape)
        z = logs * both[0] + both[1]
        residual = softmax(z)
        residual[rows, y] -= 1
        gradient = (
            np.stack([np.einsum("nc,nc->c", residual, logs), residual.sum(axis=0)]) / n
        )
        away = both - nothing
        return _log_loss(z, y) + float((away**2).sum()) / (2 * n), (
            gradient + away / n
        ).ravel()

    found = minimize(value, nothing.ravel(), jac=True, method="L-BFGS-B").x.reshape(
        nothing.shape
    )
    return (
        found if _log_loss(logs * found[0] + found[1], y) < _log_loss(logs, y) else nothing
    )


def apply_vector(probs: Probs, both: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` after the scales and biases of `fit_vector`.

    `both` `[2, classes]` holds the scales, then the biases.
    """
    return softmax(_logs(probs) * both[0] + both[1])


class Calibrated:
    """A method between calibrations: of each member before it, of its probabilities after it.

    What comes after is fitted on predictions of rows that the method was not fitted on: those that
    a rich method makes of its own rows are more certain than any others, and right as no others
    are. The parts for that are inner ones, whole groups together when `fit` is given the parts. A
    linear pool on 20 rows a member or more, and what learns nothing from labels, predict their own
    rows like others and are not fitted again.
    """

    def __init__(
        self,
        method: BlendMethod,
        after: Calibration = "temperature",
        before: Calibration = "none",
        metric: str = "log_loss",
        seed: int = 0,
    ) -> None:
        self.method = method
        self.after = after
        self.before = before
        self.metric = metric
        self.seed = seed

    def __repr__(self) -> str:
        return (
            f"Calibrated({self.method!r}, after={self.after!r}, "
            f"before={self.before!r}, metric={self.metric!r})"
        )

    def fit(self, stack: Stack, y: Targets, part: NDArray[np.int64] | None = None) -> Self:
        """Calibrate the members, fit the method, calibrate what comes out.

        RequestError for what does not fit. `part` `[rows]` says which rows are left out together.
        """
        y = np.asarray(y)
        check_shape(stack, y)
        self.members_: list[Any] | None = None
        given = stack
        if self.before != "none":
            stack = check_stack(stack, y)
            self.members_ = [_fit(self.before, probs, y, self.metric) for probs in stack]
            stack = self._calibrate_members(stack)
        self.method.fit(stack, y)
        self.blend_: Any = None
        if self.after != "none":
            in_sample = len(y) < 2 or _predicts_its_rows_like_others(self.method, stack)
            seen = (
                self.method.predict_proba(stack)
                if in_sample
                else self._left_out(given, y, part)
            )
            self.blend_ = _fit(self.after, seen, y, self.metric)
        return self

    def _left_out(self, stack: Stack, y: Targets, part: NDArray[np.int64] | None) -> Probs:
        """Probabilities `[rows, classes]`, each row's by a method fitted without its part."""
        if part is None or len(np.unique(part)) < 2:
            part = fitting_parts(y, np.zeros(len(y), np.int64), seed=self.seed)

        def make() -> BlendMethod:
            method = copy.deepcopy(self.method)
            if self.before == "none":
                return method
            calibrated: BlendMethod = Calibrated(method, "none", self.before, self.metric)
            return calibrated

        return cross_fit(make, stack, y, part)

    @property
    def takes_parts(self) -> bool:
        """Whether member after member is enough."""
        return self.before == "none" and self.method.takes_parts

    @property
    def needs_fit(self) -> bool:
        """Whether anything is learned from labels."""
        return self.method.needs_fit or self.before != "none" or self.after != "none"

    @property
    def capacity(self) -> Capacity:
        """The method's."""
        return self.method.capacity

    @property
    def zero_weight_is_absent(self) -> bool:
        """Whether a blend without the members of weight zero is the same blend."""
        return self.before == "none" and self.method.zero_weight_is_absent

    @property
    def stopped_early_(self) -> bool:
        """Whether the method's search was stopped."""
        return self.method.stopped_early_

    @property
    def converged_(self) -> bool:
        """Whether the method's search found what it looked for."""
        return self.method.converged_

    def learned(self) -> dict[str, Any]:
        """What the method learned, and the biases of classes."""
        biases = {} if self.biases_ is None else {"class_biases": self.biases_.tolist()}
        return {**self.method.learned(), **biases}

    def without(self, member: int) -> Calibrated:
        """The method without the member between the same calibrations, to be fitted."""
        method = self.method.without(member)
        return Calibrated(method, self.after, self.before, self.metric, self.seed)

    def state(self) -> State:
        """The method's state, and what the calibrations found."""
        self._check_fitted()
        learned: dict[str, Any] = {"blend_": self.blend_}
        if self.members_ is not None:
            learned["members_"] = np.array(self.members_, np.float64)
        return State.of(learned).with_part("method", self.method.state())

    def restore(self, state: State) -> Self:
        """Make this the fitted blend whose `state()` it is; returns it."""
        self.method.restore(state.part("method"))
        members = state.arrays.get("members_")
        self.members_ = None if members is None else list(members)
        self.blend_ = state.everything["blend_"]
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "blend_"):
            raise NotFittedError("calibrated blend")

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
        self._check_fitted()
        blended = self.method.predict_proba(self._calibrate_members(stack))
        return _apply(self.after, blended, self.blend_)

    def _calibrate_members(self, stack: Stack) -> Stack:
        if self.members_ is None:
            return stack
        stack = check_shape(stack)
        if len(stack) != len(self.members_):
            raise RequestError(
                f"{len(stack)} members for a calibrated blend that was fitted on "
                f"{len(self.members_)}"
            )
        return np.stack(
            [
                _apply(self.before, p, found)
                for p, found in zip(stack, self.members_, strict=True)
            ]
        )


def _predicts_its_rows_like_others(method: BlendMethod, stack: Stack) -> bool:
    """Whether a method predicts the rows it was fitted on as well as other rows, and no better."""
    if method.needs_fit and method.capacity == "linear":
        return stack.shape[1] >= _ROWS_EACH * len(stack)
    return not method.needs_fit


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
    return (
        apply_temperature(probs, found)
        if kind == "temperature"
        else apply_vector(probs, found)
    )


def _logs(probs: Probs) -> NDArray[np.float64]:
    return np.log(np.clip(probs, FLOOR, None, dtype=np.float64))


def _log_loss(z: NDArray[np.float64], y: Targets) -> float:
    shifted = z - z.max(axis=1, keepdims=True)
    return float(
        (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(z)), y]).mean()
    )
