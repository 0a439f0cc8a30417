"""Losses: of one task, also for unbalanced classes, and of several that share a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError
from ensembler.estimators.weights import class_weights as weights_of_classes
from ensembler.estimators.weights import label_ratios
from ensembler.own_code import is_own, load_own
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, TargetKind
from ensembler.training.catalogue import LOSSES
from ensembler.training.spec import TrainingSpec


@dataclass(frozen=True)
class LossTask:
    """What a loss is made for: one task of a member, and the train rows of a fold.

    `labels` are class indices `[rows]`, or of a multi-label task 0 and 1 `[rows, classes]`; all are
    known. `weights` `[classes]` are those that `class_weights` asks for, of a multi-label task how
    much more it counts that a row has the label; None when all count alike. `smoothing` is 0 where
    images are mixed, for then the labels are smoothed with them.
    """

    spec: TrainingSpec
    kind: TargetKind
    counts: NDArray[np.int64]  # `[classes]`: train rows of each class, or with each label
    weights: Tensor | None
    smoothing: float

    @property
    def n_classes(self) -> int:
        """How many classes or labels there are."""
        return len(self.counts)


LossMaker = Callable[[LossTask], nn.Module]


def build_loss(
    spec: TrainingSpec, counts: NDArray[np.int64], classes: Sequence[str] | None = None
) -> nn.Module:
    """The loss of one task from logits `[batch, classes]` and labels `[batch]`.

    Labels are soft, `[batch, classes]`, when images are mixed. `counts` `[classes]` are the train
    rows of each class. Raises UnknownNameError for a class that `class_weights` names and the task
    does not have.
    """
    smoothing = 0.0 if spec.mixes else spec.smoothing
    weights = class_weights(spec, counts, classes)
    return find_loss(spec.loss)(LossTask(spec, SINGLE_LABEL, counts, weights, smoothing))


def build_label_set_loss(
    spec: TrainingSpec, labels: NDArray[np.int64], classes: Sequence[str] | None
) -> nn.Module:
    """The loss of a multi-label task from logits and labels `[batch, classes]`, 0 or 1 or mixed.

    `labels` `[rows, classes]` are those of the train rows. Raises UnknownNameError as `build_loss`
    does.
    """
    counts, weights = labels.sum(axis=0), label_weights(spec, labels, classes)
    task = LossTask(spec, MULTI_LABEL, counts, weights, spec.smoothing)
    return LabelSetLoss(find_loss(spec.loss)(task))


def find_loss(name: str) -> LossMaker:
    """What makes the loss called `name`: ours, another package's, or the user's own.

    A class, or a function with one argument called `task`, makes a loss, a class with or without
    the task. Any other function is the loss: (logits, targets) -> a number. RequestError for
    anything else.
    """
    found: Any = load_own(name, "loss") if is_own(name) else LOSSES.load(name)
    if name in LOSSES.places:
        maker: LossMaker = found
        return maker
    return partial(_made, name, _maker(name, found))


def check_loss(spec: TrainingSpec) -> None:
    """Raise RequestError for a loss that cannot be loaded, or options that it does not take."""
    find_loss(spec.loss)
    if spec.loss in LOSSES.places:
        return
    asked = {"smoothing": spec.smoothing > 0, "class_weights": spec.class_weights != "none"}
    found: Any = (
        load_own(spec.loss, "loss") if is_own(spec.loss) else LOSSES.load(spec.loss)
    )
    for option, is_asked in asked.items():
        if is_asked and "task" not in inspect.signature(found).parameters:
            raise RequestError(
                f"{option} counts only with a loss that takes a `task`; loss {spec.loss!r} does not"
            )


def _maker(name: str, found: Any) -> LossMaker:
    if not callable(found):
        raise RequestError(f"loss {name!r} is not a function (logits, targets) -> a number")
    parameters = inspect.signature(found).parameters
    if "task" in parameters:
        return found
    if isinstance(found, type):
        return lambda _: found()
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        raise RequestError(
            f"loss {name!r} takes {inspect.signature(found)}; expected a function "
            "(logits, targets) -> a number"
        ) from error
    return lambda _: FunctionLoss(name, found)


def _made(name: str, maker: LossMaker, task: LossTask) -> nn.Module:
    try:
        made = maker(task)
    except Exception as error:
        raise RequestError(
            f"loss {name!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise RequestError(
            f"loss {name!r} made {type(made).__name__}; expected an nn.Module"
        )
    return made


class FunctionLoss(nn.Module):
    """A loss that is a function of logits `[batch, classes]` and targets."""

    def __init__(self, name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.name = name
        self.function = function

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch."""
        loss = self.function(logits, targets)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            what = (
                f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            )
            raise RequestError(f"loss {self.name!r} returned {what}; expected one number")
        return loss


