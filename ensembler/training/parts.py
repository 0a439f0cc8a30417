"""The parts of a training that timm makes: optimizer, schedule, mixing of images, averaged weights.

And the loss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensembler.networks.build import Normalised
from ensembler.targets.kinds import MULTI_LABEL
from ensembler.training.distillation import DistillationLoss
from ensembler.training.fold_data import FoldData
from ensembler.training.losses import TaskLosses, build_label_set_loss, build_loss
from ensembler.training.spec import EMA_DECAY, MemberSpec

# One pass over the weights instead of a dozen. Elsewhere sgd keeps the bits of earlier versions.
FUSED = ("adamw", "adam")
FUSED_ON_CUDA = (*FUSED, "sgd", "nesterov", "momentum")


def build_optimizer(
    spec: MemberSpec, network: Normalised, device: torch.device
) -> torch.optim.Optimizer:
    """The member's optimizer over the network's weights, biases and norms without decay."""
    from timm.optim import create_optimizer_v2

    options: dict[str, Any] = {
        "opt": spec.opt,
        "lr": spec.lr,
        "weight_decay": spec.weight_decay,
    }
    if spec.momentum is not None:
        options["momentum"] = spec.momentum
    if spec.layer_decay is not None:
        options["layer_decay"] = spec.layer_decay
    fused = FUSED_ON_CUDA if device.type == "cuda" else FUSED
    if spec.opt.lower() in fused:
        options["fused"] = True
    optimizer: torch.optim.Optimizer = create_optimizer_v2(network.network, **options)
    return optimizer


def updates_per_epoch(spec: MemberSpec, n_rows: int) -> int:
    """How often the optimizer moves in an epoch of `n_rows` rows."""
    steps = math.ceil(n_rows / spec.batch_size)
    if n_rows > spec.batch_size and n_rows % spec.batch_size == 1:
        steps -= 1  # a last batch of one joins the one before
    return math.ceil(steps / spec.accumulate)


def build_scheduler(
    spec: MemberSpec, optimizer: torch.optim.Optimizer, updates: int
) -> Any:
    """The schedule of the learning rate, `updates` to an epoch; None for a constant one."""
    from timm.scheduler import create_scheduler_v2

    if spec.sched == "none":
        return None
    cycles = spec.cycles if spec.snapshots == "cyclic" else 1
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=spec.sched,
        num_epochs=spec.epochs // cycles,
        cycle_limit=cycles,
        cycle_decay=1.0,
        decay_epochs=spec.decay_epochs or max(1, spec.epochs // 3),
        decay_rate=spec.decay_rate
        if spec.sched == "step"
        else 1.0,  # of poly it is the power: a straight line
        warmup_epochs=spec.warmup_epochs,
        warmup_lr=spec.lr / 100,
        min_lr=spec.min_lr,
        step_on_epochs=False,
        updates_per_epoch=updates,
    )
    return scheduler


def build_criterion(spec: MemberSpec, data: FoldData) -> nn.Module:
    """The loss of the member over the tasks of `data`; of a student also that of its teacher."""
    losses = _label_losses(spec, data)
    if data.teacher is None:
        return losses
    of_sets = data.task_kinds[0] is MULTI_LABEL
    return DistillationLoss(data.teacher, data.targets, losses, of_sets=of_sets)


def _label_losses(spec: MemberSpec, data: FoldData) -> nn.Module:
    targets = data.targets[data.train_rows].reshape(len(data.train_rows), -1)
    losses, all_known = [], []
    for t, labels in enumerate(np.split(targets, np.cumsum(data.columns)[:-1], axis=1)):
        names = None if data.names is None else data.names[t]
        known = labels[labels[:, 0] >= 0]
        all_known.append(len(known) == len(labels))
        if data.task_kinds[t] is MULTI_LABEL:
            losses.append(build_label_set_loss(spec, known, names))
        else:
            counts = np.bincount(known[:, 0], minlength=data.sizes[t]).astype(np.int64)
            losses.append(build_loss(spec, counts, names))
    if data.tasks is None:
        return losses[0]
    weights = [(spec.loss_weights or {}).get(name, 1.0) for name in spec.targets]
    return TaskLosses(losses, data.sizes, weights, data.columns, all_known)


def build_mixup(spec: MemberSpec, data: FoldData) -> Any:
    """What mixes the images of a batch and their labels; None when nothing is mixed."""
    from timm.data import Mixup

    if not spec.mixes:
        return None
    # Sets of labels are mixed by the shares of their rows, each row being a class of its own.
    of_sets = MULTI_LABEL in data.task_kinds
    return Mixup(
        mixup_alpha=spec.mixup,
        cutmix_alpha=spec.cutmix,
        label_smoothing=0.0 if of_sets else spec.smoothing,
        num_classes=spec.batch_size + 1 if of_sets else data.classes,
    )


def mix(mixup: Any, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mix a batch `[n, channels, height, width]`; the labels `[n]` become shares `[n, classes]`.

    Sets of labels `[n, classes]`, 0 or 1, are mixed as the images are. timm mixes pairs: of an odd
    batch the last image stays as it is.
    """
    if targets.ndim == 2:
        rows = torch.arange(len(targets), device=targets.device)
        mixed_images, shares = mix(mixup, images, rows)
        return mixed_images, shares[:, : len(targets)] @ targets.to(shares.dtype)
    even = len(images) - len(images) % 2
    if even == len(images):
        mixed: tuple[Tensor, Tensor] = mixup(images, targets)
        return mixed
    hot = nn.functional.one_hot(targets[even:], mixup.num_classes).to(images.dtype)
    # as timm smooths the pairs
    hot = hot * (1 - mixup.label_smoothing) + mixup.label_smoothing / mixup.num_classes
    if not even:
        return images, hot
    first, soft = mixup(images[:even], targets[:even])
    return torch.cat([first, images[even:]]), torch.cat([soft, hot.to(soft.dtype)])


def build_ema(spec: MemberSpec, network: Normalised) -> Any:
    """The moving average of the network's weights, with its decay rising at the start."""
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network, decay=spec.ema or EMA_DECAY, use_warmup=True)
