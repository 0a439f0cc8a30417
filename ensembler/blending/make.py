"""From a pool and a spec to a blend: fitted, scored three ways, compared with its best member."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.judge import Judge
from ensembler.blending.multi_label import blend_label_sets
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult
from ensembler.blending.settings import Settings
from ensembler.blending.single_label import blend_single_labels
from ensembler.blending.spec import BlendSpec
from ensembler.progress import QUIET, Progress


def make_blend(  # noqa: PLR0913 in notebooks: a keyword for each thing that may be asked for
    pool: Pool,
    spec: BlendSpec,
    *,
    trust: Sequence[str] = (),
    budget: float | None = None,
    explain: bool = False,
    progress: Progress = QUIET,
    part: NDArray[np.int64] | None = None,
    judge: Judge | None = None,
    chosen: str | None = None,
) -> BlendResult:
    """Find the blend that `spec` asks for, over rows with one label each or with several at once.

    `auto` leaves out members that look leaked unless they are in `trust`, and stops comparing after
    `budget` seconds; a greedy or hill-climbing search shares them with its cross-fitting. `explain`
    takes the time to fit the blend without each member, and keeps reliability tables. `part`
    `[rows]` are the parts of cross-fitting, where blends that build on each other share them;
    `judge` says what `auto` compares by where that is not `spec.metric` of the pool, and `chosen`
    what it took when the same blend was made before.
    """
    settings = Settings(trust, budget, explain, progress, part, judge, chosen)
    blend = blend_label_sets if pool.y.ndim == 2 else blend_single_labels
    return blend(pool, spec, settings)