def cross_entropy(task: LossTask) -> nn.Module:
    """Cross entropy over softmax; of a multi-label task that of each label."""
    from timm.loss import SoftTargetCrossEntropy

    if task.kind is MULTI_LABEL:
        return binary_cross_entropy(task)
    if task.spec.mixes and task.weights is None:
        soft: nn.Module = SoftTargetCrossEntropy()
        return soft
    return nn.CrossEntropyLoss(weight=task.weights, label_smoothing=task.smoothing)


def binary_cross_entropy(task: LossTask) -> nn.Module:
    """Binary cross entropy: every class against the rest, or each label."""
    from timm.loss import BinaryCrossEntropy

    of_sets = {"smooth_dense": True} if task.kind is MULTI_LABEL else {}
    loss: nn.Module = BinaryCrossEntropy(
        smoothing=task.smoothing, pos_weight=task.weights, **of_sets
    )
    return loss


def focal(task: LossTask) -> nn.Module:
    """Focal loss (Lin et al., 2017), over softmax or, of a multi-label task, over sigmoids."""
    kind = FocalLabels if task.kind is MULTI_LABEL else FocalLoss
    return kind(task.spec.focal_gamma, task.weights)


def balanced_softmax(task: LossTask) -> nn.Module:
    """Cross entropy of adjusted logits (Ren et al., 2020; Menon et al., 2021)."""
    return BalancedSoftmax(task.counts, task.spec.tau, task.weights, task.smoothing)


def soft_f1(task: LossTask) -> nn.Module:
    """One minus macro-F1 of probabilities."""
    return SoftF1(torch.sigmoid if task.kind is MULTI_LABEL else None)


def asymmetric(task: LossTask) -> nn.Module:
    """Asymmetric loss of label sets (Ridnik et al., 2021)."""
    from timm.loss import AsymmetricLossMultiLabel

    loss: nn.Module = AsymmetricLossMultiLabel(
        smoothing=task.smoothing, reduction="mean", pos_weight=task.weights
    )
    return loss


def class_weights(
    spec: TrainingSpec, counts: NDArray[np.int64], classes: Sequence[str] | None
) -> Tensor | None:
    """The weight of each class `[classes]`, on average 1 over the train rows.

    None when all weigh the same.
    """
    names = list(classes or map(str, range(len(counts))))
    weights = weights_of_classes(spec.class_weights, counts, names)
    return None if weights is None else torch.tensor(weights, dtype=torch.float32)


def label_weights(
    spec: TrainingSpec, labels: NDArray[np.int64], classes: Sequence[str] | None
) -> Tensor | None:
    """How much more it counts that a row has a label than that it has not `[classes]`.

    None when both count alike.
    """
    names = list(classes or map(str, range(labels.shape[1])))
    ratios = label_ratios(spec.class_weights, labels, names)
    return None if ratios is None else torch.tensor(ratios, dtype=torch.float32)


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
    """Cross entropy in which easy rows count less, by (1 - p)^gamma (Lin et al., 2017)."""

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
    """Binary cross entropy in which easy labels count less (Lin et al., 2017)."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch and its labels; labels that a row has count by their weights."""
        from torchvision.ops import sigmoid_focal_loss

        losses: Tensor = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=self.gamma)
        if self.weight is not None:
            losses = losses * (1 + (self.weight - 1) * targets)
        return losses.mean()


class BalancedSoftmax(nn.Module):
    """Cross entropy of logits moved by tau times the log share of each class.

    Logit adjustment (Ren et al., 2020; Menon et al., 2021). The network learns what speaks for a
    class beyond how frequent it is; its plain logits suit balanced metrics.
    """

    shift: Tensor

    def __init__(
        self, counts: NDArray[np.int64], tau: float, weight: Tensor | None, smoothing: float
    ) -> None:
        super().__init__()
        share = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
        self.register_buffer(
            "shift",
            torch.tensor(tau * np.log(share), dtype=torch.float32),
            persistent=False,
        )
        self.loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch."""
        loss: Tensor = self.loss(logits + self.shift, targets)
        return loss


class SoftF1(nn.Module):
    """One minus macro-F1 of probabilities, over the classes that a batch holds."""

    def __init__(self, activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch; labels may be positions `[batch]` or soft `[batch, classes]`."""
        probs = (
            torch.softmax(logits, dim=1)
            if self.activation is None
            else self.activation(logits)
        )
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
        """The loss of logits `[batch, all classes]` and labels `[batch, columns]`."""
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
