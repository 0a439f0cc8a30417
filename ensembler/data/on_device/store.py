"""Pixels that stay on a device: one store for each, shared by all that trains and predicts there.

It may take half of the memory that was free at first, or what `ENS_DEVICE_CACHE_GB` says. Where an
input does not fit as a whole, its train rows come first; the input that was used least recently
leaves.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.mapped_file import MappedFile
from ensembler.data.on_device.card import Card, card_of
from ensembler.data.pixels import Pixels, budget_of
from ensembler.progress import QUIET, Progress

CHUNK = 64 << 20  # bytes copied at once
_SHARE = 0.5  # of the free memory


@dataclass(frozen=True)
class PlacedPixels:
    """The images of an input that are on a device.

    `pixels` are uint8 `[placed, height, width, channels]`; `place_of` `[images]` says where among
    them an image is, -1 for those that are not there.
    """

    pixels: Tensor
    place_of: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """The memory they take."""
        return self.pixels.nbytes

    def puts_first(self, rows: NDArray[np.int64]) -> bool:
        """Whether all these images are there, or none but these: there is no room for more."""
        is_first, is_there = np.zeros(len(self.place_of), bool), self.place_of >= 0
        is_first[rows] = True
        return bool(is_there[is_first].all() or is_first[is_there].all())


@dataclass
class DeviceStore:
    """The pixels on one device, by input, the one used last at the end."""

    card: Card
    budget: int
    _placed: OrderedDict[Hashable, PlacedPixels] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _said: set[str] = field(default_factory=set)

    def place(
        self, pixels: Pixels, first: NDArray[np.int64] | None, progress: Progress = QUIET
    ) -> PlacedPixels:
        """Place as many images as there is room for, `first` ones first.

        What does not fit, or that memory ran out, is noted once on `progress`.
        """
        with self._lock:
            key = identity_of(pixels)
            found = self._placed.get(key)
            if found is not None and (first is None or found.puts_first(first)):
                self._placed.move_to_end(key)
                return found
            placed = self._place(pixels, first, progress)
            self._placed[key] = placed
            self._placed.move_to_end(key)
            if MappedFile.of(pixels) is None:
                weakref.finalize(pixels, self._placed.pop, key, None)
            return placed

    def clear(self) -> None:
        """Give back all memory."""
        with self._lock:
            self._placed.clear()
        self.card.give_back_free_memory()

    @property
    def nbytes(self) -> int:
        """The memory that is taken."""
        return sum(placed.nbytes for placed in self._placed.values())

    def _place(
        self, pixels: Pixels, first: NDArray[np.int64] | None, progress: Progress
    ) -> PlacedPixels:
        n_images, of_one = pixels.shape[0], math.prod(pixels.shape[1:])
        self._placed.pop(identity_of(pixels), None)
        wanted = min(self.budget, n_images * of_one)
        while self._placed and self.budget - self.nbytes < wanted:
            self._placed.popitem(last=False)
        n_placed = wanted // of_one
        rows = _first_rows(n_images, n_placed, first)
        try:
            there = self._upload(pixels, rows)
        except torch.OutOfMemoryError:
            self._say(
                f"{self.card.device} has no room for {wanted / 1e9:.2f} GB of pixels: they are "
                "copied to it batch by batch, which may be slower; ENS_DEVICE_CACHE_GB sets the "
                "room",
                progress,
            )
            rows = rows[:0]
            there = self._empty((0, *pixels.shape[1:]))
        else:
            if n_placed < n_images:
                self._say(
                    f"{n_placed} of {n_images} images fit on {self.card.device} "
                    f"({self.budget / 1e9:.2f} GB for pixels; ENS_DEVICE_CACHE_GB sets it): the "
                    "others are copied to it batch by batch",
                    progress,
                )
        place_of = np.full(n_images, -1, np.int64)
        place_of[rows] = np.arange(len(rows))
        return PlacedPixels(there, place_of)

    def _upload(self, pixels: Pixels, rows: NDArray[np.int64]) -> Tensor:
        there = self._empty((len(rows), *pixels.shape[1:]))
        at_once = max(1, CHUNK // max(1, math.prod(pixels.shape[1:])))
        at_once = min(at_once, max(1, len(rows)))
        buffers = [self.card.pinned((at_once, *pixels.shape[1:])) for _ in range(2)]
        marks: list[Any] = [None, None]
        for i, start in enumerate(range(0, len(rows), at_once)):
            some = rows[start : start + at_once]
            buffer = buffers[i % 2][: len(some)]
            if i >= 2:
                self.card.finish(marks[i % 2])
            read_into(buffer.numpy(), pixels, some)
            marks[i % 2] = self.card.copy(buffer, there[start : start + len(some)])
        for mark in marks[: math.ceil(len(rows) / at_once)]:
            self.card.use(mark)
            self.card.finish(mark)
        return there

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        # Who asks first may be predicting, and tensors of inference mode are of no use in training.
        with torch.inference_mode(False):
            return self.card.empty(shape)

    def _say(self, text: str, progress: Progress) -> None:
        if text not in self._said:
            progress.note(text)
        self._said.add(text)


def read_into(out: NDArray[np.uint8], pixels: Pixels, rows: NDArray[np.int64]) -> None:
    """Read images into an array that is there already."""
    if isinstance(pixels, np.ndarray):
        # "clip" writes at once where it belongs; "raise" would make an array of its own first
        np.take(pixels, rows, axis=0, out=out, mode="clip")
    else:
        out[:] = pixels[rows]


def _first_rows(
    n_images: int, n_placed: int, first: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Which images are placed, in their own order."""
    if n_placed >= n_images or first is None:
        return np.arange(min(n_placed, n_images))
    is_first = np.zeros(n_images, bool)
    is_first[first] = True
    order = np.argsort(~is_first, kind="stable")
    return np.sort(order[:n_placed])


def identity_of(pixels: Pixels) -> Hashable:
    """What says that two are the same: the file of mapped ones, otherwise the object itself."""
    return MappedFile.of(pixels) or id(pixels)


_stores: dict[torch.device, DeviceStore] = {}


def store_of(device: torch.device) -> DeviceStore:
    """The store of a device, the same one whenever it is asked for."""
    card = card_of(device)
    if card.device not in _stores:
        _stores[card.device] = DeviceStore(card, device_budget(card))
    return _stores[card.device]


def give_up_pixels() -> bool:
    """Take all pixels from devices, for good, where memory is short; whether there were any."""
    found = [store for store in _stores.values() if store.nbytes]
    for store in found:
        store.budget = 0
        store.clear()
    return bool(found)


def device_budget(card: Card) -> int:
    """The bytes that pixels may take on a device."""
    budget = budget_of("ENS_DEVICE_CACHE_GB")
    return int(_SHARE * card.free_bytes()) if budget is None else budget
