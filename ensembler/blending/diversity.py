"""How members differ: where they disagree, whether they err together, and who saves which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool, some_rows

_ROWS = 20_000  # rows looked at in a large pool
_SHIFT = 0.02  # a difference in agreement below this is not worth a word


@dataclass(frozen=True)
class Diversity:
    """Members beside each other, on out-of-fold rows, in the order in which like stands by like.

    `disagreement` and `error_correlation` are `[members, members]`: the share of rows classified
    differently, and the correlation of being wrong. `saves` `[members, classes]` counts rows that
    the member gets right and the mean of the others gets wrong, `class_sizes` `[classes]` all rows.
    `agreement_oof` and `agreement_test` `[members]` are the mean agreement with the others;
    `shifted` names members whose agreement changes otherwise than the pool's.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    disagreement: NDArray[np.float64]
    error_correlation: NDArray[np.float64]
    saves: NDArray[np.int64]
    class_sizes: NDArray[np.int64]
    agreement_oof: NDArray[np.float64]
    agreement_test: NDArray[np.float64] | None
    shifted: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        plain = {
            k: v.tolist() if isinstance(v, np.ndarray) else v
            for k, v in self.__dict__.items()
        }
        return {
            **plain,
            "names": list(self.names),
            "classes": list(self.classes),
            "shifted": list(self.shifted),
        }


def diversity(pool: Pool) -> Diversity:
    """Compare the members of a pool; large pools are looked at on a part of their rows."""
    rows = some_rows(len(pool.y), _ROWS)
    stack, y = pool.oof[:, rows], pool.y[rows]
    chosen = np.stack([probs.argmax(axis=1) for probs in stack])
    wrong = chosen != y
    disagreement = 1 - _agreement(chosen, len(pool.classes))
    correlation = _correlation(wrong)
    order = _clustered(disagreement)
    oof = _mean_of_others(1 - disagreement)
    test, shifted = _on_test(pool, oof, len(y))
    return Diversity(
        names=tuple(pool.names[m] for m in order),
        classes=pool.classes,
        disagreement=disagreement[np.ix_(order, order)],
        error_correlation=correlation[np.ix_(order, order)],
        saves=_saves(stack, y, wrong)[order],
        class_sizes=np.bincount(y, minlength=len(pool.classes)),
        agreement_oof=oof[order],
        agreement_test=None if test is None else test[order],
        shifted=tuple(pool.names[m] for m in order if pool.names[m] in shifted),
    )


def _agreement(chosen: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    total = np.zeros((len(chosen), len(chosen)))
    for c in range(classes):
        says = (chosen == c).astype(np.float32)
        total += says @ says.T
    return total / chosen.shape[1]


def _correlation(wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    centred = wrong - wrong.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = centred @ centred.T / np.outer(deviation, deviation)
    # a member that is always right errs with nobody
    found = np.where(np.isfinite(found), found, 0.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def _clustered(disagreement: NDArray[np.float64]) -> list[int]:
    if len(disagreement) < 3:
        return list(range(len(disagreement)))
    from scipy.cluster.hierarchy import leaves_list, linkage

    above = disagreement[np.triu_indices(len(disagreement), 1)]
    return [
        int(i)
        for i in leaves_list(
            linkage(above, "average", optimal_ordering=len(disagreement) <= 200)
        )
    ]


def _mean_of_others(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    others = max(1, len(matrix) - 1)
    return np.asarray((matrix.sum(axis=1) - np.diag(matrix)) / others)


def _saves(
    stack: NDArray[np.floating], y: NDArray[np.int64], wrong: NDArray[np.bool_]
) -> NDArray[np.int64]:
    total = stack.sum(axis=0, dtype=np.float64)
    classes = stack.shape[2]
    found = np.zeros((len(stack), classes), np.int64)
    for m, probs in enumerate(stack):
        others_wrong = (total - probs).argmax(axis=1) != y
        found[m] = np.bincount(y[~wrong[m] & others_wrong], minlength=classes)
    return found


def _on_test(
    pool: Pool, oof: NDArray[np.float64], n_oof: int
) -> tuple[NDArray[np.float64] | None, Sequence[str]]:
    """Mean agreement with the others on test rows, and the members that change unlike the pool.

    The agreement is worked out fold by fold; the members are given by name.
    """
    if pool.test is None or pool.test[0].shape[1] == 0:
        return None, ()
    by_fold = []
    for stack in pool.test_stacks():
        chosen = np.stack([probs.argmax(axis=1) for probs in stack])
        by_fold.append(_mean_of_others(_agreement(chosen, len(pool.classes))))
    test = np.mean(by_fold, axis=0)
    change = test - oof
    unlike = np.abs(change - np.median(change))
    error = np.sqrt(oof * (1 - oof) * (1 / n_oof + 1 / pool.test[0].shape[1]))
    loud = unlike > np.maximum(_SHIFT, 4 * error)
    return test, [pool.names[m] for m in np.flatnonzero(loud)] if len(
        pool.names
    ) > 2 else ()
