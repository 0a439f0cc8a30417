"""Boosted trees of scikit-learn, which take missing values and categories as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.estimators import estimator_state, restored_estimator
from ensembler.blending.state import State
from ensembler.errors import RequestError
from ensembler.estimators.problem import Problem

_USUAL = {"max_iter": 150, "learning_rate": 0.06, "max_leaf_nodes": 15}


@dataclass(frozen=True)
class GrownTrees:
    """Fitted trees."""

    model: Any
    n_classes: int

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits `[rows, classes]`."""
        if not len(x):
            return np.empty((0, self.n_classes), np.float32)
        raw = np.asarray(self.model.decision_function(x), np.float32)
        if raw.ndim == 1:
            raw = np.stack([np.zeros_like(raw), raw], axis=1)
        return raw

    @property
    def state(self) -> State:
        """The trees by skops; NotKeptError where it is missing."""
        return State(
            estimator_state(self.model, None).arrays, {"n_classes": self.n_classes}
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` was taken of."""
        return cls(restored_estimator(state, None), int(state.values["n_classes"]))


class Trees:
    """Gradient boosting by histograms; `head_args` are HistGradientBoostingClassifier's."""

    takes_categories = True

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self._new(0)  # arguments that it does not take are said at once

    def fit(self, problem: Problem) -> GrownTrees:
        """Fit the trees."""
        named: dict[str, Any] = {}
        if problem.is_category is not None and problem.is_category.any():
            named["categorical_features"] = problem.is_category
        weights = problem.weights if problem.is_weighted else None
        model = self._new(problem.seed, **named)
        try:
            model.fit(problem.x, problem.y, sample_weight=weights)
        except (TypeError, ValueError) as error:
            raise RequestError(f"head trees cannot be fitted: {error}") from error
        return GrownTrees(model, problem.n_classes)

    def _new(self, seed: int, **named: Any) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        usual = {**_USUAL, "early_stopping": False, "random_state": seed}
        try:
            return HistGradientBoostingClassifier(**{**usual, **named, **self.arguments})
        except TypeError as error:
            raise RequestError(f"head_args: {error}") from error
