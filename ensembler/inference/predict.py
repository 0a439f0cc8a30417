"""Batches of pixels through views and networks."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ensembler.data.pixels import Pixels
from ensembler.inference.engines import eager
from ensembler.inference.predictor import BATCH, Predictor, as_images, predict_batch
from ensembler.inference.views import View


def predict_logits(  # noqa: PLR0913 a keyword for each thing that may be asked for
    networks: Sequence[nn.Module | Predictor],
    pixels: Pixels,
    rows: NDArray[np.int64],
    views: Sequence[View],
    *,
    classes: int,
    device: str = "auto",
    batch_size: int = BATCH,
    amp: str = "auto",
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Logits float32 `[networks, views, rows, classes]` of the images at `rows`.

    Each batch is read once and each view of it made once; every network then sees it, as it is or
    as an engine has made it ready. `out` may be a memory-mapped array of that shape to fill. Values
    that are not finite are returned as they are: the caller judges them.
    """
    if out is None:
        out = np.empty((len(networks), len(views), len(rows), classes), np.float32)
    sample = as_images(pixels[rows[:2]], device)
    predictors = [
        eager.prepare(copy.deepcopy(network), sample, amp, device)
        if isinstance(network, nn.Module)
        else network
        for network in networks
    ]
    for start in range(0, len(rows), batch_size):
        batch = pixels[rows[start : start + batch_size]]
        for v, view in enumerate(views):
            for n, logits in enumerate(predict_batch(predictors, view(batch), device)):
                out[n, v, start : start + len(batch)] = logits
    return out
