"""A network that learns: from batches to gradients, from gradients to steps of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ensembler.data.size import size_of
from ensembler.errors import TrainingError
from ensembler.networks.build import Normalised, build_network
from ensembler.networks.compiled import compiler_faults
from ensembler.networks.devices import autocast, autocast_type, place_for_training
from ensembler.networks.fetching import fetched
from ensembler.training.batches import BatchSource
from ensembler.training.head_start import start_head
from ensembler.training.loading import Batch, Loader
from ensembler.training.parts import (
    build_criterion,
    build_ema,
    build_mixup,
    build_optimizer,
    build_scheduler,
    mix,
    updates_per_epoch,
)
from ensembler.training.sampling import epoch_size
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec
from ensembler.training.steps import Place, Steps, places
from ensembler.training.turns import PassOn, nobody_waits

_LOOK_EVERY = 20  # steps between two looks at whether the loss is finite


@dataclass(frozen=True)
class LearningRate:
    """The schedule of an optimizer's learning rate: timm's, then a constant one for swa."""

    spec: MemberSpec
    optimizer: torch.optim.Optimizer
    scheduler: Any

    @property
    def now(self) -> float:
        """The learning rate, of the layers that have the highest one."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    def after(self, updates: int, epoch: int) -> None:
        """Set the rate after so many updates."""
        if self.spec.swa_lr is not None and epoch >= self.spec.averaged_from("swa"):
            for group in self.optimizer.param_groups:
                group["lr"] = self.spec.swa_lr * group.get("lr_scale", 1.0)
        elif self.scheduler is not None:
            self.scheduler.step_update(updates)

    def end_epoch(self, epoch: int) -> None:
        """An epoch is over."""
        if self.scheduler is not None:
            self.scheduler.step(epoch)


