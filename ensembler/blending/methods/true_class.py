"""The probabilities that members give to the true class.

The log loss of a linear pool depends on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Stack, Targets
from ensembler.blending.registry import check_shape, check_values
from ensembler.logits import FLOOR


def true_class_column(stack: Stack, y: Targets) -> NDArray[np.float32]:
    """Probabilities of the true class, float32 `[members, rows]`.

    The log loss of a linear pool depends on nothing else. Checks the stack on the way, as
    `check_stack` does: it may be larger than memory and is read once, in its order.
    """
    stack, y = check_shape(stack, y), np.asarray(y)
    column = np.empty(stack.shape[:2], np.float32)
    at = np.arange(stack.shape[1]) * stack.shape[2] + y
    for probs, out in zip(stack, column, strict=True):
        check_values(probs)
        out[:] = probs.reshape(-1)[at]
        np.maximum(out, np.float32(FLOOR), out=out)
    return column
