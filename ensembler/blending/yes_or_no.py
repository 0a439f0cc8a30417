"""Each label of each sample as a row of its own, which says no or yes: two columns for one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Stack
from ensembler.machine.memory import room


def two_columns(probs: Stack) -> Stack:
    """Probabilities of labels as those of the two classes no and yes.

    Turns `[members, samples, labels]` into `[members, samples * labels, 2]`.
    """
    members, samples, labels = probs.shape
    out = room((members, samples * labels, 2))
    for one, both in zip(probs, out, strict=True):
        both[:, 1] = one.ravel()
        both[:, 0] = 1 - both[:, 1]
    return out


def one_column(rows: Probs, labels: int) -> NDArray[np.float64]:
    """Probabilities of yes `[samples, labels]` from those of no and yes `[samples * labels, 2]`."""
    return np.asarray(rows[:, 1], np.float64).reshape(-1, labels)
