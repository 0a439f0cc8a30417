"""Weights to start from: local files, read without running anything."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ensembler.errors import DataError, EnsemblerError, RequestError

# of torch.compile, of data-parallel training, of this package
_WRAPPERS = ("_orig_mod.", "module.", "network.")


def start_overlay(
    sketch: nn.Module, state: Mapping[str, Tensor], classes: int, channels: int
) -> dict[str, Any]:
    """What timm has to know of a state dict to load it: its classes and channels.

    timm then leaves out a head for other classes, resizes position embeddings and adapts the first
    convolution.
    """
    config = dict(getattr(sketch, "pretrained_cfg", None) or {})
    heads = [
        state[f"{name}.weight"] for name in _head_names(sketch) if f"{name}.weight" in state
    ]
    overlay = {
        "state_dict": dict(state),
        "source": "",
        "file": "",
        "custom_load": False,
        "label_offset": 0,
    }
    # With another number of classes timm loads without a head: so it does when the file has none.
    overlay["num_classes"] = len(heads[0]) if heads else int(classes == 0)
    first = config.get("first_conv")
    weight = state.get(f"{first}.weight") if isinstance(first, str) else None
    if weight is not None and weight.ndim == 4:
        convolution = sketch.get_submodule(str(first))
        if isinstance(convolution, nn.Conv2d):
            made_for = (
                weight.shape[1] * channels * convolution.groups // convolution.in_channels
            )
            overlay["input_size"] = (made_for, *config["input_size"][1:])
    return overlay


@contextmanager
def loading_explained(path: Path) -> Iterator[list[Any]]:
    """While the block loads weights, list what was missing and left over.

    RequestError when they do not fit at all. timm only logs the former when the head is for other
    classes.
    """
    results: list[Any] = []
    plain = nn.Module.load_state_dict

    def watched(network: nn.Module, *arguments: Any, **options: Any) -> Any:
        results.append(plain(network, *arguments, **options))
        return results[-1]

    nn.Module.load_state_dict = watched  # type: ignore[method-assign, assignment]
    try:
        with warnings.catch_warnings():
            # of timm, about how it resizes what is made for another size
            warnings.simplefilter("ignore")
            yield results
    except EnsemblerError:
        raise
    except (
        RuntimeError,
        KeyError,
        ValueError,
        AttributeError,
        AssertionError,
        IndexError,
    ) as error:
        lines = str(error).strip().splitlines()
        reason = (
            " ".join(" ".join(lines[1:2] or lines).split())[:200] or type(error).__name__
        )
        raise RequestError(_of_another(path, reason)) from error
    finally:
        nn.Module.load_state_dict = plain  # type: ignore[method-assign]


def check_loaded(network: nn.Module, results: list[Any], path: Path) -> None:
    """Raise RequestError when anything but the head was missing in the weights, or left over."""
    head, own = _head_names(network), network.state_dict()
    missing = [
        key
        for result in results
        for key in result.missing_keys
        if key.rpartition(".")[0] not in head
    ]
    strange = [
        key
        for result in results
        for key in result.unexpected_keys
        if key.rpartition(".")[0] not in head
    ]
    if missing or strange or not results:
        first = "nothing fits"
        if missing or strange:
            first = f"it lacks {missing[0]}" if missing else f"it has {strange[0]} besides"
        raise RequestError(
            _of_another(
                path, f"{first} ({len(own) - len(missing)} of {len(own)} tensors fit)"
            )
        )


def _of_another(path: Path, reason: str) -> str:
    return f"checkpoint {path} is of another network: {reason}; name the backbone it was made with"


def read_start(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, its names without what wraps them all."""
    state = read_weights(path)
    for wrapper in _WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def load_start(network: nn.Module, path: Path) -> None:
    """Load starting weights from a local file.

    A head for other classes is left out, anything else must fit.
    """
    state = read_start(path)
    own = network.state_dict()
    head = _head_names(network)
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    wrong = [
        k
        for k in state
        if k in own and own[k].shape != state[k].shape and k.rpartition(".")[0] not in head
    ]
    missing = [k for k in own if k not in state and k.rpartition(".")[0] not in head]
    strange = [k for k in state if k not in own and k.rpartition(".")[0] not in head]
    if wrong:
        shapes = (
            f"{wrong[0]} is {list(state[wrong[0]].shape)}, "
            f"expected {list(own[wrong[0]].shape)}"
        )
        raise RequestError(
            _of_another(path, f"{shapes} ({len(fitting)} of {len(own)} tensors fit)")
        )
    if missing or strange:
        first = f"it lacks {missing[0]}" if missing else f"it has {strange[0]} besides"
        raise RequestError(
            _of_another(path, f"{first} ({len(fitting)} of {len(own)} tensors fit)")
        )
    network.load_state_dict(fitting, strict=False)


def _head_names(network: nn.Module) -> set[str]:
    config = getattr(network, "pretrained_cfg", None) or {}
    head = config.get("classifier") or ()
    names = {head} if isinstance(head, str) else set(head)
    return names or {"fc", "head", "classifier"}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors or .pth, as weights only: nothing in it is run."""
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
            # about pickles that it then refuses, which is said below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if (
            "unsupported" in str(error).lower()
            or "weights only load failed" in str(error).lower()
        ):
            raise DataError(
                f"checkpoint {path} holds more than weights and was not loaded, for it "
                "could run code; ask for a .safetensors file, or save the plain state "
                "dict of a network you trust"
            ) from error
        raise DataError(f"checkpoint {path} is corrupt ({error})") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DataError(f"checkpoint {path} is corrupt or cut short ({error})") from error
    for key in ("state_dict", "state_dict_ema", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(v, Tensor) for v in content.values()
    ):
        raise DataError(f"checkpoint {path} does not hold a state dict (names and tensors)")
    return content
