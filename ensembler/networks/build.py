"""From a spec to a network that takes uint8 pixels and gives logits."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensembler.errors import DataError, RequestError, TrainingError, UnknownNameError
from ensembler.networks.spec import NetworkSpec
from ensembler.registry import load_place

GREY_MEAN, GREY_STD = 0.5, 0.25  # of networks that do not say what they expect


class Normalised(nn.Module):
    """A network in front of which uint8 pixels are normalised with its own mean and deviation, on its device."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        # Constants of the description, not weights: they are not part of the state that is saved.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits `[batch, classes]` of pixels 0..255 `[batch, channels, height, width]`."""
        logits: Tensor = self.network((pixels.float() - self.mean) / self.std)
        return logits


class SumOfNetworks(nn.Module):
    """Networks whose weighted sum, and nothing else, predicts (boosting); gives log-probabilities."""

    def __init__(self, networks: Sequence[nn.Module], factor: float) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities `[batch, classes]`."""
        return torch.log_softmax(self.factor * sum(network(images).float() for network in self.networks), dim=1)


def sum_networks(networks: Sequence[Normalised], factor: float) -> Normalised:
    """One network that gives the log-probabilities of `factor` times the sum of the networks' logits."""
    first = networks[0]
    one = Normalised(SumOfNetworks([network.network for network in networks], factor), (0.0,), (1.0,))
    one.mean, one.std = first.mean, first.std
    return one


def check_backbone(name: str) -> None:
    """Raise UnknownNameError with the nearest names when timm has no such backbone; `module:factory` is not loaded."""
    import timm

    if is_own(name) or name.startswith("hf-hub:"):
        return
    if not timm.is_model(name.split(".")[0]):
        raise UnknownNameError("backbone", name, timm.list_models())


