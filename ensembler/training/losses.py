"""Losses: of one task, weighed and shaped for unbalanced classes, and of several tasks that share a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import UnknownNameError
from ensembler.training.spec import TrainingSpec

BETA = 0.999  # of the effective number of samples


def build_loss(
    spec: TrainingSpec, counts: NDArray[np.int64], classes: Sequence[str] | None = None
) -> nn.Module:
    """The loss of one task from logits `[batch, classes]` and labels `[batch]` (or soft labels when images are mixed).

    `counts` `[classes]` are the train rows of each class. Raises UnknownNameError for a class that
    `class_weights` names and the task does not have.
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


def class_weights(
    spec: TrainingSpec, counts: NDArray[np.int64], classes: Sequence[str] | None
) -> Tensor | None:
    """The weight of each class `[classes]`, on average 1 over the train rows.

    None when all weigh the same. balanced is 1 / n; effective is (1 - b) / (1 - b^n) with b = 0.999
    (Cui et al., 2019).
    """
    if spec.class_weights == "none":
        return None
    n = np.maximum(counts, 1).astype(np.float64)
    if isinstance(spec.class_weights, dict):
        names = list(classes or map(str, range(len(counts))))
        for name in spec.class_weights:
            if name not in names:
                raise UnknownNameError("class in class_weights", name, names)
        return torch.tensor(
            [spec.class_weights.get(name, 1.0) for name in names], dtype=torch.float32
        )
    weights = 1 / n if spec.class_weights == "balanced" else (1 - BETA) / (1 - BETA**n)
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def build_label_set_loss(
    spec: TrainingSpec, labels: NDArray[np.int64], classes: Sequence[str] | None
) -> nn.Module:
    """The loss of a multi-label task from logits `[batch, classes]` and labels, 0 or 1 (or mixed), of the same shape.

    `labels` `[rows, classes]` are those of the train rows. cross_entropy and bce are the same here:
    that of each label. Raises UnknownNameError as `build_loss` does.
    """
    from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy

    positive, smoothing = label_weights(spec, labels, classes), spec.smoothing
    if spec.loss == "asymmetric":
        return LabelSetLoss(
            AsymmetricLossMultiLabel(smoothing=smoothing, reduction="mean", pos_weight=positive)
        )
    if spec.loss == "focal":
        return LabelSetLoss(FocalLabels(spec.focal_gamma, positive))
    if spec.loss == "soft_f1":
        return LabelSetLoss(SoftF1(torch.sigmoid))
    return LabelSetLoss(
        BinaryCrossEntropy(smoothing=smoothing, smooth_dense=True, pos_weight=positive)
    )


def label_weights(
    spec: TrainingSpec, labels: NDArray[np.int64], classes: Sequence[str] | None
) -> Tensor | None:
    """How much more it counts that a row has a label than that it has not `[classes]`.

    None when both count alike. balanced is the ratio of rows without the label to rows with it,
    effective that of their effective numbers.
    """
    if spec.class_weights == "none":
        return None
    if isinstance(spec.class_weights, dict):
        return class_weights(spec, labels.sum(axis=0), classes)
    having = np.maximum(labels.sum(axis=0), 1).astype(np.float64)
    lacking = np.maximum(len(labels) - having, 1)
    ratio = (
        lacking / having
        if spec.class_weights == "balanced"
        else (1 - BETA**lacking) / (1 - BETA**having)
    )
    return torch.tensor(ratio, dtype=torch.float32)


class LabelSetLoss(nn.Module):
    """A loss of single labels, which wants labels as floats."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch and its labels."""
        loss: Tensor = self.loss(logits, targets.to(logits.dtype))
        return loss


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


class FocalLabels(FocalLoss):
    """Binary cross entropy in which labels that are right already count less (Lin et al., 2017), over sigmoids."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch and its labels; labels that a row has count by their weights."""
        from torchvision.ops import sigmoid_focal_loss

        losses: Tensor = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=self.gamma)
        if self.weight is not None:
            losses = losses * (1 + (self.weight - 1) * targets)
        return losses.mean()


class BalancedSoftmax(nn.Module):
    """Cross entropy of logits moved by tau times the log share of each class (Ren et al., 2020; Menon et al., 2021).

    The network learns what speaks for a class beyond how frequent it is; its plain logits suit
    balanced metrics.
    """

    shift: Tensor

    def __init__(
        self, counts: NDArray[np.int64], tau: float, weight: Tensor | None, smoothing: float
    ) -> None:
        super().__init__()
        share = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
        self.register_buffer(
            "shift", torch.tensor(tau * np.log(share), dtype=torch.float32), persistent=False
        )
        self.loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch."""
        loss: Tensor = self.loss(logits + self.shift, targets)
        return loss


class SoftF1(nn.Module):
    """One minus macro-F1 with probabilities in the place of decisions, over the classes that a batch holds."""

    def __init__(self, activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch; labels may be positions `[batch]` or soft `[batch, classes]`."""
        probs = torch.softmax(logits, dim=1) if self.activation is None else self.activation(logits)
        wanted = (
            targets
            if targets.ndim == 2
            else nn.functional.one_hot(targets, logits.shape[1]).to(probs.dtype)
        )
        hits = (probs * wanted).sum(dim=0)
        sizes, present = probs.sum(dim=0) + wanted.sum(dim=0), wanted.sum(dim=0) > 0
        return 1 - (2 * hits[present] / sizes[present]).mean()


class TaskLosses(nn.Module):
    """The weighted sum of the losses of several tasks whose logits stand side by side.

    A row whose label in a task is unknown (-1) does not count in that task.
    """

    def __init__(
        self,
        losses: Sequence[nn.Module],
        sizes: Sequence[int],
        weights: Sequence[float],
        columns: Sequence[int] | None = None,
        all_known: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.sizes = list(sizes)
        self.weights = list(weights)
        self.columns = list(columns or [1] * len(self.sizes))
        # Looking for unknown labels waits for the device; where there are none nothing is looked
        # for.
        self.all_known = list(all_known or [False] * len(self.sizes))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits `[batch, all classes]` and labels `[batch, columns]`: one for each task, or each label."""
        total = logits.sum() * 0.0  # keeps the graph when a batch has no label at all
        parts: tuple[Tensor, ...] = torch.split(logits, self.sizes, dim=1)
        labels: tuple[Tensor, ...] = torch.split(targets, self.columns, dim=1)
        for loss, weight, part, wanted, all_known in zip(
            self.losses, self.weights, parts, labels, self.all_known, strict=True
        ):
            if not all_known:
                known = wanted[:, 0] >= 0
                if not bool(known.any()):
                    continue
                part, wanted = part[known], wanted[known]
            total = total + weight * loss(
                part, wanted if isinstance(loss, LabelSetLoss) else wanted[:, 0]
            )
        return total
