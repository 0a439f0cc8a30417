"""What candidates for a blend are compared by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Targets


@dataclass(frozen=True)
class Judge:
    """How candidates are compared: the `metric` of their predictions against `y`.

    The metric is that of what `see` makes of the predictions. Bootstraps draw rows of `y`, or whole
    `groups` of them.
    """

    metric: str
    y: Targets
    groups: NDArray[np.int64] | None
    see: Callable[[Probs], Probs] = lambda probs: probs
