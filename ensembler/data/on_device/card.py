"""What pixels need of a device: room, and copies that computing does not wait for.

All that only CUDA can do is in `CudaCard`; the rest of this folder knows no more than the protocol.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Card(Protocol):
    """A device that holds pixels, or to which they are copied."""

    @property
    def device(self) -> torch.device:
        """The device."""
        ...

    def free_bytes(self) -> int:
        """How much memory is left."""
        ...

    def empty(self, shape: Shape) -> Tensor:
        """A uint8 tensor there. Raises torch.OutOfMemoryError without room for it."""
        ...

    def pinned(self, shape: Shape) -> Tensor:
        """A uint8 tensor here, from which copies to the device need not be waited for."""
        ...

    def give_back_free_memory(self) -> None:
        """Let others have what is not used any more."""
        ...

    def pin(self, memory: Tensor) -> None:
        """Make memory that is there already such a tensor, where that can be done."""
        ...

    def unpin(self, memory: Tensor) -> None:
        """Undo `pin`, before the memory is given back."""
        ...

    def copy(self, pinned: Tensor, out: Tensor) -> Any:
        """Begin to copy; the mark of this copy for `use` and `finish`."""
        ...

    def use(self, mark: Any) -> None:
        """Let what is computed from now on wait for a copy."""
        ...

    def keep(self, tensor: Tensor) -> None:
        """Keep the memory of a tensor until what is computed with it is over.

        That is needed where it was made for another fold, on another stream.
        """
        ...

    def finish(self, mark: Any) -> None:
        """Wait until a copy is over, after which its source may be written to."""
        ...


class CudaCard:
    """A CUDA device: copies run on a stream of their own, beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def free_bytes(self) -> int:
        """What the card has left, with what torch holds of it and does not use."""
        free, _ = torch.cuda.mem_get_info(self.device)
        reserved = torch.cuda.memory_reserved(self.device)
        return int(free + reserved - torch.cuda.memory_allocated(self.device))

    def empty(self, shape: Shape) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8, device=self.device)

    def pinned(self, shape: Shape) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)

    def give_back_free_memory(self) -> None:
        torch.cuda.empty_cache()

    def pin(self, memory: Tensor) -> None:
        # Where the system refuses, copies are waited for: slower, and as right.
        _runtime().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)

    def unpin(self, memory: Tensor) -> None:
        torch.cuda.synchronize(self.device)
        _runtime().cudaHostUnregister(memory.data_ptr())

    def copy(self, pinned: Tensor, out: Tensor) -> torch.cuda.Event:
        # The memory of `out` may be that of something that is still computed with.
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            out.copy_(pinned, non_blocking=True)
            # At once: whoever stops early drops `out` while it is still copied to.
            self.keep(out)
            return self._stream.record_event()

    def use(self, mark: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self.device).wait_event(mark)

    def keep(self, tensor: Tensor) -> None:
        tensor.record_stream(torch.cuda.current_stream(self.device))

    def finish(self, mark: torch.cuda.Event) -> None:
        mark.synchronize()


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


class PlainCard:
    """A device whose copies are waited for: MPS, or a processor in tests."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def free_bytes(self) -> int:
        if self.device.type == "mps":
            most = torch.mps.recommended_max_memory()
            return max(0, most - torch.mps.driver_allocated_memory())
        return 0

    def empty(self, shape: Shape) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8, device=self.device)

    def pinned(self, shape: Shape) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8)

    def give_back_free_memory(self) -> None:
        if self.device.type == "mps":
            torch.mps.empty_cache()

    def pin(self, memory: Tensor) -> None:
        pass

    def unpin(self, memory: Tensor) -> None:
        pass

    def copy(self, pinned: Tensor, out: Tensor) -> None:
        out.copy_(pinned)

    def use(self, mark: None) -> None:
        pass

    def keep(self, tensor: Tensor) -> None:
        pass

    def finish(self, mark: None) -> None:
        pass


@cache
def card_of(device: torch.device) -> Card:
    """The card of a device, the same one whenever it is asked for."""
    return CudaCard(device) if device.type == "cuda" else PlainCard(device)
