"""What a head is fitted on, and what every head and every fitted head owes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.state import State


@dataclass(frozen=True)
class Problem:
    """Rows to fit on: features `[rows, features]`, labels `[rows]` 0 ... `n_classes` - 1.

    `weights` `[rows]` say how much each row counts, `groups` `[rows]` which rows stay together
    where rows are divided once more; None: each by itself. `is_category` says which features are
    codes of categories, of which NaN is none. Every class has a row.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    n_classes: int
    weights: NDArray[np.float64]
    groups: NDArray[np.int64] | None = None
    seed: int = 0
    is_category: NDArray[np.bool_] | None = None

    @property
    def is_weighted(self) -> bool:
        """Whether some row counts more than another."""
        return bool(np.ptp(self.weights) > 0)

    def of_rows(self, rows: NDArray[np.int64]) -> Problem:
        """The same of some rows; a class may then have none."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            weights=self.weights[rows],
            groups=groups,
        )


class FittedHead(Protocol):
    """A fitted head: features `[rows, features]` -> logits float32 `[rows, classes]`."""

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of rows, finite."""
        ...

    @property
    def state(self) -> State:
        """All it has learned; NotKeptError where it cannot be kept."""
        ...

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The head that `state` was taken of."""
        ...


class Head(Protocol):
    """Fits features to labels; made of the arguments that a recipe gives it."""

    def __init__(self, **arguments: Any) -> None: ...

    def fit(self, problem: Problem) -> FittedHead:
        """The fitted head; RequestError for weights that it cannot take."""
        ...


def standardised(problem: Problem) -> tuple[Problem, Mapping[str, NDArray[np.float32]]]:
    """The problem with features of mean 0 and deviation 1, and that mean and deviation."""
    mean = problem.x.mean(axis=0, dtype=np.float64)
    std = problem.x.std(axis=0, dtype=np.float64)
    # a feature that never changes says nothing, and must not become large for a new image
    std = np.where(std > 1e-6 * (1 + np.abs(mean)), std, np.inf)
    scale = {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
    return replace(problem, x=scaled(problem.x, scale)), scale


def scaled(
    x: NDArray[np.float32], scale: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Features with their mean taken away, divided by their deviation."""
    return np.asarray((x - scale["mean"]) / scale["std"], np.float32)
