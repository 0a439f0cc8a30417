"""A whole update as one CUDA graph: forward, backward, clipping, optimizer, averaged weights.

A graph repeats what was recorded to the bit: the same addresses, and the same numbers wherever the
host had a say. So batches are copied to where the recorded ones lay, and what changes from update
to update (learning rates, the weight of the averaged weights) are tensors that are filled before
each replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ensembler.networks.devices import copies_early
from ensembler.networks.graphs import Graph, Graphs
from ensembler.training.distillation import DistillationLoss
from ensembler.training.loading import Batch
from ensembler.training.losses import TaskLosses
from ensembler.training.preserved import begins_with_zeros, preserved
from ensembler.training.steps import Place

if TYPE_CHECKING:
    from ensembler.training.learner import Learner


def why_not_graphed(learner: Learner) -> str | None:
    """What of a training cannot be recorded, in words; None when nothing is known of."""
    spec, optimizer = learner.spec, learner.optimizer
    # Fused ones read their learning rate from a tensor, and skip a step without asking the host.
    is_fused = all(group.get("fused") for group in optimizer.param_groups)
    if not begins_with_zeros(optimizer) or not is_fused:
        return f"opt: {spec.opt}"
    if spec.loss == "soft_f1":
        return "loss: soft_f1"
    criterion = learner.criterion
    # It asks the host which images of a batch have a label.
    if isinstance(criterion, DistillationLoss):
        return "a student's loss"
    if isinstance(criterion, TaskLosses) and not all(criterion.all_known):
        return "a target with labels missing"
    return None


class GraphedUpdates:
    """Takes whole updates as a graph, recorded when the first one is complete.

    When recording fails, `refused` is told why, and all updates are taken eagerly.
    """

    def __init__(
        self, learner: Learner, graphs: Graphs, refused: Callable[[str], None]
    ) -> None:
        self.learner = learner
        self.graphs = graphs
        self.refused = refused
        self._numbers = _Numbers(learner)
        self._inputs: list[Batch] = []
        self._graph: Graph | None = None
        self._is_refused = False

    def take(self, batch: Batch, place: Place, updates: int) -> None:
        """Keep a batch where the graph reads it; with the last one of its update, replay."""
        if self._is_refused:
            self.learner.take(batch, place, updates)
            return
        if len(self._inputs) == place.index:
            self._inputs.append(_like(batch))
        for kept, given in zip(self._inputs[place.index], batch, strict=True):
            kept.copy_(given, non_blocking=True)
        if not place.is_last:
            return
        self._numbers.fill(updates)
        if self._graph is None:
            self._graph = self._record()
        if self._graph is None:
            self._is_refused = True
            self._take_eagerly(updates)
            return
        self._graph.replay()

    def _record(self) -> Graph | None:
        """The graph; None when it cannot be recorded."""
        learner = self.learner
        if learner.scaler.is_enabled():
            # makes the tensors of its scale, at the first call
            learner.scaler.scale(learner.total)
        try:
            with preserved(learner), self._numbers.in_place():
                self.graphs.warm_up(self._update)
                return self.graphs.capture(self._update)
        except RuntimeError as error:
            self.refused("".join(str(error).strip().splitlines()[:1]))
            return None

    def _update(self) -> None:
        """What is recorded."""
        learner = self.learner
        for batch in self._inputs:
            learner.learn_from(batch, len(self._inputs))
        learner.move()
        if learner.ema is not None:
            average_in(learner.ema.module, learner.network, self._numbers.of_average)

    def _take_eagerly(self, updates: int) -> None:
        learner = self.learner
        sizes = tuple(len(images) for images, _ in self._inputs)
        for index, batch in enumerate(self._inputs):
            learner.take(batch, Place(index, sizes), updates)


@torch.no_grad()
def average_in(average: nn.Module, network: nn.Module, weight: Tensor) -> None:
    """Move averaged weights towards a network's by a share that a tensor holds.

    As timm's ModelEmaV3 does: buffers are averaged, too, and whole numbers are copied.
    """
    averaged, moved = [], []
    for kept, new in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if kept.is_floating_point():
            averaged.append(kept)
            moved.append(new)
        else:
            kept.copy_(new)
    gaps = torch._foreach_sub(moved, averaged)
    torch._foreach_mul_(gaps, weight)
    torch._foreach_add_(averaged, gaps)


@dataclass
class _Numbers:
    """What the host decides anew for each update, as tensors that a graph reads."""

    learner: Learner
    _values: Tensor = field(init=False)

    def __post_init__(self) -> None:
        # of each group of weights its learning rate, then the weight of the averaged weights
        n = len(self._groups) + 1
        self._values = torch.zeros(n, device=self.learner.device)

    @property
    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.learner.optimizer.param_groups
        return groups

    @property
    def of_average(self) -> Tensor:
        """How far the averaged weights move towards the weights."""
        return self._values[-1]

    def fill(self, updates: int) -> None:
        """Take the numbers of the update that is now to be made."""
        ema = self.learner.ema
        of_average = 0.0 if ema is None else 1.0 - ema.get_decay(updates)
        numbers = [float(group["lr"]) for group in self._groups]
        now = torch.tensor([*numbers, of_average], dtype=torch.float32)
        # Not pinned: CUDA has read it when the call returns, so that nothing can overwrite it.
        self._values.copy_(now, non_blocking=copies_early(self.learner.device))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the optimizer read the tensors, and know that it is recorded."""
        before = [dict(group) for group in self._groups]
        for group, rate in zip(self._groups, self._values[:-1].unbind(), strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        # The warm-up is not recorded, of which torch would warn.
        self.learner.optimizer._warned_capturable_if_run_uncaptured = True
        try:
            yield
        finally:
            for group, kept in zip(self._groups, before, strict=True):
                for name in ("lr", "capturable"):
                    if name in kept:
                        group[name] = kept[name]


def _like(batch: Batch) -> Batch:
    images, targets = batch
    return torch.empty_like(images), torch.empty_like(targets)
