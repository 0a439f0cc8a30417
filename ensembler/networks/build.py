"""From a spec to a network that takes uint8 pixels and gives logits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensembler.data.size import Size, shown, sides, size_of
from ensembler.errors import EnsemblerError, RequestError, TrainingError, UnknownNameError
from ensembler.networks.sources import (
    FOLDER,
    HUB,
    Architecture,
    architecture_of,
    is_own_backbone,
    known_architecture,
    source_of_backbone,
    weights_in_folder,
)
from ensembler.networks.spec import NetworkSpec
from ensembler.networks.weights import (
    check_loaded,
    load_start,
    loading_explained,
    read_start,
    start_overlay,
)
from ensembler.own_code import load_own

GREY_MEAN, GREY_STD = 0.5, 0.25  # of networks that do not say what they expect
# Arguments of timm.create_model that say where to start from, which these specs have options for.
STARTS = ("checkpoint_path", "pretrained", "cache_dir")
_HUB_PACKAGES = ("huggingface_hub", "httpx", "requests", "urllib3", "urllib")


class Normalised(nn.Module):
    """A network that normalises uint8 pixels with its own mean and deviation, on its device."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.network = network
        self.channels_last = True
        # Constants of the description, not weights: they are not part of the state that is saved.
        self.register_buffer(
            "mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits `[batch, classes]` of pixels 0..255 `[batch, channels, height, width]`."""
        # They come with their channels last, as they lie in the cache.
        images = pixels if self.channels_last else pixels.contiguous()
        logits: Tensor = self.network((images.float() - self.mean) / self.std)
        return logits


class SumOfNetworks(nn.Module):
    """Networks whose weighted sum, and nothing else, predicts (boosting).

    Gives log-probabilities.
    """

    def __init__(self, networks: Sequence[nn.Module], factor: float) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities `[batch, classes]`."""
        return torch.log_softmax(
            self.factor * sum(network(images).float() for network in self.networks), dim=1
        )


def sum_networks(networks: Sequence[Normalised], factor: float) -> Normalised:
    """A network of the log-probabilities of `factor` times the sum of the networks' logits."""
    first = networks[0]
    one = Normalised(
        SumOfNetworks([network.network for network in networks], factor), (0.0,), (1.0,)
    )
    one.mean, one.std = first.mean, first.std
    return one


def check_backbone(name: str) -> None:
    """Raise RequestError, with the nearest names, for a backbone that is not there.

    Nothing is loaded or downloaded.
    """
    import timm

    source, _ = source_of_backbone(name)
    if is_own_backbone(name):
        return
    if source == FOLDER:
        architecture_of(name)
    if source:
        return
    if "/" in name:
        raise RequestError(
            f"backbone {name!r} looks like a repository of a hub: write "
            f"{name.rpartition('/')[2]} (timm's own name), {HUB}:{name} (the hub), or "
            f"{FOLDER}:FOLDER (a folder with config.json and weights)"
        )
    if not timm.is_model(name.split(".")[0]):
        raise UnknownNameError("backbone", name, timm.list_models())


def check_network(spec: NetworkSpec, *, size: Size, channels: int) -> None:
    """Raise RequestError when this network cannot be built, or cannot take images of this size.

    Nothing is allocated or downloaded. A network of the user's own is not built: only what its
    factory takes is looked at; one of a hub only where its description has been downloaded before.
    """
    check_backbone(spec.backbone)
    if is_own_backbone(spec.backbone):
        _own_arguments(load_own(spec.backbone, "backbone"), spec, 2, channels)
        return
    known = known_architecture(spec.backbone)
    if known is None:
        return
    described = _described(spec, known)
    with _faults_explained(spec, size):
        built_for = (
            {"img_size": size} if _needs_image_size(described, size, channels) else {}
        )
        network = _sketch(described, channels, **built_for)
    fault = _fault_at(network, size, channels)
    if fault is not None:
        made_for = (getattr(network, "pretrained_cfg", None) or {}).get("input_size", (0,))[
            -1
        ]
        raise RequestError(
            f"backbone {spec.backbone!r} does not take {shown(size)} px: {fault}; it is made for "
            f"{made_for} px; input.size, or the member's size, says how large images are"
        )


def build_network(
    spec: NetworkSpec, *, classes: int, size: Size, channels: int
) -> Normalised:
    """Build the network of a spec, its weights random, pretrained or from a local file.

    Raises RequestError for arguments the backbone does not take, a checkpoint of another network or
    one that is not weights alone, and TrainingError when pretrained weights cannot be downloaded.
    """
    if is_own_backbone(spec.backbone):
        network = _own_network(spec, classes, channels)
        if spec.checkpoint is not None:
            load_start(network, Path(spec.checkpoint))
    else:
        network = _timm_network(spec, classes, size, channels)
    mean, std = statistics(network, channels)
    return Normalised(network, mean, std)


def _own_network(spec: NetworkSpec, classes: int, channels: int) -> nn.Module:
    factory = load_own(spec.backbone, "backbone")
    arguments = _own_arguments(factory, spec, classes, channels)
    try:
        network = factory(**arguments)
    except TypeError as error:
        raise RequestError(
            f"backbone {spec.backbone!r} was called with {sorted(arguments)}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise RequestError(
            f"backbone {spec.backbone!r} returned a {type(network).__name__}, expected an nn.Module"
        )
    return network


def _own_arguments(
    factory: Any, spec: NetworkSpec, classes: int, channels: int
) -> dict[str, Any]:
    """What a factory of the user's own is called with.

    RequestError for options that it does not take.
    """
    asked = {
        name: getattr(spec, name) for name in ("pretrained", "drop_rate", "drop_path_rate")
    }
    asked = {name: value for name, value in asked.items() if value}
    arguments = {"num_classes": classes, "in_chans": channels, **asked, **spec.model_args}
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of an object that does not say what it takes
        return arguments
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return arguments
    for name in arguments:
        if name not in parameters:
            takes = ", ".join(parameters) or "nothing"
            raise RequestError(
                f"backbone {spec.backbone!r} does not take {name}; its factory takes {takes}"
            )
    return arguments


def _timm_network(spec: NetworkSpec, classes: int, size: Size, channels: int) -> nn.Module:
    import timm

    check_backbone(spec.backbone)
    arguments = _timm_arguments(spec, classes, channels)
    with _faults_explained(spec, size):
        known = architecture_of(spec.backbone)
        described = _described(spec, known)
        if _needs_image_size(described, size, channels):
            arguments["img_size"] = size
    start = _start_of(spec)
    if start is None:
        with _faults_explained(spec, size):
            network: nn.Module = timm.create_model(
                spec.backbone, pretrained=spec.pretrained, **arguments
            )
    else:
        overlay = start_overlay(
            _sketch(described, channels), read_start(start), classes, channels
        )
        arguments["pretrained_cfg_overlay"] = {
            **spec.model_args.get("pretrained_cfg_overlay", {}),
            **overlay,
        }
        with _faults_explained(spec, size), loading_explained(start) as loaded:
            network = timm.create_model(spec.backbone, pretrained=True, **arguments)
        check_loaded(network, loaded, start)
        config: Any = network.pretrained_cfg
        config.pop("state_dict", None)  # timm keeps it, and every copy of the network would
    # What builds it again without a hub or a folder; it goes wherever the network is copied to.
    settled = {key: arguments[key] for key in ("img_size",) if key in arguments}
    network.__dict__["ens_built_from"] = _described(spec, known).model_copy(
        update={"model_args": {**described.model_args, **settled}}
    )
    return network


def _described(spec: NetworkSpec, known: Architecture) -> NetworkSpec:
    """The same network by the name that timm's catalogue has for it."""
    arguments = {**known.arguments, **spec.model_args}
    return spec.model_copy(
        update={
            "backbone": known.name,
            "model_args": arguments,
            "pretrained": False,
            "checkpoint": None,
        }
    )


def _start_of(spec: NetworkSpec) -> Path | None:
    """The local file that the network starts from."""
    if spec.checkpoint is not None:
        return Path(spec.checkpoint)
    source, folder = source_of_backbone(spec.backbone)
    return weights_in_folder(Path(folder)) if source == FOLDER and spec.pretrained else None


def built_from(network: nn.Module, spec: NetworkSpec) -> NetworkSpec:
    """A spec that builds the same network from timm's catalogue alone, without weights."""
    found = network.__dict__.get("ens_built_from", spec)
    return found.model_copy(update={"pretrained": False, "checkpoint": None})


def _timm_arguments(spec: NetworkSpec, classes: int, channels: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "num_classes": classes,
        "in_chans": channels,
        **spec.model_args,
    }
    if spec.drop_rate:
        arguments["drop_rate"] = spec.drop_rate
    if spec.drop_path_rate:
        arguments["drop_path_rate"] = spec.drop_path_rate
    return arguments


@contextmanager
def _faults_explained(spec: NetworkSpec, size: Size) -> Iterator[None]:
    """Turn what timm and hubs raise while the block runs into a line about this backbone."""
    try:
        yield
    except EnsemblerError:
        raise
    except TypeError as error:
        raise RequestError(
            f"backbone {spec.backbone!r} does not take these arguments: {error}"
        ) from error
    except Exception as error:
        about_weights = any(
            word in str(error).lower() for word in ("pretrained", "weights")
        )
        from_hub = type(error).__module__.partition(".")[0] in _HUB_PACKAGES or isinstance(
            error, (OSError, ImportError)
        )
        of_hub = source_of_backbone(spec.backbone)[0] == HUB
        if (spec.pretrained or of_hub) and (
            from_hub or (isinstance(error, RuntimeError) and about_weights)
        ):
            raise TrainingError(_no_download(spec, error)) from error
        if isinstance(error, (RuntimeError, ValueError, AssertionError)):
            raise RequestError(
                f"backbone {spec.backbone!r} cannot be built at {shown(size)} px: {error}"
            ) from error
        raise


def _no_download(spec: NetworkSpec, error: Exception) -> str:
    reason = (
        str(error).strip().splitlines()[0][:160]
        if str(error).strip()
        else type(error).__name__
    )
    if source_of_backbone(spec.backbone)[0] == HUB:
        return (
            f"{spec.backbone!r} cannot be had from the hub ({reason}); download the "
            f"repository elsewhere and name its folder with backbone: {FOLDER}:FOLDER"
        )
    return (
        f"pretrained weights of {spec.backbone!r} cannot be had ({reason}); download them "
        "elsewhere and name the file with checkpoint: FILE and pretrained: false, or "
        "train from scratch with pretrained: false"
    )


def _needs_image_size(spec: NetworkSpec, size: Size, channels: int) -> bool:
    """Whether a network takes images of this size only when it is built for them."""
    return _asks_for_size(
        spec.backbone,
        json.dumps(spec.model_args, sort_keys=True, default=str),
        size_of(*sides(size)),  # a record of JSON has a list of them
        channels,
    )


@lru_cache(maxsize=256)
def _asks_for_size(backbone: str, model_args: str, size: Size, channels: int) -> bool:
    spec = NetworkSpec(backbone=backbone, model_args=json.loads(model_args))
    if (
        "img_size" in spec.model_args
        or _fault_at(_sketch(spec, channels), size, channels) is None
    ):
        return False
    try:  # timm has no list of the networks that know the argument
        return _fault_at(_sketch(spec, channels, img_size=size), size, channels) is None
    except (TypeError, ValueError, AssertionError, RuntimeError):
        return False


def _sketch(spec: NetworkSpec, channels: int, **options: Any) -> nn.Module:
    """A network without memory for its weights."""
    import timm

    arguments = {
        k: v for k, v in _timm_arguments(spec, 2, channels).items() if k not in STARTS
    }
    with torch.device("meta"):
        network: nn.Module = timm.create_model(spec.backbone, **arguments, **options)
    return network


def _fault_at(network: nn.Module, size: Size, channels: int) -> str | None:
    """Why a sketched network cannot take images of this size; None when it can."""
    try:
        with torch.device("meta"):
            network.eval()(torch.empty(2, channels, *sides(size)))
    except (RuntimeError, AssertionError, ValueError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def statistics(
    network: nn.Module, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation (0..1) that a backbone expects, averaged for grey.

    0.5 and 0.25 when it does not say.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    mean, std = config.get("mean"), config.get("std")
    if not mean or not std:
        return (GREY_MEAN,) * channels, (GREY_STD,) * channels
    if len(mean) != channels:
        mean, std = (float(np.mean(mean)),) * channels, (float(np.mean(std)),) * channels
    return tuple(float(m) for m in mean), tuple(float(s) for s in std)
