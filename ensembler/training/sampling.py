"""Which train rows an epoch sees: all of them, or a draw that balances unbalanced classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.training.losses import BETA
from ensembler.training.spec import Sampler


def epoch_size(sampler: Sampler, labels: NDArray[np.int64]) -> int:
    """How many rows an epoch has, of train rows with these `labels` `[rows]` (-1 = unknown)."""
    counts = np.unique(labels[labels >= 0], return_counts=True)[1]
    unknown = int((labels < 0).sum())
    if sampler == "up":
        return int(counts.max() * len(counts)) + unknown
    if sampler == "down":
        return int(counts.min() * len(counts)) + unknown
    return len(labels)


def draw_rows(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    sampler: Sampler,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """The rows `[epoch]` of one epoch, drawn from `rows` with their `labels`.

    `weights` are those of sampler weights. balanced, sqrt and effective keep the epoch's length and
    draw a row with probability 1/n, 1/sqrt(n) or 1/(effective n) of its class; up repeats rows
    until every class has as many as the largest, down keeps as many as the smallest. Rows without a
    label (-1) are no class: they are drawn with the mean chance, or once. Raises RequestError when
    no row has a weight.
    """
    if sampler == "none":
        return rows
    known = labels >= 0
    _, index, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    if sampler in ("up", "down"):
        size = int(counts.max() if sampler == "up" else counts.min())
        drawn = [_resize(rows[known][index == c], size, rng) for c in range(len(counts))]
        return np.concatenate([*drawn, rows[~known]])
    if sampler == "weights":
        assert weights is not None
        if not weights.sum() > 0:
            raise RequestError(
                "sampler: weights: the weights of the train rows sum to 0; give some of them a "
                "weight"
            )
        return _systematic(rows, weights, rng)
    n = counts.astype(np.float64)
    per_class = {"balanced": 1 / n, "sqrt": n**-0.5, "effective": (1 - BETA) / (1 - BETA**n)}[
        sampler
    ]
    chances = np.full(len(rows), (per_class * n).sum() / n.sum())
    chances[known] = per_class[index]
    return _systematic(rows, chances, rng)


def _resize(rows: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each row as often as every other, up to one."""
    repeats = [rng.permutation(rows) for _ in range(-(-size // len(rows)))]
    return np.concatenate(repeats)[:size]


def _systematic(
    rows: NDArray[np.int64], chances: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    # One random start and equal steps: a row comes as often as its chance says, up to one, so
    # classes hit their shares.
    order = rng.permutation(len(rows))
    edges = np.cumsum(chances[order])
    points = (np.arange(len(rows)) + rng.random()) * (edges[-1] / len(rows))
    return rows[order[np.minimum(np.searchsorted(edges, points, side="right"), len(rows) - 1)]]
