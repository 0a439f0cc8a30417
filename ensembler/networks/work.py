"""How much a network computes for an image, counted without computing anything."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from ensembler.data.size import Size, sides
from ensembler.networks.build import build_network
from ensembler.networks.spec import NetworkSpec


def flops_per_image(
    spec: NetworkSpec, *, classes: int, size: Size, channels: int
) -> float | None:
    """Floating point operations of one image's way through the network, forwards.

    Nothing is allocated or downloaded: shapes alone go through it. None for a network that cannot
    be followed this way, as one of the user's own that looks at values.
    """
    plain = spec.model_copy(update={"pretrained": False, "checkpoint": None})
    try:
        with torch.device("meta"), torch.no_grad():
            network = build_network(plain, classes=classes, size=size, channels=channels)
            image = torch.empty(1, channels, *sides(size))
            with FlopCounterMode(display=False) as counted:
                network.eval()(image)
    # whatever a network of somebody else's does with shapes alone: it is then not counted
    except Exception:
        return None
    return float(counted.get_total_flops())
