"""Heads that are layers: logistic regression, discriminants, ridge, a small perceptron."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.state import State
from ensembler.errors import RequestError
from ensembler.estimators.choosing import chosen
from ensembler.estimators.problem import Problem, standardised

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression
_PENALTIES = (1.0, 1e2, 1e3, 1e4, 1e5)  # alpha of ridge


@dataclass(frozen=True)
class Layers:
    """Matrices `[in, out]` with biases, and a rectifier between each two: the last gives logits."""

    matrices: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits `[rows, classes]` of features `[rows, features]`."""
        out = x
        last = len(self.matrices) - 1
        for n, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            out = out @ matrix + bias
            if n < last:
                out = np.maximum(out, 0)
        return np.asarray(out, np.float32)

    @property
    def state(self) -> State:
        """All it has learned."""
        arrays = {f"matrix{n}": matrix for n, matrix in enumerate(self.matrices)}
        arrays |= {f"bias{n}": bias for n, bias in enumerate(self.biases)}
        return State(arrays, {"layers": len(self.matrices)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The layers that `state` was taken of."""
        numbers = range(int(state.values["layers"]))
        return cls(
            tuple(state.arrays[f"matrix{n}"] for n in numbers),
            tuple(state.arrays[f"bias{n}"] for n in numbers),
        )


def _layers(
    matrices: Sequence[NDArray[np.floating]],
    biases: Sequence[NDArray[np.floating]],
    factor: float,
    scale: Mapping[str, NDArray[np.floating]],
) -> Layers:
    """The layers of a fit on standardised features, as layers of the features as they are.

    The last one's logits are multiplied by `factor`; where it has one column, that is the logit of
    the second of two classes.
    """
    found = [np.asarray(matrix, np.float64) for matrix in matrices]
    added = [np.asarray(bias, np.float64) for bias in biases]
    if found[-1].shape[1] == 1:
        found[-1] = np.hstack([np.zeros_like(found[-1]), found[-1]])
        added[-1] = np.concatenate([np.zeros(1), added[-1].reshape(1)])
    found[-1], added[-1] = factor * found[-1], factor * added[-1]
    first = found[0] / np.asarray(scale["std"], np.float64)[:, None]
    added[0] = added[0] - np.asarray(scale["mean"], np.float64) @ first
    found[0] = first
    return Layers(
        tuple(np.asarray(matrix, np.float32) for matrix in found),
        tuple(np.asarray(bias, np.float32) for bias in added),
    )


class _Scikit:
    """A head whose classifier of scikit-learn ends up as layers."""

    settings: tuple[dict[str, Any], ...] = ({},)
    scales = False  # whether logits are scaled to the least log loss on rows left out
    takes_weights = True

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self._new(0, {})  # arguments that it does not take are said at once

    def classifier(self, seed: int, **setting: Any) -> Any:
        """A fresh classifier of scikit-learn."""
        raise NotImplementedError

    def layers_of(self, model: Any) -> tuple[list[Any], list[Any]]:
        """Matrices `[in, out]` and biases of a fitted classifier."""
        return [np.atleast_2d(model.coef_).T], [np.atleast_1d(model.intercept_)]

    def fit(self, problem: Problem) -> Layers:
        """Fit, after the setting was chosen by cross-validation inside."""
        if problem.is_weighted and not self.takes_weights:
            name = type(self).__name__.lower()
            raise RequestError(
                f"head {name} takes no weights of rows; leave sample_weights and class_weights "
                "out, or take logistic"
            )
        problem, scale = standardised(problem)
        setting, factor = chosen(problem, self._settings, self._decide, scale=self.scales)
        model = self._fitted(problem, setting)
        matrices, biases = self.layers_of(model)
        return _layers(matrices, biases, factor, scale)

    @property
    def _settings(self) -> tuple[dict[str, Any], ...]:
        """The settings to choose from; what the recipe gives is not chosen."""
        found: list[dict[str, Any]] = []
        for setting in self.settings:
            free = {k: v for k, v in setting.items() if k not in self.arguments}
            if free not in found:
                found.append(free)
        return tuple(found)

    def _fitted(self, problem: Problem, setting: Mapping[str, Any]) -> Any:
        model = self._new(problem.seed, setting)
        weights = {"sample_weight": problem.weights} if problem.is_weighted else {}
        with warnings.catch_warnings():
            # more steps change little, and which setting is best is looked at anyway
            warnings.simplefilter("ignore")
            try:
                return model.fit(problem.x.astype(np.float64), problem.y, **weights)
            except (TypeError, ValueError) as error:
                raise RequestError(f"the head cannot be fitted: {error}") from error

    def _new(self, seed: int, setting: Mapping[str, Any]) -> Any:
        try:
            return self.classifier(seed, **{**setting, **self.arguments})
        except TypeError as error:
            raise RequestError(f"head_args: {error}") from error

    def _decide(self, problem: Problem, setting: Mapping[str, Any]) -> Any:
        matrices, biases = self.layers_of(self._fitted(problem, setting))
        n_features = problem.x.shape[1]
        as_it_is = {"mean": np.zeros(n_features), "std": np.ones(n_features)}
        return _layers(matrices, biases, 1.0, as_it_is).logits


class Logistic(_Scikit):
    """Logistic regression; how much it is regularised is chosen by cross-validation inside."""

    settings = tuple({"C": strength} for strength in _STRENGTHS)

    def classifier(self, seed: int, **setting: Any) -> Any:
        """Multinomial, by L-BFGS."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(**{"max_iter": 200, "random_state": seed, **setting})


class Discriminant(_Scikit):
    """Linear discriminant analysis with shrunk covariances, its logits scaled by rows left out."""

    scales = True
    takes_weights = False

    def classifier(self, seed: int, **setting: Any) -> Any:  # noqa: ARG002 it draws nothing
        """By least squares, the covariance shrunk as Ledoit and Wolf (2004) do."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis(
            **{"solver": "lsqr", "shrinkage": "auto", **setting}
        )


class Ridge(_Scikit):
    """Ridge regression on -1 and 1, its logits scaled by rows left out."""

    settings = tuple({"alpha": penalty} for penalty in _PENALTIES)
    scales = True

    def classifier(self, seed: int, **setting: Any) -> Any:
        """One column for each class, one for two."""
        from sklearn.linear_model import RidgeClassifier

        return RidgeClassifier(**{"random_state": seed, **setting})


class Perceptron(_Scikit):
    """A perceptron with one hidden layer, its logits scaled by rows left out."""

    scales = True

    def classifier(self, seed: int, **setting: Any) -> Any:
        """256 rectifiers, by Adam."""
        from sklearn.neural_network import MLPClassifier

        usual = {"hidden_layer_sizes": (256,), "alpha": 1e-2, "max_iter": 40}
        if "activation" in setting and setting["activation"] != "relu":
            raise RequestError("head_args: activation of the head mlp is relu")
        return MLPClassifier(**{**usual, "random_state": seed, **setting})

    def layers_of(self, model: Any) -> tuple[list[Any], list[Any]]:
        """Its layers."""
        return list(model.coefs_), list(model.intercepts_)
