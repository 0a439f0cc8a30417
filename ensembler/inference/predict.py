"""One pass over the pixels for all networks and views."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensembler.data.pixels import Pixels
from ensembler.inference.views import View
from ensembler.networks.devices import autocast_type, pick_device


def predict_logits(
    networks: Sequence[nn.Module],
    pixels: Pixels,
    rows: NDArray[np.int64],
    views: Sequence[View],
    *,
    classes: int,
    device: str = "auto",
    batch_size: int = 64,
    amp: str = "auto",
    out: NDArray[np.float32] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Logits float32 `[networks, views, rows, classes]` of the images at `rows`.

    Each batch is read once and each view of it made once; every network then sees it. `out` may be a memory-mapped
    array of that shape to fill. Values that are not finite are returned as they are: the caller judges them.
    """
    on_device = pick_device(device)
    if out is None:
        out = np.empty((len(networks), len(views), len(rows), classes), np.float32)
    for network in networks:
        network.eval().to(on_device)
    for start in range(0, len(rows), batch_size):
        batch = pixels[rows[start : start + batch_size]]
        for v, view in enumerate(views):
            out[:, v, start : start + len(batch)] = _forward(networks, view(batch), on_device, amp)
        if on_batch is not None:
            on_batch(min(start + batch_size, len(rows)), len(rows))
    return out


@torch.inference_mode()
def _forward(
    networks: Sequence[nn.Module], batch: NDArray[np.uint8], device: torch.device, amp: str
) -> NDArray[np.float32]:
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).to(device, non_blocking=True)
    dtype = autocast_type(amp, device)
    context = contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
    with context:
        return np.stack([network(images).float().cpu().numpy() for network in networks])
