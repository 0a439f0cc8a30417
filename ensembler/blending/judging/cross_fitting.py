"""Cross-fitting: a blend scored on rows it was not fitted on.

Parts are random rows stratified by class and fold, not the folds themselves: a left-out fold would
hide the very checkpoints that the test rows meet. With groups, whole groups stay together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.stopping import whole_searches
from ensembler.blending.pool import Stack, StackPart, Targets
from ensembler.blending.registry import Fittable
from ensembler.progress import QUIET, Progress

PARTS = 5


def fitting_parts(
    y: Targets,
    folds: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    *,
    parts: int = PARTS,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The part `[rows]` in which each row is scored.

    Rows of one class and fold are dealt out in turn, starting anywhere; groups are dealt out by
    falling size, each to the part that has the fewest rows of its most frequent class.
    """
    rng = np.random.default_rng(seed)
    parts = max(2, min(parts, len(y)))
    if groups is not None and len(np.unique(groups)) >= 2:
        return _parts_of_groups(y, groups, parts, rng)
    shuffled = rng.permutation(len(y))
    order = shuffled[np.lexsort((folds[shuffled], y[shuffled]))]
    part = np.empty(len(y), np.int64)
    part[order] = (np.arange(len(y)) + rng.integers(parts)) % parts
    return part


def _parts_of_groups(
    y: Targets, groups: NDArray[np.int64], parts: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    unique, index = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(unique), int(y.max()) + 1))
    np.add.at(counts, (index, y), 1)
    wanted = counts.sum(axis=0) / min(parts, len(unique))
    filled = np.zeros((min(parts, len(unique)), counts.shape[1]))
    part_of_group = np.empty(len(unique), np.int64)
    shuffled = rng.permutation(len(unique))
    for group in shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]:
        # The part that most lacks what this group holds; classes weigh by how rare they are.
        lacking = ((wanted - filled) / np.maximum(wanted, 1)) @ counts[group]
        best = int(np.argmax(lacking))
        part_of_group[group] = best
        filled[best] += counts[group]
    return part_of_group[index]


def splits(
    part: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to fit on and rows to score, for each part."""
    for p in np.unique(part):
        yield np.flatnonzero(part != p), np.flatnonzero(part == p)


def fit_with_parts(
    method: Fittable, stack: Stack, y: Targets, part: NDArray[np.int64]
) -> Fittable:
    """Fit the method, and pass it the parts `[rows]` if it leaves rows out itself.

    Groups then stay together.
    """
    if "part" in inspect.signature(method.fit).parameters:
        fit: Any = method.fit
        fit(stack, y, part=part)
        return method
    return method.fit(stack, y)


def cross_fit(
    make: Callable[[], Fittable],
    stack: Stack,
    y: Targets,
    part: NDArray[np.int64],
    progress: Progress = QUIET,
    step: str = "cross-fitting",
) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]`, each row's by a blend fitted on the other parts.

    `step` is shown on `progress`, the fit on all rows counting as the first.
    """
    n_fits = 1 + len(np.unique(part))
    out = np.empty(stack.shape[1:], np.float64)
    for done, (fit_rows, score_rows) in enumerate(splits(part)):
        progress.step(step, 1 + done, n_fits)
        method = make()
        of_part = StackPart(stack, rows=fit_rows).for_method(method)
        with whole_searches():
            fit_with_parts(method, of_part, y[fit_rows], part[fit_rows])
        out[score_rows] = method.predict_proba(
            StackPart(stack, rows=score_rows).for_method(method)
        )
    return out
