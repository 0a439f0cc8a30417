"""A trained network in one file: its weights, and in the header all it takes to build it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ensembler.errors import EnsemblerError, MissingFileError, StoreError
from ensembler.files import write_bytes
from ensembler.networks.build import Normalised, SumOfNetworks, build_network, sum_networks
from ensembler.networks.devices import pick_device
from ensembler.networks.spec import NetworkSpec

FORMAT = 1
DIGEST = "content_sha256"  # key in the header: of the header and the tensors at the moment of saving


def save_checkpoint(
    path: Path, network: Normalised, spec: NetworkSpec, shape: Mapping[str, int], description: Mapping[str, Any]
) -> None:
    """Write weights and description, whole or not at all.

    `shape` holds classes, size and channels; `description` is kept as it is and read by `read_description`. A network
    made by `sum_networks` is kept with all that it sums.
    """
    # It starts from its own weights from now on, whatever the training started from.
    built_from = spec.model_copy(update={"pretrained": False, "checkpoint": None})
    header = {
        "format": FORMAT,
        "network": {k: v for k, v in built_from.model_dump(mode="json").items() if k in NetworkSpec.model_fields},
        "shape": dict(shape),
        **_sum_of(network),
        **description,
    }
    weights = {k: v.detach().cpu().contiguous() for k, v in network.network.state_dict().items()}
    # Two names may share one tensor; the file keeps a copy of each.
    weights = {k: v.clone() for k, v in weights.items()}
    header[DIGEST] = _digest(header, weights)
    write_bytes(path, save(weights, metadata={"ensembler": json.dumps(header)}))


def _sum_of(network: Normalised) -> dict[str, Any]:
    inner = network.network
    return {"sum_of": len(inner.networks), "factor": inner.factor} if isinstance(inner, SumOfNetworks) else {}


def read_description(path: Path) -> dict[str, Any]:
    """The description in a checkpoint's header; StoreError when the file is none of ours."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["ensembler"])
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise StoreError(f"{path} is not a whole checkpoint of a member ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StoreError(f"{path} has another format than {FORMAT}; it was written by another version")
    return header


def check_checkpoint(path: Path) -> bool:
    """Raise StoreError when a checkpoint is not what was saved; False when it is of a version that kept no digest."""
    header = read_description(path)
    saved = header.pop(DIGEST, None)
    if saved is None:
        return False
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is not a whole checkpoint of a member ({error})") from error
    if _digest(header, weights) != saved:
        raise StoreError(f"{path} was altered after it was saved: the network in it is not the one that was trained")
    return True


def _digest(header: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_checkpoint(path: Path, device: str = "auto") -> Normalised:
    """Build the network of a checkpoint with its weights, in evaluation mode on `device`."""
    header = read_description(path)
    try:
        spec = NetworkSpec.model_validate(header["network"])
        networks = [build_network(spec, **header["shape"]) for _ in range(header.get("sum_of", 1))]
        network = sum_networks(networks, float(header["factor"])) if "sum_of" in header else networks[0]
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network.network.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, EnsemblerError):
            raise
        raise StoreError(f"{path} does not hold the network it describes ({error})") from error
    return network.to(pick_device(device)).to(memory_format=torch.channels_last).eval()
