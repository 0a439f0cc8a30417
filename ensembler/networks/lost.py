"""A device that is gone: pulled out, reset, or given to something else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ensembler.errors import DeviceLostError, EnsemblerError
from ensembler.networks.devices import computes
from ensembler.networks.memory import is_out_of_memory


@contextlib.contextmanager
def lost_device(device: torch.device) -> Iterator[None]:
    """Turn an error after which a device computes nothing more into a DeviceLostError."""
    try:
        yield
    except EnsemblerError:
        raise
    except RuntimeError as error:
        if device.type == "cpu" or is_out_of_memory(error) or computes(device):
            raise
        first = "".join(str(error).strip().splitlines()[:1])
        raise DeviceLostError(
            f"{device} does not compute any more ({first}); what is finished is kept, and the same "
            "command resumes when the device is back, or with --device cpu"
        ) from error