@dataclass
class Learner:
    """A network in training with its optimizer, loss and averages."""

    spec: MemberSpec
    device: torch.device
    network: Normalised
    optimizer: torch.optim.Optimizer
    rate: LearningRate
    criterion: nn.Module
    mixup: Any
    ema: Any
    scaler: Any
    total: Tensor  # the summed losses of an epoch's images, where they are computed
    images_at_once: int | None = None  # None: a batch
    compiled: nn.Module | None = None  # the same network, for whole batches
    whole_updates: Steps | None = None  # takes updates of whole batches, if not `take`

    @classmethod
    def build(cls, setup: FoldSetup, device: torch.device) -> Learner:
        """A network that has learnt nothing yet."""
        spec, data = setup.spec, setup.data
        _, height, width, channels = data.pixels.shape
        size = size_of(height, width)
        network = build_network(spec, classes=data.classes, size=size, channels=channels)
        network = place_for_training(network, spec.amp, device)
        if spec.init_head == "probe":
            start_head(network, data, spec.batch_size, setup.seed, device)
        optimizer = build_optimizer(spec, network, device)
        updates = updates_per_epoch(spec, epoch_size(spec.sampler, data.train_labels))
        scheduler = build_scheduler(spec, optimizer, updates)
        is_scaled = autocast_type(spec.amp, device) == torch.float16
        return cls(
            spec=spec,
            device=device,
            network=network,
            optimizer=optimizer,
            rate=LearningRate(spec, optimizer, scheduler),
            criterion=build_criterion(spec, data).to(device),
            mixup=build_mixup(spec, data),
            ema=build_ema(spec, network) if "ema" in setup.wanted else None,
            scaler=torch.amp.GradScaler(device.type, enabled=is_scaled),
            total=torch.zeros((), device=device),
            images_at_once=setup.images_at_once,
        )

    @property
    def predictor(self) -> nn.Module:
        """The network that predicts: the averaged one where that is the member."""
        is_averaged = self.ema is not None and self.spec.primary == "ema"
        return self.ema.module if is_averaged else self.network

    def train_epoch(
        self,
        loader: Loader,
        source: BatchSource,
        epoch: int,
        pass_on: PassOn = nobody_waits,
    ) -> tuple[float, float]:
        """Take the steps of an epoch; the mean loss, and the learning rate of the first step.

        `pass_on` is called after every step.
        """
        is_frozen = epoch <= self.spec.freeze_epochs
        self._prepare(is_frozen=is_frozen)
        steps, accumulate = len(source), self.spec.accumulate
        updates = (epoch - 1) * math.ceil(steps / accumulate)
        self.rate.after(updates, epoch)
        first_rate = self.rate.now
        self.total.zero_()
        sizes = [len(rows) for rows in source.batches]
        looks: list[Callable[[], float]] = []
        n_unasked = 1 if self.device.type == "cuda" else 0
        with loader.batches(source) as batches:
            for step, place in enumerate(places(sizes, accumulate)):
                batch = self.mixed(*next(batches))
                takes = self._who_takes(place, is_frozen=is_frozen)
                takes.take(batch, place, updates + 1)
                if place.is_last:
                    updates += 1
                    self.rate.after(updates, epoch)
                if step % _LOOK_EVERY == 0 or step == steps - 1:
                    looks.append(fetched(self.total))
                # Of a look on CUDA the answer is asked for at the next one: nothing waits for it.
                while len(looks) > n_unasked:
                    self._check_finite(looks.pop(0)(), epoch)
                pass_on()
        total = float(self.total)
        self._check_finite(total, epoch)
        self.rate.end_epoch(epoch)
        return total / sum(sizes), first_rate

    def _who_takes(self, place: Place, *, is_frozen: bool) -> Steps:
        """Who takes a batch: what is left of an epoch, and frozen epochs, are taken eagerly."""
        is_whole = place.of == self.spec.accumulate and place.is_whole(self.spec.batch_size)
        if self.whole_updates is None or is_frozen or not is_whole:
            return self
        return self.whole_updates

    def take(self, batch: Batch, place: Place, updates: int) -> None:
        """Learn from a batch at once; after the last of its update, move.

        `updates` counts the updates with this one.
        """
        self.learn_from(batch, place.of)
        if place.is_last:
            self.move()
            if self.ema is not None:
                self.ema.update(self.network, step=updates)

    def _prepare(self, *, is_frozen: bool) -> None:
        """Put the network into training mode; of a frozen backbone the head alone.

        The statistics of its batch norms stay as they are, like its weights, and its dropout does
        nothing.
        """
        backbone = self.network.network
        if self.spec.freeze_epochs:
            for parameter in backbone.parameters():
                parameter.requires_grad_(not is_frozen)
            for part in _head(backbone):
                part.requires_grad_(True)
        self.network.train()
        if is_frozen:
            backbone.eval()
            for part in _head(backbone):
                part.train()

    def mixed(self, pixels: Tensor, targets: Tensor) -> Batch:
        """A batch whose images and labels are mixed, when the member mixes them."""
        if self.mixup is None:
            return pixels, targets
        return mix(self.mixup, pixels.float(), targets)

    def learn_from(self, batch: Batch, in_update: int) -> None:
        """Add the gradients of a batch, one of `in_update` that are accumulated, and its loss."""
        n_images = len(batch[1])
        # Another batch size would be compiled anew, so the last batch of an epoch goes through the
        # plain network.
        is_whole = n_images == self.spec.batch_size
        network = self.compiled if is_whole and self.compiled is not None else self.network
        for part in parts_of(batch, self.images_at_once):
            share = len(part[1]) / n_images
            loss = self.loss(part, network)
            with compiler_faults():
                self.scaler.scale(share * loss / in_update).backward()
            self.total += loss.detach() * len(part[1])

    def loss(self, batch: Batch, network: nn.Module) -> Tensor:
        """The loss of a batch by a network."""
        images, targets = batch
        dtype = autocast_type(self.spec.amp, self.device)
        with autocast(dtype, self.device), _enough_for_batch_norms(len(images)):
            logits = network(images)
        # The loss is summed in float32, whatever the network computed in.
        loss: Tensor = self.criterion(logits.float(), targets)
        return loss

    def move(self) -> None:
        """Move the weights along the accumulated gradients."""
        if self.spec.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _check_finite(self, total: float, epoch: int) -> None:
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss is not finite in epoch {epoch} (learning rate {self.rate.now:g}); "
                "a lower lr, clip_grad: 1 or amp: off helps"
            )

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs of it."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.scaler.load_state_dict(state["scaler"])


def parts_of(batch: Batch, at_most: int | None) -> list[Batch]:
    """A batch in parts of `at_most` images or so, as equal as can be; None: the batch itself.

    No part is a single image, for which batch norms have no statistics, unless the batch is one.
    """
    images, targets = batch
    n_images = len(targets)
    if at_most is None or n_images <= at_most:
        return [batch]
    n_parts = min(math.ceil(n_images / at_most), max(1, n_images // 2))
    parts = zip(images.tensor_split(n_parts), targets.tensor_split(n_parts), strict=True)
    return list(parts)


@contextmanager
def _enough_for_batch_norms(n_images: int) -> Iterator[None]:
    """Say what torch's batch norms mean by their ValueError for a batch of one image."""
    try:
        yield
    except ValueError as error:
        if n_images > 1:
            raise
        raise TrainingError(
            f"a batch of one image is too few for the network's batch norms ({error}); "
            "batch_size: 2 or more is needed"
        ) from error


def _head(backbone: Any) -> tuple[nn.Module, ...]:
    has_classifier = hasattr(backbone, "get_classifier")
    head = backbone.get_classifier() if has_classifier else list(backbone.children())[-1]
    return head if isinstance(head, tuple) else (head,)
