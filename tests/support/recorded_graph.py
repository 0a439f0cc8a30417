"""A CUDA graph without CUDA: operations are recorded, and repeated on the very same tensors.

As with CUDA, whatever the host decided while it was recorded stays so: numbers are baked in, and
asking a tensor for its value is refused. What a replay makes lies where the recorded run made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")


class RecordedGraph(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in _ASKING:
            raise RuntimeError(f"{func} asks the device for a value, which a graph cannot")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for kept, new in zip(
                tree_flatten(result)[0], tree_flatten(again)[0], strict=True
            ):
                if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


@dataclass
class RecordingGraphs:
    """Records on the processor; `recorded` are the graphs, `fault` is what recording raises."""

    warm_ups: int = 3
    fault: Exception | None = None
    recorded: list[RecordedGraph] = field(default_factory=list)

    def warm_up(self, body: Callable[[], None]) -> None:
        for _ in range(self.warm_ups):
            body()

    def capture(self, body: Callable[[], None]) -> RecordedGraph:
        if self.fault is not None:
            raise self.fault
        graph = RecordedGraph()
        with graph:
            body()
        self.recorded.append(graph)
        return graph
