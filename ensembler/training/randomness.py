"""Randomness that a training has to itself: what the caller's generators held is put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed the global generators that torch, timm and torchensemble draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 timm's Mixup draws from numpy's global generator
    random.seed(seed)


@contextlib.contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Give the block global generators of its own: what the caller had is put back."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextlib.contextmanager
def only_deterministic(wanted: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only while the block runs, when that is wanted."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
