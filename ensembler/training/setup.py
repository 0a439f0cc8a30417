"""What a fold is trained with: all that decides its bits, however often it is interrupted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from ensembler.data.augment import sample_seed
from ensembler.data.augment_steps import Augment
from ensembler.data.on_device.stages import DeviceAugment
from ensembler.errors import RequestError
from ensembler.training.batches import BatchSource, epoch_batches
from ensembler.training.fold_data import FoldData
from ensembler.training.sampling import draw_rows
from ensembler.training.spec import MemberSpec


@dataclass(frozen=True)
class FoldSetup:
    """What a fold is trained with.

    `weights` names the networks that are wanted of the training (default: the member's own,
    `spec.primary`); `identity` is a digest of whatever else counts, such as the augmentation.
    `images_at_once` go through the network together where memory is too short for a whole batch.
    Gradients of the parts are added up, so that steps and their number stay as they are.
    """

    spec: MemberSpec
    data: FoldData
    weights: tuple[str, ...] = ()
    identity: str = ""
    augment: Augment | DeviceAugment | None = None
    seed: int = 0
    fold: int = 0
    images_at_once: int | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The networks that are wanted, by name."""
        return self.weights or (self.spec.primary,)

    def check(self) -> None:
        """Raise RequestError when there is too little to learn from."""
        n_rows = len(self.data.train_rows)
        if n_rows < 2:
            raise RequestError(
                f"fold {self.fold} has {n_rows} train rows; two are needed to learn from"
            )

    @property
    def state_key(self) -> str:
        """A fingerprint of what is trained, so that no other training resumes from its state."""
        data = self.data
        rows = hashlib.sha256(
            data.train_rows.tobytes() + data.targets.tobytes()
        ).hexdigest()
        augment = self.spec.model_dump(mode="json", include={"augment"})
        content = [
            self.spec.decisive_options | augment,
            self.wanted,
            self.identity,
            self.seed,
            self.fold,
            rows,
            list(data.pixels.shape),
        ]
        for drawn_by in (data.balance, data.weights):
            if drawn_by is not None:
                content.append(hashlib.sha256(drawn_by.tobytes()).hexdigest())
        if data.teacher is not None:
            content.append(data.teacher.digest)
        return hashlib.sha256(
            json.dumps(content, sort_keys=True, default=str).encode()
        ).hexdigest()

    def source(self, epoch: int) -> BatchSource:
        """The batches of an epoch."""
        key, data = (self.seed, self.fold, epoch), self.data
        rng = np.random.default_rng(sample_seed(*key, "order"))
        weights = None if data.weights is None else data.weights[data.train_rows]
        rows = draw_rows(
            data.train_rows, data.train_labels, self.spec.sampler, rng, weights
        )
        batches = epoch_batches(rows, self.spec.batch_size, rng)
        return BatchSource(
            data.pixels, data.learned, batches, self.augment, key, data.labelled_rows
        )
