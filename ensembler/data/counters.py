"""Random numbers by counting: a key and a place in its stream give a number, whatever came before.

A whole batch is drawn at once, and what an image gets depends on its own key alone. The mixing is
that of splitmix64 (Steele, Lea and Flood, 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Numbers = NDArray[np.float64]  # [images] or [images, ...]
_GOLDEN = 0x9E3779B97F4A7C15
_ALL = 2**64 - 1


def mixed(numbers: Keys) -> Keys:
    """Mix the bits of every number: neighbours become independent."""
    with np.errstate(over="ignore"):
        out = numbers + np.uint64(_GOLDEN)
        out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return out ^ (out >> np.uint64(31))


def keys_of(
    parts: Sequence[int], rows: NDArray[np.int64], draws: NDArray[np.int64]
) -> Keys:
    """The key of every image drawn: `parts` are run seed, fold and epoch.

    `draws` says how often an image was drawn before in the epoch.
    """
    start = np.zeros(1, np.uint64)
    for part in parts:
        start = mixed(start ^ np.array([part & _ALL], np.uint64))
    of_rows = mixed(start ^ rows.astype(np.uint64))
    return mixed(of_rows ^ draws.astype(np.uint64))


def salt_of(name: str) -> int:
    """64 bits that stand for a name."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


@dataclass(frozen=True)
class Streams:
    """The random numbers of several images, `[images]` keys; each draw has a name."""

    keys: Keys

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, name: str) -> Streams:
        """The streams of one transform, independent of those of all others."""
        return Streams(mixed(self.keys ^ np.uint64(salt_of(name))))

    def unit(self, name: str) -> Numbers:
        """Uniform numbers from 0 to below 1, one for each image."""
        return (self.of(name).keys >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, name: str, low: float, high: float) -> Numbers:
        """Uniform numbers between two limits."""
        return low + (high - low) * self.unit(name)

    def around(self, name: str, most: float) -> Numbers:
        """Uniform numbers up to `most` to either side of 0."""
        return self.uniform(name, -most, most)

    def happens(self, name: str, p: float) -> NDArray[np.bool_]:
        """What happens with probability `p`."""
        return self.unit(name) < p

    def choice(self, name: str, n: int) -> NDArray[np.int64]:
        """One of 0 ... `n` - 1, each as likely."""
        return np.minimum((self.unit(name) * n).astype(np.int64), n - 1)
