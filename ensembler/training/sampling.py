"""Which train rows an epoch sees: all of them, or a draw that balances unbalanced classes.

A sampler is a function of the labels `[rows]` of the train rows (-1 = unknown) and a random
generator. It gives positions `[epoch]` among those rows, equally many in every epoch. Rows without
a label are no class: they are drawn with the mean chance, or once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.estimators.weights import BETA
from ensembler.own_code import is_own, load_own
from ensembler.training.catalogue import SAMPLERS

Rows: TypeAlias = NDArray[np.int64]  # positions, or row numbers
Sampler: TypeAlias = Callable[[NDArray[np.int64], np.random.Generator], Rows]


def epoch_size(name: str, labels: NDArray[np.int64]) -> int:
    """How many rows an epoch has, of train rows with these `labels` `[rows]` (-1 = unknown)."""
    sampler = find_sampler(name, np.ones(len(labels)))
    return len(sampler(labels, np.random.default_rng(0)))


def draw_rows(
    rows: Rows,
    labels: NDArray[np.int64],
    name: str,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> Rows:
    """The rows `[epoch]` of one epoch, drawn from `rows` by the sampler called `name`.

    `weights` `[rows]` are those of the sampler `weights`. RequestError when no row has one.
    """
    return rows[find_sampler(name, weights)(labels, rng)]


def find_sampler(name: str, weights: NDArray[np.float64] | None = None) -> Sampler:
    """The sampler called `name`: ours, another package's, or the user's own."""
    found: Any = load_own(name, "sampler") if is_own(name) else SAMPLERS.load(name)
    if name in SAMPLERS.places:
        needs_weights = "weights" in inspect.signature(found).parameters
        return partial(found, weights=weights) if needs_weights else found
    return partial(_watched, name, found)


def check_sampler(name: str) -> None:
    """Raise RequestError for a sampler that cannot be loaded or called."""
    found: Any = load_own(name, "sampler") if is_own(name) else SAMPLERS.load(name)
    if not callable(found):
        raise RequestError(f"sampler {name!r} is not a function (labels, rng) -> positions")
    if name in SAMPLERS.places:
        return
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        raise RequestError(
            f"sampler {name!r} takes {inspect.signature(found)}; expected a function "
            "(labels, rng) -> positions"
        ) from error


def _watched(
    name: str, sampler: Sampler, labels: NDArray[np.int64], rng: np.random.Generator
) -> Rows:
    """What a sampler that is not ours draws: positions of rows that there are."""
    try:
        drawn = np.asarray(sampler(labels.copy(), rng))
    except Exception as error:
        raise RequestError(
            f"sampler {name!r} failed on {len(labels)} labels: {type(error).__name__}: {error}"
        ) from error
    is_list = drawn.ndim == 1 and len(drawn) > 0 and np.issubdtype(drawn.dtype, np.integer)
    if not is_list or drawn.min() < 0 or drawn.max() >= len(labels):
        raise RequestError(
            f"sampler {name!r} returned {drawn.dtype} {list(drawn.shape)}; expected positions, "
            f"whole numbers from 0 to {len(labels) - 1}"
        )
    return drawn.astype(np.int64)


def all_rows(labels: NDArray[np.int64], _rng: np.random.Generator) -> Rows:
    """Every row once, in order."""
    return np.arange(len(labels))


def balanced(labels: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """As many rows as there are, every class equally often."""
    return _by_class(labels, rng, lambda n: 1 / n)


def square_root(labels: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """As many rows as there are, a class as often as the square root of its size."""
    return _by_class(labels, rng, lambda n: n**-0.5)


def effective(labels: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """As many rows as there are, a row with the inverse of its class's effective number."""
    return _by_class(labels, rng, lambda n: (1 - BETA) / (1 - BETA**n))


def up(labels: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """Rows repeated until every class has as many as the largest."""
    return _resized(labels, rng, max)


def down(labels: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """As many rows of every class as the smallest has."""
    return _resized(labels, rng, min)


def weighted(
    labels: NDArray[np.int64], rng: np.random.Generator, weights: NDArray[np.float64]
) -> Rows:
    """As many rows as there are, each as often as its weight says."""
    if not weights.sum() > 0:
        raise RequestError(
            "sampler: weights: the weights of the train rows sum to 0; give some of them a weight"
        )
    return _systematic(len(labels), weights, rng)


def _by_class(
    labels: NDArray[np.int64],
    rng: np.random.Generator,
    chance: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Rows:
    """Draw rows with a chance that the size of their class decides."""
    known = labels >= 0
    _, index, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    n = counts.astype(np.float64)
    of_class = chance(n)
    chances = np.full(len(labels), (of_class * n).sum() / n.sum())
    chances[known] = of_class[index]
    return _systematic(len(labels), chances, rng)


def _resized(
    labels: NDArray[np.int64],
    rng: np.random.Generator,
    size_of: Callable[[NDArray[np.int64]], int],
) -> Rows:
    """Draw equally many rows of every class, each as often as every other, up to one."""
    known = np.flatnonzero(labels >= 0)
    _, index, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    size = int(size_of(counts))
    drawn = [_repeated(known[index == c], size, rng) for c in range(len(counts))]
    return np.concatenate([*drawn, np.flatnonzero(labels < 0)])


def _repeated(rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    times = -(-size // len(rows))
    repeats = [rng.permutation(rows) for _ in range(times)]
    return np.concatenate(repeats)[:size]


def _systematic(n: int, chances: NDArray[np.float64], rng: np.random.Generator) -> Rows:
    # One random start and equal steps: a row comes as often as its chance says, up to one, so
    # classes hit their shares.
    order = rng.permutation(n)
    edges = np.cumsum(chances[order])
    points = (np.arange(n) + rng.random()) * (edges[-1] / n)
    found = np.searchsorted(edges, points, side="right")
    return order[np.minimum(found, n - 1)]
