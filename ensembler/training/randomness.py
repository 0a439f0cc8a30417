"""Randomness that a training has to itself: what the caller's generators held is put back."""

from __future__ import annotations

import contextlib
import os
import random
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ensembler.progress import QUIET, Progress


def seed_all(seed: int) -> None:
    """Seed the global generators that torch, timm and torchensemble draw from."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # the same for the processor; torch.manual_seed keeps the whole call stack for a card
        torch.default_generator.manual_seed(seed)
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
def only_deterministic(wanted: bool, progress: Progress = QUIET) -> Iterator[None]:
    """Let torch use deterministic algorithms while the block runs, when that is wanted.

    Operations without one are computed as usual, and each is noted once on `progress`.
    """
    if not wanted:
        yield
        return
    # what older versions of torch want for CUDA
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(), _notes_instead(progress):
            warnings.filterwarnings("default", message=_INDETERMINATE)
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


_INDETERMINATE = r"(?P<operation>\S+) does not have a deterministic implementation"


@contextlib.contextmanager
def _notes_instead(progress: Progress) -> Iterator[None]:
    """Note operations without a deterministic form, in the place of torch's warnings."""
    show, told = warnings.showwarning, set()

    def note(message: Warning | str, *where: Any, **more: Any) -> None:
        found = re.match(_INDETERMINATE, str(message))
        if found is None:
            show(message, *where, **more)
        elif found["operation"] not in told:
            told.add(found["operation"])
            progress.note(
                f"deterministic: {found['operation']} has no deterministic form here; equal seeds "
                "may differ a little"
            )

    warnings.showwarning = note
    try:
        yield
    finally:
        warnings.showwarning = show
