"""Model soups: a network with the mean weights of several (Wortsman et al., 2022)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from ensembler.networks.build import Normalised


def average_weights(networks: Sequence[Normalised]) -> Normalised:
    """A network with the mean of all floating-point weights; counters are the first's.

    The statistics of batch norms are averaged like weights and should be taken anew afterwards.
    """
    # On the processor: other devices, such as MPS, may have no double precision.
    states = [
        {name: value.cpu() for name, value in network.state_dict().items()}
        for network in networks
    ]
    mean = {
        name: torch.stack([state[name].double() for state in states])
        .mean(dim=0)
        .to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
    soup = copy.deepcopy(networks[0])
    soup.load_state_dict(mean)
    return soup
