"""Leaving out members that say nearly what a better one says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensembler.blending.pool import Stack, Targets, some_rows
from ensembler.metrics import check_metric, score

_ROWS = 1000  # enough to see how far two members lie apart


@dataclass(frozen=True)
class Twin:
    """A better member, by its position, and its distance from the one dropped for it."""

    member: int
    distance: float


def near_twins(stack: Stack, y: Targets, distance: float, metric: str) -> dict[int, Twin]:
    """Members nearer than `distance` to one that scores better and is kept, by their positions.

    The distance of two members is the mean total variation of their rows: half the summed absolute
    difference of their probabilities, from 0 (the same) to 1.
    """
    sign = -1 if check_metric(metric).greater_is_better else 1
    scores = np.array([sign * score(metric, probs, y) for probs in stack])
    rows = some_rows(len(y), _ROWS)
    sample = np.stack([np.asarray(probs[rows], np.float32) for probs in stack])
    kept: list[int] = []
    found: dict[int, Twin] = {}
    for m in np.argsort(np.nan_to_num(scores, nan=np.inf), kind="stable"):
        apart = [float(np.abs(sample[m] - sample[k]).sum(axis=1).mean() / 2) for k in kept]
        near = int(np.argmin(apart)) if apart else -1
        if apart and apart[near] < distance:
            found[int(m)] = Twin(kept[near], apart[near])
        else:
            kept.append(int(m))
    return found
