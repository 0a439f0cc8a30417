"""Validation after an epoch: how right the network is, and its value of the metric that chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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

    sizes, columns = list(data.sizes), list(data.columns)
    # [tasks]: rows that are right, rows with a label, summed loss
    right, known, loss = (np.zeros(len(sizes)) for _ in range(3))
    kept: list[NDArray[np.float32]] = []
    for start in range(0, len(data.valid_rows), spec.batch_size):
        rows = data.valid_rows[start : start + spec.batch_size]
        pixels = torch.from_numpy(data.pixels[rows]).permute(0, 3, 1, 2).to(device)
        targets = torch.from_numpy(data.targets[rows]).to(device)
        logits = torch.cat(in_parts(predict, pixels))
        labels = torch.split(targets.view(len(targets), -1), columns, dim=1)
        for t, (part, wanted) in enumerate(
            zip(torch.split(logits, sizes, dim=1), labels, strict=True)
        ):
            of_batch = (
                _label_set_scores(part, wanted)
                if data.task_kinds[t] is MULTI_LABEL
                else _scores(part, wanted[:, 0])
            )
            known[t] += int((wanted[:, 0] >= 0).sum())
            right[t] += of_batch[0]
            loss[t] += of_batch[1]
        if spec.choose_by != CHOSEN_BY_LOSS:
            kept.append(logits.cpu().numpy())
    known = np.maximum(known, 1)
    total = float((loss / known).sum())
    judged = total if not kept else _judge(spec.choose_by, np.concatenate(kept), data)
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


def _scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """How many rows are right, and their summed log loss; rows with the label -1 do not count."""
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-1)
    return float((logits.argmax(1) == labels).sum()), float(loss)


def _label_set_scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The same of sets of labels: rows whose whole set is right, and summed mean losses."""
    known = labels[:, 0] >= 0
    logits, wanted = logits[known], labels[known].float()
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, wanted, reduction="none"
    ).mean(dim=1)
    return float(((logits >= 0) == (wanted == 1)).all(dim=1).sum()), float(losses.sum())
