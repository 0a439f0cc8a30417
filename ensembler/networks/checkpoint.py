"""A trained network in one file: its weights, and in the header all it takes to build it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from ensembler.errors import EnsemblerError, RequestError, StoreError
from ensembler.files import write_bytes
from ensembler.networks.build import (
    STARTS,
    Normalised,
    SumOfNetworks,
    build_network,
    built_from,
    statistics,
    sum_networks,
)
from ensembler.networks.devices import pick_device, place
from ensembler.networks.header import DIGEST, FORMAT, read_description
from ensembler.networks.sources import is_own_backbone, source_of_backbone
from ensembler.networks.spec import NetworkSpec

_HEADER_SIZE = 8  # bytes that say how long the JSON header of a safetensors file is


def save_checkpoint(
    path: Path,
    network: Normalised,
    spec: NetworkSpec,
    shape: Mapping[str, Any],
    description: Mapping[str, Any],
) -> None:
    """Write weights and description, whole or not at all.

    `shape` holds classes, size and channels; `description` is kept as it is and read by
    `read_description`. A network made by `sum_networks` is kept with all that it sums.
    """
    # It starts from its own weights from now on, whatever the training started from, and needs no
    # hub or folder.
    described = built_from(_one_of(network), spec).model_dump(
        mode="json", include=set(NetworkSpec.model_fields)
    )
    header = {
        "format": FORMAT,
        "network": described,
        "shape": dict(shape),
        "pixels": {
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
        },
        **_sum_of(network),
        **description,
    }
    weights = {
        k: v.detach().cpu().contiguous() for k, v in network.network.state_dict().items()
    }
    # Two names may share one tensor; the file keeps a copy of each.
    weights = {k: v.clone() for k, v in weights.items()}
    header[DIGEST] = _digest(header, weights)
    write_bytes(path, save(weights, metadata={"ensembler": json.dumps(header)}))


def _one_of(network: Normalised) -> nn.Module:
    inner = network.network
    return inner.networks[0] if isinstance(inner, SumOfNetworks) else inner


def _sum_of(network: Normalised) -> dict[str, Any]:
    inner = network.network
    return (
        {"sum_of": len(inner.networks), "factor": inner.factor}
        if isinstance(inner, SumOfNetworks)
        else {}
    )


def check_checkpoint(path: Path) -> bool:
    """Raise StoreError when a checkpoint is not what was saved.

    False when it is of a version that kept no digest.
    """
    header = read_description(path)
    saved = header.pop(DIGEST, None)
    if saved is None:
        return False
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(
            f"{path} is not a whole checkpoint of a member ({error})"
        ) from error
    if _digest(header, weights) != saved:
        raise StoreError(
            f"{path} was altered after it was saved: the network in it is not the one that was "
            "trained"
        )
    return True


def _digest(header: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_checkpoint(
    path: Path, device: str = "auto", recipe: NetworkSpec | None = None
) -> Normalised:
    """Build the network of a checkpoint with its weights, in evaluation mode on `device`.

    A header may name a network of the user's own only when `recipe`, what the recipe says of the
    network, names the same one with the same arguments: whoever passes a file on has no say in what
    code is run.
    """
    header = read_description(path)
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(
            f"{path} does not hold the network it describes ({error})"
        ) from error
    return _network_of(header, weights, str(path), device, recipe)


def checkpoint_from_bytes(
    content: bytes, name: str, device: str = "auto", recipe: NetworkSpec | None = None
) -> Normalised:
    """The same for the content of a checkpoint, which messages call `name`."""
    try:
        header = _header_of(content)
        weights = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{name} is not a checkpoint of a member ({error})") from error
    return _network_of(header, weights, name, device, recipe)


def description_from_bytes(content: bytes, name: str) -> dict[str, Any]:
    """What `read_description` says of the content of a checkpoint, called `name` in messages."""
    try:
        return _header_of(content)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{name} is not a checkpoint of a member ({error})") from error


def checkpoint_as(content: bytes, dtype: torch.dtype) -> bytes:
    """A checkpoint whose matrices and kernels are of `dtype`, all else as it was.

    Biases, norms and buffers stay as they are: they are small, and most is lost in them. So does a
    tensor with values that `dtype` cannot hold.
    """
    header, weights = _header_of(content), load(content)
    smaller = {name: _as(tensor, dtype) for name, tensor in weights.items()}
    header.pop(DIGEST, None)
    header[DIGEST] = _digest(header, smaller)
    return save(smaller, metadata={"ensembler": json.dumps(header)})


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor
    smaller = tensor.to(dtype)
    return smaller if bool(torch.isfinite(smaller).all()) else tensor


def _header_of(content: bytes) -> dict[str, Any]:
    """The description in the header of a checkpoint; ValueError when there is none of ours."""
    size = int.from_bytes(content[:_HEADER_SIZE], "little")
    if size > len(content):
        raise ValueError("its header is cut short")
    said = json.loads(content[_HEADER_SIZE : _HEADER_SIZE + size])
    header = json.loads(said["__metadata__"]["ensembler"])
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return header


def _network_of(
    header: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    name: str,
    device: str,
    recipe: NetworkSpec | None,
) -> Normalised:
    try:
        spec = _trusted(NetworkSpec.model_validate(header["network"]), recipe, name)
        network = _with_weights(spec, header, weights)
        _set_pixels(network, header.get("pixels"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, EnsemblerError):
            raise
        raise StoreError(
            f"{name} does not hold the network it describes ({error})"
        ) from error
    return place(network, pick_device(device)).eval()


def _with_weights(
    spec: NetworkSpec, header: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Normalised:
    try:
        return _assembled(spec, header, weights) or _initialised(spec, header, weights)
    except RuntimeError:
        if (
            "pixels" in header
            or "img_size" in spec.model_args
            or is_own_backbone(spec.backbone)
        ):
            raise
        # Older versions did not write down for which networks they named the size.
        sized = spec.model_copy(
            update={"model_args": {**spec.model_args, "img_size": header["shape"]["size"]}}
        )
        return _initialised(sized, header, weights)


def _built(spec: NetworkSpec, header: Mapping[str, Any]) -> Normalised:
    networks = [
        build_network(spec, **header["shape"]) for _ in range(header.get("sum_of", 1))
    ]
    return (
        sum_networks(networks, float(header["factor"]))
        if "sum_of" in header
        else networks[0]
    )


def _initialised(
    spec: NetworkSpec, header: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Normalised:
    """The network built as for a training, then given its weights."""
    network = _built(spec, header)
    network.network.load_state_dict(weights)
    return network


def _assembled(
    spec: NetworkSpec, header: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Normalised | None:
    """The network around its weights, without random ones before.

    None when it has more than these weights. Networks of the user's own may do anything as they are
    built, and are built as they are.
    """
    if is_own_backbone(spec.backbone):
        return None
    try:
        with torch.device("meta"):
            network = _built(spec, header)
    except (
        NotImplementedError,
        RuntimeError,
        RequestError,
    ):  # it computes with its tensors as it is built
        return None
    wanted = network.network.state_dict()
    # Of the file's memory nothing is kept: it may be replaced while the network is in use.
    held = {
        name: value.to(wanted[name].dtype, copy=True)
        for name, value in weights.items()
        if name in wanted
    }
    network.network.load_state_dict(
        held | {k: v for k, v in weights.items() if k not in wanted}, assign=True
    )
    network.mean, network.std = (
        torch.empty(value.shape) for value in (network.mean, network.std)
    )
    return None if any(tensor.is_meta for tensor in _tensors(network)) else network


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """Weights, buffers, and tensors that modules hold as plain attributes."""
    yield from network.parameters()
    yield from network.buffers()
    for module in network.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _set_pixels(network: Normalised, pixels: Any) -> None:
    """Take the mean and deviation of pixels from a header.

    Files of older versions have those of the backbone.
    """
    if pixels is None:
        first = _one_of(network)
        mean, std = statistics(first, network.mean.shape[1])
        pixels = {
            "mean": (255 * torch.tensor(mean)).tolist(),
            "std": (255 * torch.tensor(std)).tolist(),
        }
    for name in ("mean", "std"):
        value = torch.tensor(pixels[name], dtype=torch.float32).view(
            getattr(network, name).shape
        )
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} of pixels is {pixels[name]}")
        setattr(network, name, value)


def _trusted(spec: NetworkSpec, recipe: NetworkSpec | None, path: str) -> NetworkSpec:
    """The network of a header without what would read other files.

    StoreError when it names code or a hub.
    """
    again = "restore the file from a copy, or remove it to have the fold trained again"
    if is_own_backbone(spec.backbone):
        if recipe is None or _code(spec) != _code(recipe):
            raise StoreError(
                f"{path} names code to run ({spec.backbone}) that the recipe does not "
                f"name; nothing of it was run: {again}"
            )
        return spec.model_copy(update={"pretrained": False, "checkpoint": None})
    if source_of_backbone(spec.backbone)[0]:
        raise StoreError(
            f"{path} names what is outside the file ({spec.backbone}); {again}"
        )
    arguments = {key: value for key, value in spec.model_args.items() if key not in STARTS}
    return spec.model_copy(
        update={"pretrained": False, "checkpoint": None, "model_args": arguments}
    )


def _code(spec: NetworkSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", include={"backbone", "model_args"})
