"""What one training leaves beside its last weights: averages of epochs and snapshots of cycles."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from ensembler.data.on_device.feed import feed_of
from ensembler.data.pixels import Pixels
from ensembler.training.spec import MemberSpec


class WeightAverages:
    """Averages of the last epochs (swa, last_3) and snapshots (c1, c2, ...) of a network.

    An average is the mean of the weights at the ends of its epochs (Izmailov et al., 2018); the
    statistics of batch norms, which cannot be averaged, are taken anew in one pass over the train
    rows.
    """

    def __init__(self, spec: MemberSpec, wanted: Sequence[str], network: nn.Module) -> None:
        self.averages = {
            name: AveragedModel(network)
            for name in wanted
            if name == "swa" or name.startswith("last_")
        }
        self.firsts = {name: spec.averaged_from(name) for name in self.averages}
        self.ends = {
            name: epoch for name, epoch in spec.cycle_ends.items() if name in wanted
        }
        self.snapshots: dict[str, dict[str, Tensor]] = {}

    def after_epoch(self, epoch: int, network: nn.Module) -> None:
        """Take in the weights at the end of an epoch."""
        for name, average in self.averages.items():
            if epoch >= self.firsts[name]:
                average.update_parameters(network)
        for name, end in self.ends.items():
            if epoch == end:
                self.snapshots[name] = {
                    k: v.detach().cpu().clone() for k, v in network.state_dict().items()
                }

    def state(self) -> dict[str, Any]:
        """Everything a resumed training needs, as tensors and plain values."""
        return {
            "averages": {n: a.state_dict() for n, a in self.averages.items()},
            "snapshots": self.snapshots,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` kept."""
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])
        self.snapshots = state["snapshots"]

    def networks(
        self, network: nn.Module, pixels: Pixels, rows: NDArray[np.int64], batch_size: int
    ) -> dict[str, nn.Module]:
        """The networks by name, `network` giving their form.

        `rows` are the train rows among `pixels`.
        """
        found: dict[str, nn.Module] = {}
        for name, average in self.averages.items():
            renew_batch_norms(average.module, pixels, rows, batch_size)
            found[name] = average.module
        for name, state in self.snapshots.items():
            found[name] = copy.deepcopy(network)
            found[name].load_state_dict(state)
        return found


def renew_batch_norms(
    network: nn.Module, pixels: Pixels, rows: NDArray[np.int64], batch_size: int
) -> None:
    """Recompute the statistics of batch norms in one pass over the plain train pixels."""
    feed = feed_of(pixels, next(network.parameters()).device, rows)
    # none of a single image
    batches = np.array_split(rows, max(1, len(rows) // max(batch_size, 2)))

    with torch.no_grad(), feed.batches(batches) as images:
        update_bn(images, network)
