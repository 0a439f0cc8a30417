"""Any classifier of scikit-learn's kind, named as `module:Class`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.estimators import estimator_state, restored_estimator
from ensembler.blending.state import State
from ensembler.errors import RequestError
from ensembler.estimators.problem import Problem, scaled, standardised
from ensembler.own_code import load_own

LEAST = 1e-7  # the least probability: a logit is finite


@dataclass(frozen=True)
class Estimated:
    """A fitted classifier and the scale of its features."""

    model: Any
    place: str
    scale: Mapping[str, NDArray[np.float32]]
    n_classes: int

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logarithms of its probabilities `[rows, classes]`."""
        if not len(x):
            return np.empty((0, self.n_classes), np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probs = np.asarray(self.model.predict_proba(scaled(x, self.scale)), np.float64)
        if probs.shape != (len(x), self.n_classes):
            raise RequestError(
                f"head {self.place}: predict_proba gave shape {probs.shape}, expected "
                f"{(len(x), self.n_classes)}"
            )
        if not np.isfinite(probs).all():
            raise RequestError(f"head {self.place}: predict_proba gave what is not finite")
        return np.log(np.maximum(probs, LEAST)).astype(np.float32)

    @property
    def state(self) -> State:
        """The classifier by skops; NotKeptError where skops is missing or does not know it."""
        values = {"place": self.place, "n_classes": self.n_classes}
        of_model = estimator_state(self.model, self.place)
        return State({**of_model.arrays, **self.scale}, values)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` was taken of; only what skops trusts and the place names is loaded."""
        place = str(state.values["place"])
        scale = {name: state.arrays[name] for name in ("mean", "std")}
        model = restored_estimator(state, place)
        return cls(model, place, scale, int(state.values["n_classes"]))


class OwnEstimator:
    """Fits the class at `module:Class` on standardised features."""

    def __init__(self, place: str, **arguments: Any) -> None:
        self.place, self.arguments = place, arguments
        self._new(0)  # arguments that it does not take are said at once

    def fit(self, problem: Problem) -> Estimated:
        """Fit a fresh one."""
        problem, scale = standardised(problem)
        model = self._new(problem.seed)
        weights = {}
        if problem.is_weighted:
            if "sample_weight" not in inspect.signature(model.fit).parameters:
                raise RequestError(
                    f"head {self.place} takes no sample_weight; leave sample_weights and "
                    "class_weights out"
                )
            weights = {"sample_weight": problem.weights}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model.fit(problem.x, problem.y, **weights)
            except Exception as error:  # a class of the user's own may raise anything
                raise RequestError(
                    f"head {self.place} cannot be fitted: {error}"
                ) from error
        return Estimated(model, self.place, scale, problem.n_classes)

    def _new(self, seed: int) -> Any:
        factory = load_own(self.place, "head")
        try:
            takes_seed = "random_state" in inspect.signature(factory).parameters
            drawn = {"random_state": seed} if takes_seed else {}
            model = factory(**{**drawn, **self.arguments})
        except (TypeError, ValueError) as error:
            raise RequestError(f"head {self.place}: {error}") from error
        if not (hasattr(model, "fit") and hasattr(model, "predict_proba")):
            raise RequestError(
                f"head {self.place} has no fit and predict_proba; expected a classifier of "
                "scikit-learn's kind that gives probabilities"
            )
        return model
