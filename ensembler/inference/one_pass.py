"""One pass over the pixels for many checkpoints: each image is read once, each view made once.

What is predicted goes to mapped files chunk by chunk (`ensembler.predictions.chunks`): memory does
not grow with the number of images, and a pass that was ended goes on with the chunks that are
missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixels import Pixels
from ensembler.errors import NotFiniteError
from ensembler.inference.predictor import BATCH, Predictor, predict_batch
from ensembler.inference.views import View
from ensembler.predictions.arrays import release
from ensembler.predictions.chunks import ChunkedLogits
from ensembler.progress import QUIET, Progress


@dataclass(frozen=True)
class PredictionRequest:
    """What one checkpoint is to predict: which views of which images, and where to.

    `rows` are positions among the images, in parts (those it validates, the test images);
    checkpoints that share a part meet it in one go.
    """

    name: str
    path: Path
    classes: int
    views: tuple[View, ...]
    rows: tuple[NDArray[np.int64], ...]
    out: Path


Load = Callable[[Sequence[PredictionRequest]], Sequence[Predictor]]


def run_pass(
    requests: Sequence[PredictionRequest],
    pixels: Pixels,
    load: Load,
    *,
    device: str = "auto",
    progress: Progress = QUIET,
    step: str = "predicting",
) -> list[ChunkedLogits]:
    """The logits of each checkpoint, its parts one after the other.

    `load` is called for what is not whole yet, and `step` of so many images is shown on `progress`.
    Raises NotFiniteError for logits that are not
    finite.
    """
    logits = [
        ChunkedLogits.open(
            a.out, len(a.views), tuple(len(part) for part in a.rows), a.classes
        )
        for a in requests
    ]
    missing = [i for i, found in enumerate(logits) if not found.is_whole]
    if not missing:
        return logits
    predictors = dict(zip(missing, load([requests[i] for i in missing]), strict=True))
    chunks = _missing_chunks(requests, logits)
    total, done = sum(len(chunk.rows) for chunk in chunks), 0
    for chunk in chunks:
        began = time.perf_counter()
        _predict_chunk(chunk, requests, logits, predictors, pixels, device)
        seconds = time.perf_counter() - began
        n_views = sum(len(requests[i].views) for i in chunk.starts)
        for i, start in chunk.starts.items():
            logits[i].keep(start, seconds * len(requests[i].views) / n_views)
        release(pixels)
        done += len(chunk.rows)
        progress.step(step, done, total)
    return logits


@dataclass(frozen=True)
class _Chunk:
    """Images to read, and for each checkpoint the place of their first row in its logits."""

    rows: NDArray[np.int64]
    starts: dict[int, int]


def _missing_chunks(
    requests: Sequence[PredictionRequest], logits: Sequence[ChunkedLogits]
) -> list[_Chunk]:
    chunks: dict[bytes, _Chunk] = {}
    for i, (one, found) in enumerate(zip(requests, logits, strict=True)):
        rows = np.concatenate(one.rows)
        for start, stop in found.starts.items():
            if start not in found.seconds:
                of_chunk = rows[start:stop]
                chunks.setdefault(of_chunk.tobytes(), _Chunk(of_chunk, {})).starts[i] = (
                    start
                )
    return list(chunks.values())


def _predict_chunk(
    chunk: _Chunk,
    requests: Sequence[PredictionRequest],
    logits: Sequence[ChunkedLogits],
    predictors: Mapping[int, Predictor],
    pixels: Pixels,
    device: str,
) -> None:
    views = {view.name: view for i in chunk.starts for view in requests[i].views}
    wanted = {
        name: [i for i in chunk.starts if name in _names(requests[i])] for name in views
    }
    for at in range(0, len(chunk.rows), BATCH):
        batch = pixels[chunk.rows[at : at + BATCH]]
        for name, view in views.items():
            found = predict_batch(
                [predictors[i] for i in wanted[name]], view(batch), device
            )
            for i, of_view in zip(wanted[name], found, strict=True):
                if not np.isfinite(of_view).all():
                    raise NotFiniteError(requests[i].name)
                first = chunk.starts[i] + at
                logits[i].array[
                    _names(requests[i]).index(name), first : first + len(batch)
                ] = of_view


def _names(request: PredictionRequest) -> tuple[str, ...]:
    return tuple(view.name for view in request.views)
