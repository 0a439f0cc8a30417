"""Losses: of one task, weighed and shaped for unbalanced classes, and of several tasks that share a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import UnknownNameError
from ensembler.training.spec import TrainingSpec

BETA = 0.999  # of the effective number of samples


def build_loss(spec: TrainingSpec, counts: NDArray[np.int64], classes: Sequence[str] | None = None) -> nn.Module:
    """The loss of one task from logits `[batch, classes]` and labels `[batch]` (or soft labels when images are mixed).

    `counts` `[classes]` are the train rows of each class. Raises UnknownNameError for a class that `class_weights`
    names and the task does not have.
    """
    from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

    mixes = spec.mixes
    weights = class_weights(spec, counts, classes)
    if spec.loss == "bce":
        return BinaryCrossEntropy(smoothing=0.0 if mixes else spec.smoothing, pos_weight=weights)
    if spec.loss == "focal":
        return FocalLoss(spec.focal_gamma, weights)
    if spec.loss == "balanced_softmax":
        return BalancedSoftmax(counts, spec.tau, weights, 0.0 if mixes else spec.smoothing)
    if spec.loss == "soft_f1":
        return SoftF1()
    if mixes and weights is None:
        soft: nn.Module = SoftTargetCrossEntropy()
        return soft
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=0.0 if mixes else spec.smoothing)


def class_weights(spec: TrainingSpec, counts: NDArray[np.int64], classes: Sequence[str] | None) -> Tensor | None:
    """The weight of each class `[classes]`, on average 1 over the train rows; None when all weigh the same.

    balanced is 1 / n; effective is (1 - b) / (1 - b^n) with b = 0.999 (Cui et al., 2019).
    """
    if spec.class_weights == "none":
        return None
    n = np.maximum(counts, 1).astype(np.float64)
    if isinstance(spec.class_weights, dict):
        names = list(classes or map(str, range(len(counts))))
        for name in spec.class_weights:
            if name not in names:
                raise UnknownNameError("class in class_weights", name, names)
        return torch.tensor([spec.class_weights.get(name, 1.0) for name in names], dtype=torch.float32)
    weights = 1 / n if spec.class_weights == "balanced" else (1 - BETA) / (1 - BETA**n)
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


class FocalLoss(nn.Module):
    """Cross entropy in which rows that are right already count less: (1 - p)^gamma (Lin et al., 2017), over softmax."""

    weight: Tensor | None

    def __init__(self, gamma: float, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch; a class weight counts as in torch's cross entropy."""
        logs = torch.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
        losses = -((1 - logs.exp()) ** self.gamma) * logs
        if self.weight is None:
            return losses.mean()
        weights = self.weight[targets]
        return (weights * losses).sum() / weights.sum()


class BalancedSoftmax(nn.Module):
    """Cross entropy of logits moved by tau times the log share of each class (Ren et al., 2020; Menon et al., 2021).

    The network learns what speaks for a class beyond how frequent it is; its plain logits suit balanced metrics.
    """

    shift: Tensor

    def __init__(self, counts: NDArray[np.int64], tau: float, weight: Tensor | None, smoothing: float) -> None:
        super().__init__()
        share = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
        self.register_buffer("shift", torch.tensor(tau * np.log(share), dtype=torch.float32), persistent=False)
        self.loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch."""
        loss: Tensor = self.loss(logits + self.shift, targets)
        return loss


class SoftF1(nn.Module):
    """One minus macro-F1 with probabilities in the place of decisions, over the classes that a batch holds."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch; labels may be positions `[batch]` or soft `[batch, classes]`."""
        probs = torch.softmax(logits, dim=1)
        wanted = targets if targets.ndim == 2 else nn.functional.one_hot(targets, logits.shape[1]).to(probs.dtype)
        hits = (probs * wanted).sum(dim=0)
        sizes, present = probs.sum(dim=0) + wanted.sum(dim=0), wanted.sum(dim=0) > 0
        return 1 - (2 * hits[present] / sizes[present]).mean()


class TaskLosses(nn.Module):
    """The weighted sum of the losses of several tasks whose logits stand side by side.

    A row whose label in a task is unknown (-1) does not count in that task.
    """

    def __init__(self, losses: Sequence[nn.Module], sizes: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.sizes = list(sizes)
        self.weights = list(weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits `[batch, all classes]` and labels `[batch, tasks]`."""
        total = logits.sum() * 0.0  # keeps the graph when a batch has no label at all
        parts: tuple[Tensor, ...] = torch.split(logits, self.sizes, dim=1)
        for t, (loss, weight, part) in enumerate(zip(self.losses, self.weights, parts, strict=True)):
            known = targets[:, t] >= 0
            if bool(known.any()):
                total = total + weight * loss(part[known], targets[known, t])
        return total
