"""A frozen network with fitted layers on its features, as one network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ensembler.errors import RequestError
from ensembler.estimators.linear import Layers
from ensembler.networks.build import Normalised


def with_layers(frozen: Normalised, layers: Sequence[Layers]) -> Normalised:
    """A network of the logits that each of `layers` gives for the features, side by side.

    Raises RequestError where layers of several targets are not one matrix each.
    """
    modules: list[nn.Module] = [frozen.network]
    if len(layers) == 1:
        modules += _modules(layers[0])
    elif all(len(one.matrices) == 1 for one in layers):
        matrix = torch.cat([torch.tensor(one.matrices[0]) for one in layers], dim=1)
        bias = torch.cat([torch.tensor(one.biases[0]) for one in layers])
        modules.append(_linear(matrix, bias))
    else:
        raise RequestError(
            "heads of several layers on several targets are no single network"
        )
    whole = Normalised(nn.Sequential(*modules), (0.0,), (1.0,))
    whole.mean, whole.std = frozen.mean, frozen.std
    return whole.to(frozen.mean.device).eval()


def _modules(layers: Layers) -> list[nn.Module]:
    found: list[nn.Module] = []
    for matrix, bias in zip(layers.matrices, layers.biases, strict=True):
        if found:
            found.append(nn.ReLU())
        found.append(_linear(torch.tensor(matrix), torch.tensor(bias)))
    return found


def _linear(matrix: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    made = nn.Linear(*matrix.shape)
    with torch.no_grad():
        made.weight.copy_(matrix.T)
        made.bias.copy_(bias)
    return made
