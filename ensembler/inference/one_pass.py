"""One pass over the pixels for many checkpoints: each image is read once, each view made once.

What is predicted goes to mapped files chunk by chunk (`ensembler.predictions.chunks`): memory does
not grow with the number of images, and a pass that was ended resumes with the chunks that are
missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.data.ahead import settled
from ensembler.data.pixels import Pixels
from ensembler.errors import NotFiniteError
from ensembler.inference.predictor import BATCH, ON_DEVICE, Predictor, predict_batch
from ensembler.inference.views import View
from ensembler.networks.devices import pick_device
from ensembler.predictions.arrays import release
from ensembler.predictions.chunks import ChunkedLogits
from ensembler.progress import QUIET, Progress

if TYPE_CHECKING:
    from ensembler.inference import device_pass


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
    pixels = settled(pixels)
    one_pass = _Pass(requests, logits, predictors, pixels)
    computed = one_pass.on_device if pick_device(device).type != "cpu" else one_pass.here
    total, done = sum(len(chunk.rows) for chunk in chunks), 0
    for chunk in computed(chunks, device):
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


@dataclass(frozen=True)
class _Pass:
    """A pass over what is missing of `logits`; `predictors` by the position of their request."""

    requests: Sequence[PredictionRequest]
    logits: Sequence[ChunkedLogits]
    predictors: Mapping[int, Predictor]
    pixels: Pixels

    def here(self, chunks: Sequence[_Chunk], device: str) -> Iterator[_Chunk]:
        """On a processor, batch after batch; each chunk is yielded when it is whole."""
        for chunk in chunks:
            began = time.perf_counter()
            self._predict(chunk, device)
            self._keep(chunk, time.perf_counter() - began)
            yield chunk

    def on_device(self, chunks: Sequence[_Chunk], device: str) -> Iterator[_Chunk]:
        """On a device, which nothing waits for; each chunk is yielded when it is written."""
        from ensembler.data.on_device.feed import feed_of
        from ensembler.inference import device_pass
        from ensembler.inference.fetching import fetches_of

        on_device = pick_device(device)
        asked = [
            device_pass.Chunk(
                chunk.rows,
                list(self._views(chunk).values()),
                [self._wanted(i, chunk) for i in chunk.starts],
                partial(self._keep, chunk),
            )
            for chunk in chunks
        ]
        by_rows = {id(one): chunk for one, chunk in zip(asked, chunks, strict=True)}
        found = device_pass.predict_chunks(
            asked, feed_of(self.pixels, on_device), fetches_of(on_device), ON_DEVICE
        )
        for one in found:
            yield by_rows[id(one)]

    def _wanted(self, i: int, chunk: _Chunk) -> device_pass.Wanted:
        from ensembler.inference.device_pass import Wanted

        first = chunk.starts[i]
        rows = slice(first, first + len(chunk.rows))
        names = _names(self.requests[i])
        places = {name: self.logits[i].array[v, rows] for v, name in enumerate(names)}
        return Wanted(self.requests[i].name, self.predictors[i], places)

    def _views(self, chunk: _Chunk) -> dict[str, View]:
        return {view.name: view for i in chunk.starts for view in self.requests[i].views}

    def _predict(self, chunk: _Chunk, device: str) -> None:
        views = self._views(chunk)
        wanted = {
            name: [i for i in chunk.starts if name in _names(self.requests[i])]
            for name in views
        }
        for at in range(0, len(chunk.rows), BATCH):
            batch = self.pixels[chunk.rows[at : at + BATCH]]
            for name, view in views.items():
                predictors = [self.predictors[i] for i in wanted[name]]
                found = predict_batch(predictors, view(batch), device)
                for i, of_view in zip(wanted[name], found, strict=True):
                    self._write(i, name, chunk.starts[i] + at, of_view)

    def _write(self, i: int, view: str, first: int, found: NDArray[np.float32]) -> None:
        if not np.isfinite(found).all():
            raise NotFiniteError(self.requests[i].name)
        of_view = self.logits[i].array[_names(self.requests[i]).index(view)]
        of_view[first : first + len(found)] = found

    def _keep(self, chunk: _Chunk, seconds: float) -> None:
        n_views = sum(len(self.requests[i].views) for i in chunk.starts)
        for i, start in chunk.starts.items():
            share = len(self.requests[i].views) / n_views
            self.logits[i].keep(start, seconds * share)


def _names(request: PredictionRequest) -> tuple[str, ...]:
    return tuple(view.name for view in request.views)
