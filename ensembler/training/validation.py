"""Validation after an epoch: how right the network is, and its value of the metric that chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.data.on_device.feed import batches_of, feed_of
from ensembler.metrics import score
from ensembler.networks.devices import autocast, autocast_type
from ensembler.networks.memory import in_parts
from ensembler.targets.kinds import MULTI_LABEL
from ensembler.training.fold_data import FoldData
from ensembler.training.spec import MemberSpec

CHOSEN_BY_LOSS = "log_loss"


@dataclass(frozen=True)
class Validation:
    """What a network does on the validation rows.

    `score` is accuracy (of several labels at once that of whole sets), the mean over tasks; `loss`
    the log loss, summed over tasks; `judged` the value of the metric that chooses the epoch, NaN
    when these rows do not have it.
    """

    score: float
    loss: float
    judged: float


@torch.inference_mode()
def validate(
    network: nn.Module, spec: MemberSpec, data: FoldData, device: torch.device
) -> Validation:
    """Predict the validation rows of `data`, in batches no larger than those of the training."""
    network.eval()

    def predict(pixels: Tensor) -> Tensor:
        with autocast(autocast_type(spec.amp, device), device):
            logits: Tensor = network(pixels).float()
        return logits

    batches = batches_of(data.valid_rows, spec.batch_size)
    feed = feed_of(data.pixels, device, data.labelled_rows)
    targets = torch.from_numpy(data.targets[data.valid_rows]).to(device)
    # [batches, tasks, 3], on the device: a look at them would wait for every batch
    sums: list[Tensor] = []
    kept: list[Tensor] = []
    with feed.batches(batches) as found:
        for pixels, wanted in zip(
            found, torch.split(targets, spec.batch_size), strict=True
        ):
            logits = torch.cat(in_parts(predict, pixels))
            sums.append(_sums(logits, wanted, data))
            if spec.choose_by != CHOSEN_BY_LOSS:
                kept.append(logits)
    # [tasks]: rows that are right, rows with a label, summed loss
    right, known, loss = torch.stack(sums).cpu().numpy().astype(np.float64).sum(axis=0).T
    known = np.maximum(known, 1)
    total = float((loss / known).sum())
    judged = (
        total if not kept else _judge(spec.choose_by, torch.cat(kept).cpu().numpy(), data)
    )
    return Validation(float((right / known).mean()), total, judged)


def _judge(metric: str, logits: NDArray[np.float32], data: FoldData) -> float:
    """The mean over tasks of a metric of `logits` `[validation rows, all classes]`.

    NaN when no task has it.
    """
    targets = data.targets[data.valid_rows].reshape(len(logits), -1)
    parts = np.split(logits, np.cumsum(data.sizes)[:-1], axis=1)
    labels = np.split(targets, np.cumsum(data.columns)[:-1], axis=1)
    values = []
    for t, (part, wanted) in enumerate(zip(parts, labels, strict=True)):
        known = wanted[:, 0] >= 0
        if not known.any() or not np.isfinite(part).all():
            continue
        kind = data.task_kinds[t]
        values.append(
            score(metric, kind.probs(part[known]), kind.from_columns(wanted[known]))
        )
    found = [value for value in values if math.isfinite(value)]
    return float(np.mean(found)) if found else float("nan")


def _sums(logits: Tensor, targets: Tensor, data: FoldData) -> Tensor:
    """Of each task how many rows are right, how many have a label, and their summed loss."""
    parts = torch.split(logits, list(data.sizes), dim=1)
    labels = torch.split(targets.view(len(targets), -1), list(data.columns), dim=1)
    return torch.stack(
        [
            _label_set_scores(part, wanted)
            if kind is MULTI_LABEL
            else _scores(part, wanted[:, 0])
            for kind, part, wanted in zip(data.task_kinds, parts, labels, strict=True)
        ]
    )


def _scores(logits: Tensor, labels: Tensor) -> Tensor:
    """How many rows are right, how many have a label (not -1), and their summed log loss."""
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-1)
    right, known = (logits.argmax(1) == labels).sum(), (labels >= 0).sum()
    return torch.stack([right.float(), known.float(), loss])


def _label_set_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """The same of sets of labels: rows whose whole set is right, and summed mean losses."""
    known = labels[:, 0] >= 0
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).float(), reduction="none"
    ).mean(dim=1)
    right = ((logits >= 0) == (labels == 1)).all(dim=1) & known
    # Sums over rows without a label would be NaN where their logits are not finite.
    loss = torch.where(known, losses, 0.0).sum()
    return torch.stack([right.sum().float(), known.sum().float(), loss])
