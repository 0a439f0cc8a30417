"""Checkpoints predict: made ready by their engines, all in one pass over the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ensembler.data.pixels import Pixels
from ensembler.members.engines import Engines
from ensembler.members.plan import MemberPlan
from ensembler.progress import QUIET, Progress

if TYPE_CHECKING:
    from ensembler.inference.one_pass import PredictionRequest
    from ensembler.inference.predictor import Predictor
    from ensembler.predictions.chunks import ChunkedLogits


def predict_checkpoints(
    requests: Sequence[tuple[MemberPlan, PredictionRequest]],
    pixels: Pixels,
    engines: Engines,
    *,
    progress: Progress = QUIET,
    step: str = "predicting",
) -> list[ChunkedLogits]:
    """The logits of each request, by the engine of its member; whole chunks outlive this process.

    Raises NotFiniteError with the name of the request whose logits are not finite.
    """
    from ensembler.inference.one_pass import run_pass

    plan_of = {request.out: plan for plan, request in requests}

    def load(missing: Sequence[PredictionRequest]) -> list[Predictor]:
        return [
            engines.predictor(
                plan_of[one.out], one.path, pixels, np.concatenate(one.rows), one.name
            )
            for one in missing
        ]

    return run_pass(
        [request for _, request in requests],
        pixels,
        load,
        device=engines.execution.device,
        progress=progress,
        step=step,
    )
