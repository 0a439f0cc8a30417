"""Learning from a teacher: its probabilities, as soft targets beside the labels (Hinton, 2015)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_LEAST = 1e-7  # of a teacher's probability, whose logarithm is taken


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's probabilities `[images, classes]` of the images that are trained on.

    Both sides are softened by `temperature`; `hard` is the share of the loss that the label has
    where there is one. A row of NaN has no teacher, and learns from its label alone.
    """

    probs: NDArray[np.float32]
    temperature: float = 1.0
    hard: float = 0.1

    @property
    def digest(self) -> str:
        """A checksum of everything in it."""
        told = f"{self.temperature} {self.hard}".encode()
        return hashlib.sha256(self.probs.tobytes() + told).hexdigest()


class DistillationLoss(nn.Module):
    """The loss from logits `[batch, classes]` and positions among the images `[batch]`.

    `(1 - hard) * T^2 * KL(teacher || student)`, both at temperature T, and `hard` times the loss of
    the label; of images without a label the first part alone, whole, and of images without a
    teacher the second. `label_loss` takes logits and labels, -1 = unknown.
    """

    soft: Tensor
    labels: Tensor

    def __init__(
        self,
        teacher: SoftTargets,
        labels: NDArray[np.int64],
        label_loss: nn.Module,
        *,
        of_sets: bool,
    ) -> None:
        super().__init__()
        self.temperature, self.hard, self.of_sets = (
            teacher.temperature,
            teacher.hard,
            of_sets,
        )
        self.label_loss = label_loss
        self.register_buffer("soft", torch.from_numpy(teacher.probs))
        self.register_buffer("labels", torch.from_numpy(labels))

    def forward(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The mean over the batch."""
        soft, labels = self.soft[rows], self.labels[rows]
        is_taught = soft.isfinite().all(dim=1)
        is_known = labels >= 0 if labels.ndim == 1 else labels[:, 0] >= 0
        of_teacher = torch.where(is_known, 1 - self.hard, 1.0) * is_taught
        # what no teacher says is a uniform answer with weight 0: NaN times 0 would stay NaN
        answers = torch.where(is_taught[:, None], soft, 1 / soft.shape[1])
        apart = self._apart(logits, answers) * self.temperature**2
        total: Tensor = (of_teacher * apart).mean()
        for is_meant, share in (
            (is_known & is_taught, self.hard),
            (is_known & ~is_taught, 1.0),
        ):
            if share > 0 and bool(is_meant.any()):
                of_labels = self.label_loss(logits[is_meant], labels[is_meant])
                total = total + share * is_meant.float().mean() * of_labels
        return total

    def _apart(self, logits: Tensor, soft: Tensor) -> Tensor:
        """How far the student is from its teacher, by row: a Kullback-Leibler divergence."""
        cooled = logits / self.temperature
        if self.of_sets:
            asked = torch.special.logit(soft, eps=_LEAST) / self.temperature
            wanted = torch.sigmoid(asked)
            both = nn.functional.binary_cross_entropy_with_logits
            own = both(asked, wanted, reduction="none")
            return (both(cooled, wanted, reduction="none") - own).mean(dim=1)
        log_soft = soft.clamp(min=_LEAST).log() / self.temperature
        wanted = log_soft.log_softmax(dim=1)
        student = cooled.log_softmax(dim=1)
        return (wanted.exp() * (wanted - student)).sum(dim=1)