def check_network(spec: NetworkSpec, *, size: int, channels: int) -> None:
    """Raise RequestError when timm cannot build this network, or it cannot take images of this size.

    Nothing is allocated or downloaded; a network of the user's own is not looked at.
    """
    check_backbone(spec.backbone)
    if is_own(spec.backbone):
        return
    bare = spec.model_copy(update={"pretrained": False, "checkpoint": None})
    with torch.device("meta"):
        network = _timm_network(bare, 2, size, channels).eval()
        try:
            network(torch.empty(2, channels, size, size))
        except (RuntimeError, AssertionError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise RequestError(f"backbone {spec.backbone!r} does not take {size} px: {first}") from error


def is_own(backbone: str) -> bool:
    """Whether a backbone is `module:factory` of the user's own."""
    return ":" in backbone and not backbone.startswith("hf-hub:")


def build_network(spec: NetworkSpec, *, classes: int, size: int, channels: int) -> Normalised:
    """Build the network of a spec, its weights random, pretrained or from a local file.

    Raises RequestError for arguments the backbone does not take, a checkpoint of another network or one that is not
    weights alone, and TrainingError when pretrained weights cannot be downloaded.
    """
    if is_own(spec.backbone):
        network = _own_network(spec, classes, channels)
    else:
        network = _timm_network(spec, classes, size, channels)
    if spec.checkpoint is not None:
        load_start(network, Path(spec.checkpoint))
    mean, std = statistics(network, channels)
    return Normalised(network, mean, std)


def _own_network(spec: NetworkSpec, classes: int, channels: int) -> nn.Module:
    factory = load_place(spec.backbone, "backbone")
    arguments = {"num_classes": classes, "in_chans": channels, **spec.model_args}
    try:
        network = factory(**arguments)
    except TypeError as error:
        raise RequestError(f"backbone {spec.backbone!r} was called with {sorted(arguments)}: {error}") from error
    if not isinstance(network, nn.Module):
        raise RequestError(f"backbone {spec.backbone!r} returned a {type(network).__name__}, expected an nn.Module")
    return network


def _timm_network(spec: NetworkSpec, classes: int, size: int, channels: int) -> nn.Module:
    import timm

    check_backbone(spec.backbone)
    arguments: dict[str, Any] = {"num_classes": classes, "in_chans": channels, **spec.model_args}
    if spec.drop_rate:
        arguments["drop_rate"] = spec.drop_rate
    if spec.drop_path_rate:
        arguments["drop_path_rate"] = spec.drop_path_rate
    if "img_size" not in arguments and _takes_image_size(spec.backbone):
        arguments["img_size"] = size
    try:
        network: nn.Module = timm.create_model(spec.backbone, pretrained=spec.pretrained, **arguments)
    except TypeError as error:
        raise RequestError(f"backbone {spec.backbone!r} does not take these arguments: {error}") from error
    except (OSError, ImportError) as error:
        if not spec.pretrained:
            raise
        raise TrainingError(_no_download(spec, error)) from error
    except RuntimeError as error:
        if spec.pretrained and ("pretrained" in str(error).lower() or "weights" in str(error).lower()):
            raise TrainingError(_no_download(spec, error)) from error
        raise RequestError(f"backbone {spec.backbone!r} cannot be built: {error}") from error
    except (ValueError, AssertionError) as error:
        raise RequestError(f"backbone {spec.backbone!r} cannot be built at {size} px: {error}") from error
    return network


def _no_download(spec: NetworkSpec, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return (
        f"pretrained weights of {spec.backbone!r} cannot be had ({reason}); download them elsewhere and name the file "
        "with checkpoint: FILE and pretrained: false, or train from scratch with pretrained: false"
    )


def _takes_image_size(backbone: str) -> bool:
    from timm.models import model_entrypoint

    entry = model_entrypoint(backbone.split(".")[0])
    module = inspect.getmodule(entry)
    # Networks with a fixed grid of patches take the size; timm's convolutional ones refuse the argument.
    source = module.__name__.rpartition(".")[2] if module else ""
    return source in {
        "vision_transformer", "vision_transformer_hybrid", "deit", "beit", "eva", "cait", "xcit", "swin_transformer",
        "swin_transformer_v2", "maxxvit", "mlp_mixer", "volo", "twins", "pvt_v2", "crossvit", "levit", "convit", "tnt",
    } - {"pvt_v2", "xcit", "levit"}  # fmt: skip


def statistics(network: nn.Module, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation (0..1) that a backbone expects, averaged for grey; 0.5 and 0.25 when it does not say."""
    config = getattr(network, "pretrained_cfg", None) or {}
    mean, std = config.get("mean"), config.get("std")
    if not mean or not std:
        return (GREY_MEAN,) * channels, (GREY_STD,) * channels
    if len(mean) != channels:
        mean, std = (float(np.mean(mean)),) * channels, (float(np.mean(std)),) * channels
    return tuple(float(m) for m in mean), tuple(float(s) for s in std)


def load_start(network: nn.Module, path: Path) -> None:
    """Load starting weights from a local file; a head for other classes is left out, anything else must fit."""
    state = read_weights(path)
    state = {key.removeprefix("module.").removeprefix("network."): value for key, value in state.items()}
    own = network.state_dict()
    head = _head_names(network)
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    wrong = [k for k in state if k in own and own[k].shape != state[k].shape and k.rpartition(".")[0] not in head]
    missing = [k for k in own if k not in state and k.rpartition(".")[0] not in head]
    strange = [k for k in state if k not in own and k.rpartition(".")[0] not in head]
    if wrong or missing or strange:
        first = (
            f"{wrong[0]} is {list(state[wrong[0]].shape)}, expected {list(own[wrong[0]].shape)}"
            if wrong
            else f"it lacks {missing[0]}"
            if missing
            else f"it has {strange[0]} besides"
        )
        raise RequestError(
            f"checkpoint {path} is of another network: {first} ({len(fitting)} of {len(own)} tensors fit); "
            "name the backbone it was made with"
        )
    network.load_state_dict(fitting, strict=False)


def _head_names(network: nn.Module) -> set[str]:
    config = getattr(network, "pretrained_cfg", None) or {}
    head = config.get("classifier") or ()
    names = {head} if isinstance(head, str) else set(head)
    return names or {"fc", "head", "classifier"}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from a .pth as weights only: nothing inside the file is ever run."""
    import pickle

    if not path.is_file():
        raise DataError(f"checkpoint {path} does not exist")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, ValueError, OSError) as error:
            raise DataError(f"checkpoint {path} is corrupt ({error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses, which is said below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower() or "weights only load failed" in str(error).lower():
            raise DataError(
                f"checkpoint {path} holds more than weights and was not loaded, for it could run code; "
                "ask for a .safetensors file, or save the plain state dict of a network you trust"
            ) from error
        raise DataError(f"checkpoint {path} is corrupt ({error})") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DataError(f"checkpoint {path} is corrupt or cut short ({error})") from error
    for key in ("state_dict", "state_dict_ema", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise DataError(f"checkpoint {path} does not hold a state dict (names and tensors)")
    return content
