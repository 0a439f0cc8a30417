"""CUDA graphs: what a function launches is recorded once, and launched again by a single call.

Whoever captures keeps to the rules of a graph: it reads and writes tensors that stay where they
are, and numbers that change are tensors that are filled before each replay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

# what a library sets up at its first calls (cuBLAS, cuDNN's choice of an algorithm) is no part of
# a graph
WARM_UPS = 3
_CAPTURING = threading.Lock()  # one capture at a time in a process


class Graph(Protocol):
    """What was recorded."""

    def replay(self) -> None:
        """Launch it again, on the current stream."""


class Graphs(Protocol):
    """Records what functions launch on a device."""

    def warm_up(self, body: Callable[[], None]) -> None:
        """Call `body` a few times where nothing else runs; all that it moves has moved."""

    def capture(self, body: Callable[[], None]) -> Graph:
        """Record what `body` launches."""


@dataclass(frozen=True)
class CudaGraphs:
    """Records on a CUDA device.

    Other threads may go on computing: the capture concerns this thread alone.
    """

    device: torch.device

    def warm_up(self, body: Callable[[], None]) -> None:
        """Call `body` on a stream of its own."""
        aside = _stream(self.device)
        current = torch.cuda.current_stream(self.device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                body()
        current.wait_stream(aside)

    def capture(self, body: Callable[[], None]) -> Graph:
        """Record what `body` launches; what torch cannot record raises a RuntimeError."""
        graph = torch.cuda.CUDAGraph()
        aside = _stream(self.device)
        with (
            _CAPTURING,
            torch.cuda.device(self.device),
            torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"),
        ):
            body()
        return graph


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch does not say


def graphs_on(device: torch.device) -> Graphs | None:
    """What records graphs on a device; None where there are none."""
    return CudaGraphs(device) if device.type == "cuda" else None
