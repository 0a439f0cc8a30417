"""Boosted trees of LightGBM, kept as its own text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.state import State
from ensembler.errors import MissingExtraError, RequestError
from ensembler.estimators.problem import Problem

_USUAL = {
    "n_estimators": 200,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 10,
    "colsample_bytree": 0.5,
    "subsample": 0.8,
    "subsample_freq": 1,
}


@dataclass(frozen=True)
class Boosted:
    """Boosted trees as the bytes of their text."""

    text: NDArray[np.uint8]
    n_classes: int

    @cached_property
    def _booster(self) -> Any:
        return _lightgbm().Booster(model_str=self.text.tobytes().decode())

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits `[rows, classes]`."""
        if not len(x):
            return np.empty((0, self.n_classes), np.float32)
        raw = np.asarray(self._booster.predict(x, raw_score=True), np.float32)
        if raw.ndim == 1:
            raw = np.stack([np.zeros_like(raw), raw], axis=1)
        return raw

    @property
    def state(self) -> State:
        """All it has learned."""
        return State({"text": self.text}, {"n_classes": self.n_classes})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` was taken of."""
        return cls(state.arrays["text"], int(state.values["n_classes"]))


class LightGBM:
    """Gradient boosting by LightGBM; `head_args` are those of its LGBMClassifier."""

    takes_categories = True

    def __init__(self, **arguments: Any) -> None:
        _lightgbm()
        self.arguments = arguments

    def fit(self, problem: Problem) -> Boosted:
        """Fit the trees."""
        settings = {**_USUAL, **self.arguments}
        fixed = {"deterministic": True, "force_row_wise": True, "verbose": -1}
        model = _lightgbm().LGBMClassifier(
            random_state=problem.seed, **fixed, n_jobs=1, **settings
        )
        weights = problem.weights if problem.is_weighted else None
        named = problem.is_category
        codes = [] if named is None else np.flatnonzero(named).tolist()
        try:
            model.fit(
                problem.x,
                problem.y,
                sample_weight=weights,
                categorical_feature=codes or "auto",
            )
        except (TypeError, ValueError, _lightgbm().basic.LightGBMError) as error:
            raise RequestError(f"head lightgbm cannot be fitted: {error}") from error
        text = model.booster_.model_to_string().encode()
        return Boosted(np.frombuffer(text, np.uint8), problem.n_classes)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtraError("head: lightgbm", "lightgbm") from error
    return lightgbm
