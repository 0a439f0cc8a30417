"""Which train rows an epoch sees: all of them, or a draw that balances unbalanced classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.training.losses import BETA
from ensembler.training.spec import Sampler


def epoch_size(sampler: Sampler, labels: NDArray[np.int64]) -> int:
    """How many rows an epoch has, of train rows with these `labels` `[rows]`."""
    counts = np.unique(labels, return_counts=True)[1]
    if sampler == "up":
        return int(counts.max() * len(counts))
    if sampler == "down":
        return int(counts.min() * len(counts))
    return len(labels)


def draw_rows(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    sampler: Sampler,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """The rows `[epoch]` of one epoch, drawn from `rows` with their `labels`; `weights` are those of sampler weights.

    balanced, sqrt and effective keep the epoch's length and draw a row with probability 1/n, 1/sqrt(n) or 1/(effective
    n) of its class; up repeats rows until every class has as many as the largest, down keeps as many as the smallest.
    """
    if sampler == "none":
        return rows
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if sampler in ("up", "down"):
        size = int(counts.max() if sampler == "up" else counts.min())
        return np.concatenate([_resize(rows[index == c], size, rng) for c in range(len(counts))])
    if sampler == "weights":
        assert weights is not None
        chances = weights
    else:
        n = counts.astype(np.float64)
        per_class = {"balanced": 1 / n, "sqrt": n**-0.5, "effective": (1 - BETA) / (1 - BETA**n)}[sampler]
        chances = per_class[index]
    return _systematic(rows, chances, rng)


def _resize(rows: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each row as often as every other, up to one."""
    repeats = [rng.permutation(rows) for _ in range(-(-size // len(rows)))]
    return np.concatenate(repeats)[:size]


def _systematic(rows: NDArray[np.int64], chances: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    # One random start and equal steps: a row comes as often as its chance says, up to one, so classes hit their shares.
    order = rng.permutation(len(rows))
    edges = np.cumsum(chances[order])
    points = (np.arange(len(rows)) + rng.random()) * (edges[-1] / len(rows))
    return rows[order[np.minimum(np.searchsorted(edges, points, side="right"), len(rows) - 1)]]
