"""Torch in the form in which it computes fastest: batch norms folded, 16-bit weights on CPUs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.fx
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.inference.predictor import Predictor
from ensembler.networks.build import Normalised
from ensembler.networks.devices import autocast, autocast_type, pick_device, tf32


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:
    """The network with its batch norms folded, in the precision that `amp` asks for."""
    on_device = pick_device(device)
    return as_predictor(*simplify(network, sample, amp, on_device), on_device)


def simplify(
    network: nn.Module, sample: Tensor, amp: str, device: torch.device
) -> tuple[nn.Module, torch.dtype | None]:
    """The network with its batch norms folded, and what it has to be autocast to, if anything.

    On processors and CUDA devices weights are kept in 16 bits: autocast would convert them for
    every batch.
    """
    dtype = autocast_type(amp, device)
    network = fold_batch_norms(network.eval()).to(device)
    keeps = device.type in ("cpu", "cuda") and isinstance(network, Normalised)
    if dtype is None or not keeps:
        return network, dtype
    assert isinstance(network, Normalised)
    reduced = _Reduced(copy.deepcopy(network), dtype)
    try:
        as_predictor(reduced, None, device)(sample)
    except RuntimeError:
        # A user's own network may create float32 tensors in its forward pass: autocast handles
        # those.
        return network, dtype
    return reduced, None


def plain(network: nn.Module, device: str) -> Predictor:
    """The network as it is, in float32: what every engine is compared with."""
    return as_predictor(network.eval().to(pick_device(device)), None, pick_device(device))


def plain_tf32(network: nn.Module, device: str) -> Predictor:
    """The same by tensor cores on CUDA devices that have them for float32.

    Elsewhere it is `plain`.
    """
    exact, on_device = plain(network, device), pick_device(device)

    def predict(images: Tensor) -> NDArray[np.float32]:
        with tf32(on_device):
            return exact(images)

    return predict


def as_predictor(
    network: Callable[[Tensor], Tensor], dtype: torch.dtype | None, device: torch.device
) -> TorchPredictor:
    """A network as a function from pixels to logits, under autocast to `dtype`."""
    return TorchPredictor(network, dtype, device)


@dataclass(frozen=True)
class TorchPredictor:
    """A network that torch computes, from pixels to logits."""

    network: Callable[[Tensor], Tensor]
    dtype: torch.dtype | None
    device: torch.device

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Logits `[images, classes]`."""
        logits: NDArray[np.float32] = self.on_device(images).cpu().numpy()
        return logits

    @torch.inference_mode()
    def on_device(self, images: Tensor) -> Tensor:
        """Logits `[images, classes]`, perhaps still being computed."""
        with autocast(self.dtype, self.device):
            return self.network(images).float()


class _Reduced(nn.Module):
    """A normalised network with 16-bit weights; pixels are normalised in float32 before."""

    def __init__(self, network: Normalised, dtype: torch.dtype) -> None:
        super().__init__()
        self.mean, self.std, self.dtype = network.mean, network.std, dtype
        self.network = network.network.to(dtype).to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(
            ((pixels.float() - self.mean) / self.std).to(self.dtype)
        )
        return logits


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them, in place.

    What cannot be followed stays as it is. The modules are found by tracing the network, and called
    as before: only their weights change.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    for convolution, norm in _pairs(network):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.weight, convolution.bias = weight, bias
        parent, _, name = _names(network)[norm].rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
    return network


def _names(network: nn.Module) -> dict[nn.Module, str]:
    return {module: name for name, module in network.named_modules()}


def _pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions whose only use is to feed a batch norm, each with that norm."""
    try:
        nodes = list(torch.fx.Tracer().trace(network).nodes)
    # a network may do anything in its forward; one that cannot be traced is not folded
    except Exception:
        return []
    modules = dict(network.named_modules(remove_duplicate=False))
    pairs = []
    for node in nodes:
        before = _only_input_of(node)
        if before is None:
            continue
        first, second = modules[str(before.target)], modules[str(node.target)]
        names = (str(before.target), str(node.target))
        if _can_be_folded(first, second) and _is_used_once(names, nodes, modules):
            pairs.append((first, second))
    return pairs


def _only_input_of(node: torch.fx.Node) -> torch.fx.Node | None:
    """The call of a module whose result nothing but `node`, a call of a module, uses."""
    before = node.args[0] if node.op == "call_module" and node.args else None
    if not isinstance(before, torch.fx.Node) or before.op != "call_module":
        return None
    return before if len(before.users) == 1 else None


def _can_be_folded(first: nn.Module, second: nn.Module) -> bool:
    """Whether both are of exactly these classes: one that derives from them may do more."""
    if type(first) is not nn.Conv2d or type(second) is not nn.BatchNorm2d:
        return False
    return second.running_mean is not None


def _is_used_once(
    names: Sequence[str], nodes: Sequence[torch.fx.Node], modules: Mapping[str, nn.Module]
) -> bool:
    """Whether modules are called once, have one name each, and none of their weights is read."""
    called = [node.target for node in nodes if node.op == "call_module"]
    read = [str(node.target) for node in nodes if node.op == "get_attr"]
    for name in names:
        n_names = sum(module is modules[name] for module in modules.values())
        is_read = any(target.startswith(f"{name}.") for target in read)
        if called.count(name) != 1 or n_names != 1 or is_read:
            return False
    return True
