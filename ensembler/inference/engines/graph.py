"""CUDA graphs: a network's forward pass recorded once for a whole batch, and launched by one call.

Small networks are bound by the launches of their operations, which a graph does not repeat. The
batch is chosen by card and network; what does not fill it is computed in a part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError, TrainingError
from ensembler.inference.engines.eager import TorchPredictor, as_predictor, simplify
from ensembler.inference.predictor import Predictor
from ensembler.networks.devices import pick_device
from ensembler.networks.graphs import Graphs, graphs_on
from ensembler.networks.memory import is_out_of_memory

MOST = 512  # images computed at once, whatever the card
_LEAST = 16
# The share of a card's memory that what a network computes may take: several are held at once.
_SHARE = 1 / 32
_PROBED = 8  # images by which the memory of a batch is estimated


class CaptureError(TrainingError):
    """A network cannot be recorded as a graph."""


class Memory(Protocol):
    """The memory of a device."""

    def total(self) -> int:
        """All of its bytes."""
        ...

    def peak_of(self, run: Callable[[], object]) -> int:
        """The most bytes that `run` holds at once, beyond what is held now."""
        ...


@dataclass(frozen=True)
class CudaMemory:
    """The memory of a CUDA device."""

    device: torch.device

    def total(self) -> int:
        """As its driver says."""
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def peak_of(self, run: Callable[[], object]) -> int:
        """As torch's allocator counts."""
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        return int(torch.cuda.max_memory_allocated(self.device)) - before


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:
    """The network, simplified as for the engine eager, as a graph.

    Raises CaptureError when it cannot be recorded, such as one that looks at its own values.
    """
    on_device = pick_device(device)
    graphs = graphs_on(on_device)
    if graphs is None:
        raise RequestError(
            f"engine graph computes on CUDA devices, not on {device!r}; engine eager computes "
            "anywhere"
        )
    simple, dtype = simplify(network, sample, amp, on_device)
    predictor = as_predictor(simple, dtype, on_device)
    batch = batch_size(predictor, sample, CudaMemory(on_device))
    return recorded(predictor, sample, batch, graphs)


def batch_size(predictor: TorchPredictor, sample: Tensor, memory: Memory) -> int:
    """How many images a card computes at once by a network: a power of two, by memory alone."""
    probed = sample[:_PROBED]
    predictor.on_device(probed)  # what libraries set up at their first call is not counted
    peak = memory.peak_of(lambda: predictor.on_device(probed))
    fitting = memory.total() * _SHARE * len(probed) / max(1, peak)
    batch = MOST
    while batch > max(_LEAST, fitting):
        batch //= 2
    return batch


def recorded(
    predictor: TorchPredictor, sample: Tensor, batch: int, graphs: Graphs
) -> GraphedPredictor:
    """The predictor recorded for batches of `batch` images, or of fewer where memory is short."""
    while True:
        shape = (batch, *sample.shape[1:])
        images = torch.zeros(shape, dtype=sample.dtype, device=sample.device)
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            return GraphedPredictor(predictor, images, graphs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise CaptureError(f"no CUDA graph can be made of it ({first})") from error
            if batch <= _LEAST:
                raise
        batch //= 2


class GraphedPredictor:
    """Copies images to where a recorded forward pass reads them, and launches it."""

    def __init__(self, predictor: TorchPredictor, images: Tensor, graphs: Graphs) -> None:
        self._predictor = predictor
        self._images = images
        graphs.warm_up(self._compute)
        self._graph = graphs.capture(self._compute)

    @property
    def batch(self) -> int:
        """How many images are computed at once."""
        return len(self._images)

    def _compute(self) -> None:
        self._logits = self._predictor.on_device(self._images)

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Logits `[images, classes]`."""
        logits: NDArray[np.float32] = self.on_device(images).cpu().numpy()
        return logits

    @torch.inference_mode()
    def on_device(self, images: Tensor) -> Tensor:
        """Logits `[images, classes]`, perhaps still being computed."""
        starts = range(0, len(images), self.batch)
        return torch.cat([self._replayed(images[at : at + self.batch]) for at in starts])

    def _replayed(self, part: Tensor) -> Tensor:
        n = len(part)
        self._images[:n].copy_(part)
        self._images[n:].zero_()
        self._graph.replay()
        return self._logits[:n].clone()
