"""The state of a fold in training, on disk after every epoch: read back, the training goes on as if nothing was."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from ensembler.files import write_aside


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all, under a checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    # Not flushed to the disk: a power cut costs this fold some epochs, a flush would cost every epoch.
    with write_aside(path, durable=False) as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def read_state(path: Path, job: str) -> dict[str, Any] | None:
    """Read the state of the same job (a fingerprint); None when there is none, and when it is damaged or foreign."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
    return state if state.get("job") == job else None
