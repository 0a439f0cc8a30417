"""The nearest neighbours of an image by the angle of their standardised features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.state import State
from ensembler.errors import RequestError
from ensembler.estimators.choosing import chosen
from ensembler.estimators.problem import Problem, scaled, standardised

_COUNTS = (5, 15, 45)
_TEMPERATURE = 0.07  # of similarities, as DINO votes (Caron et al., 2021)
_BLOCK = 2048  # rows compared at once


@dataclass(frozen=True)
class Remembered:
    """Directions `[rows, features]` with labels and weights `[rows]`; `k` of them vote.

    `prior` `[classes]` is one more vote: a class that no neighbour has is not impossible.
    """

    directions: NDArray[np.float32]
    y: NDArray[np.int64]
    weights: NDArray[np.float32]
    prior: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    k: int

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logarithms of the votes `[rows, classes]`."""
        blocks = [self._of_block(x[at : at + _BLOCK]) for at in range(0, len(x), _BLOCK)]
        return np.concatenate([np.empty((0, len(self.prior)), np.float32), *blocks])

    def _of_block(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        x = scaled(x, {"mean": self.mean, "std": self.std})
        alike = _directions(x) @ self.directions.T
        nearest = np.argsort(-alike, axis=1, kind="stable")[:, : self.k]
        near = np.take_along_axis(alike, nearest, axis=1)
        votes = np.exp((near - near[:, :1]) / _TEMPERATURE) * self.weights[nearest]
        shares = np.zeros((len(x), len(self.prior)))
        for rank in range(nearest.shape[1]):
            shares[np.arange(len(x)), self.y[nearest[:, rank]]] += votes[:, rank]
        total = shares.sum(axis=1, keepdims=True)
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
        probs = (self.k * shares + self.prior) / (self.k + 1)
        return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)

    @property
    def state(self) -> State:
        """All it remembers."""
        names = ("directions", "y", "weights", "prior", "mean", "std")
        return State({name: getattr(self, name) for name in names}, {"k": self.k})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` was taken of."""
        return cls(**state.arrays, k=int(state.values["k"]))


class Neighbours:
    """Votes of the nearest train rows; how many vote is chosen by cross-validation inside."""

    def __init__(self, **arguments: Any) -> None:
        unknown = sorted(set(arguments) - {"k"})
        if unknown:
            raise RequestError(f"head_args: the head knn takes k, not {unknown[0]}")
        given = arguments.get("k")
        is_count = given is None or (isinstance(given, int) and given >= 1)
        if not is_count:
            raise RequestError(f"head_args: k {given!r} should be a whole number from 1 on")
        self.counts = _COUNTS if given is None else (given,)

    def fit(self, problem: Problem) -> Remembered:
        """Remember the rows."""
        counts = sorted({min(count, len(problem.y)) for count in self.counts})
        k, _ = chosen(problem, counts, self._decide, scale=False)
        return _remembered(problem, k)

    def _decide(self, problem: Problem, k: int) -> Any:
        return _remembered(problem, min(k, len(problem.y))).logits


def _remembered(problem: Problem, k: int) -> Remembered:
    problem, scale = standardised(problem)
    counts = np.bincount(problem.y, problem.weights, problem.n_classes) + 1e-6
    return Remembered(
        _directions(problem.x),
        problem.y,
        problem.weights.astype(np.float32),
        (counts / counts.sum()).astype(np.float32),
        **scale,
        k=k,
    )


def _directions(x: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(length, 1e-12), np.float32)
