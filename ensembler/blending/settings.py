"""How a blend is looked for, beside what its spec says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.judge import Judge
from ensembler.progress import QUIET, Progress


@dataclass(frozen=True)
class Settings:
    """The arguments of `make_blend` beside the pool and the spec; they are described there."""

    trust: Sequence[str] = ()
    budget: float | None = None
    explain: bool = False
    progress: Progress = QUIET
    part: NDArray[np.int64] | None = None
    judge: Judge | None = None
    chosen: str | None = None
