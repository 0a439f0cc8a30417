"""Ensembles trained by torchensemble, fold by fold.

torchensemble (0.2.0) trains; this module feeds it and takes the networks. What it does otherwise
than the rest of this package wants, and what is done about it, is all here:

- It prints its progress and by default writes pickles into the current folder: what it prints is
  thrown away, it saves nothing, and progress is counted by the data it draws and its losses.
- With a loader called test_loader it chooses an epoch by it: it is given none, so the last epoch's
  networks are kept.
- An estimator that is an object is copied with its weights: it is given a class, so that every
  network starts anew.
- `forward` returns averaged probabilities: the networks' own logits are taken instead.
- Bagging rebuilds the loader and loses sampler, generator and drop_last: what must not be lost is
  in the data set.
- The number of classes is counted from labels unless the data set has `classes`: it has.
- A last batch of a single image breaks batch norms: it is shown twice.
- Adversarial training wants pixels from 0 to 1: all methods get them, and the networks scale them
  back.
- It has no mixed precision: autocast is inside the networks. float16 would need a scaler and stays
  float32.
- Its device is "cuda" or "cpu": any other is put in its place.
- It cannot resume inside a fold: a fold that is interrupted starts again. Boosting keeps the batch
  norms of earlier networks in training mode while later ones learn. Weight decay is on all weights,
  learning rates change by epoch.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ensembler.data.augment import sample_seed
from ensembler.data.augment_steps import Augment
from ensembler.data.counters import Streams, keys_of
from ensembler.data.on_device.feed import Feed, feed_of
from ensembler.data.on_device.stages import DeviceAugment
from ensembler.data.size import size_of
from ensembler.errors import RequestError, TrainingError
from ensembler.networks.build import Normalised, build_network, sum_networks
from ensembler.networks.devices import (
    autocast,
    autocast_type,
    pick_device,
    place_for_training,
)
from ensembler.networks.memory import memory_advice
from ensembler.progress import QUIET, Progress
from ensembler.stop import Stop
from ensembler.training.fold_data import FoldData
from ensembler.training.losses import build_loss
from ensembler.training.randomness import own_randomness, seed_all
from ensembler.training.spec import EnsembleSpec
from ensembler.training.trained import EpochRecord, TrainedFold

CLASSES = {
    "fusion": "FusionClassifier",
    "voting": "VotingClassifier",
    "bagging": "BaggingClassifier",
    "gradient_boosting": "GradientBoostingClassifier",
    "soft_gradient_boosting": "SoftGradientBoostingClassifier",
    "snapshot": "SnapshotEnsembleClassifier",
    "adversarial_training": "AdversarialTrainingClassifier",
    "fast_geometric": "FastGeometricClassifier",
}
OPTIMIZERS = {
    "adamw": "AdamW",
    "adam": "Adam",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adamax": "Adamax",
}
_FIT_OPTIONS = {
    "gradient_boosting": ("use_reduction_sum",),
    "soft_gradient_boosting": ("use_reduction_sum",),
    "adversarial_training": ("epsilon",),
    "snapshot": ("lr_clip",),
    "fast_geometric": ("cycle",),
}


def train_ensemble(  # noqa: PLR0913 a keyword for each thing that may be asked for
    spec: EnsembleSpec,
    data: FoldData,
    *,
    augment: Augment | DeviceAugment | None = None,
    seed: int = 0,
    fold: int = 0,
    device: str = "auto",
    name: str = "",
    progress: Progress = QUIET,
    stop: Stop | None = None,
) -> TrainedFold:
    """Train the ensemble of `spec` on the train rows.

    Its networks are called e1, e2, ..., or sum when it is boosted. Raises TrainingError when a loss
    or a weight is not finite, OutOfMemoryError when memory does not suffice.
    """
    if len(data.train_rows) < 2:
        raise RequestError(
            f"fold {fold} has {len(data.train_rows)} train rows; two are needed to learn from"
        )
    chosen_device = pick_device(device)
    stop = Stop() if stop is None else stop
    watch = _Watch(spec, len(data.train_rows), (name, fold), progress, stop)
    advice = memory_advice(
        batch_size=spec.batch_size, size=size_of(*data.pixels.shape[1:3]), amp=spec.amp
    )
    with own_randomness(chosen_device), advice:
        seed_all(sample_seed(seed, "build", fold))
        ensemble = _build(spec, data, chosen_device, watch)
        feed = feed_of(data.pixels, chosen_device, data.labelled_rows, progress)
        images = _Images(data, feed, augment, (seed, fold), watch)
        loader = DataLoader(images, spec.batch_size, shuffle=True, collate_fn=_as_it_is)
        options = _fit_options(spec)
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            _on(chosen_device),
        ):
            warnings.filterwarnings("ignore", module="torchensemble")
            ensemble.fit(
                loader, epochs=spec.epochs, test_loader=None, save_model=False, **options
            )
        watch.end()
    networks = [estimator.network for estimator in ensemble.estimators_]
    _check_finite(networks, spec)
    named = (
        {"sum": sum_networks(networks, spec.shrinkage_rate)}
        if spec.is_sum
        else _numbered(networks)
    )
    return TrainedFold(
        {name: network.requires_grad_(True).eval() for name, network in named.items()},
        tuple(watch.history),
        spec.epochs,
        sum(record.seconds for record in watch.history),
    )


def _numbered(networks: Sequence[Normalised]) -> dict[str, Normalised]:
    return {f"e{i + 1}": network for i, network in enumerate(networks)}


def _build(spec: EnsembleSpec, data: FoldData, device: torch.device, watch: _Watch) -> Any:
    import torchensemble

    _, height, width, channels = data.pixels.shape
    size = size_of(height, width)

    class Estimator(_UnitPixels):
        """A class without arguments, as torchensemble wants it."""

        def __init__(self) -> None:
            network = build_network(
                spec, classes=data.classes, size=size, channels=channels
            )
            super().__init__(
                place_for_training(network, spec.amp, device), spec.amp, device
            )

    arguments: dict[str, Any] = {
        "estimator": Estimator,
        "n_estimators": spec.estimators,
        "cuda": False,
    }
    if spec.is_sum:
        arguments["shrinkage_rate"] = spec.shrinkage_rate
    ensemble = getattr(torchensemble, CLASSES[spec.method])(**arguments)
    ensemble.device = device
    ensemble.set_optimizer(OPTIMIZERS[spec.opt.lower()], **_optimizer_options(spec))
    if spec.sched == "cosine" and spec.method != "snapshot":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torchensemble")
            ensemble.set_scheduler(
                "CosineAnnealingLR", T_max=spec.epochs, eta_min=spec.min_lr
            )
    if not spec.is_sum:
        known = data.targets[data.train_rows]
        counts = np.bincount(known[known >= 0], minlength=data.classes).astype(np.int64)
        names = None if data.names is None else data.names[0]
        ensemble.set_criterion(_Watched(build_loss(spec, counts, names).to(device), watch))
    return ensemble


def _fit_options(spec: EnsembleSpec) -> dict[str, Any]:
    options = {name: getattr(spec, name) for name in _FIT_OPTIONS.get(spec.method, ())}
    if spec.method == "fast_geometric":
        options["lr_1"], options["lr_2"] = spec.cycle_rates
    return options


def _optimizer_options(spec: EnsembleSpec) -> dict[str, Any]:
    options: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    if spec.opt.lower() == "sgd":  # as timm has it
        options |= {"momentum": 0.9 if spec.momentum is None else spec.momentum}
        options["nesterov"] = options["momentum"] > 0
    elif spec.opt.lower() == "rmsprop" and spec.momentum is not None:
        options["momentum"] = spec.momentum
    return options


def _on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _check_finite(networks: Sequence[Normalised], spec: EnsembleSpec) -> None:
    for i, network in enumerate(networks, start=1):
        if not all(bool(torch.isfinite(v).all()) for v in network.state_dict().values()):
            raise TrainingError(
                f"the weights of network {i} of {spec.method} are not finite (learning "
                f"rate {spec.lr:g}); a lower lr, use_reduction_sum: false (boosting) or "
                "amp: off helps"
            )


class _UnitPixels(nn.Module):
    """A network that takes pixels from 0 to 1 and computes in mixed precision if asked for."""

    def __init__(self, network: Normalised, amp: str, device: torch.device) -> None:
        super().__init__()
        self.network = network
        dtype = autocast_type(amp, device)
        self._dtype = None if dtype == torch.float16 else dtype

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[batch, classes]` in float32."""
        with autocast(self._dtype, images.device):
            logits: Tensor = self.network(images * 255)
        return logits.float()


@dataclass
class _Watch:
    """Counts what torchensemble draws, for it tells nothing itself.

    Every pass over the train rows is an epoch.
    """

    spec: EnsembleSpec
    n_rows: int
    name: tuple[str, int]  # of the training, and its fold
    progress: Progress
    stop: Stop
    history: list[EpochRecord] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    drawn: int = 0
    began: float = field(default_factory=time.perf_counter)

    def draw(self, n_images: int) -> None:
        """Some images are drawn; those before them have been learnt from."""
        if self.drawn >= self.n_rows:
            self.end()
            self.stop.check()
        self.drawn += n_images

    def end(self) -> None:
        """A pass is over."""
        loss = float(torch.stack(self.losses).mean()) if self.losses else None
        if loss is not None and not np.isfinite(loss):
            raise TrainingError(
                f"the loss of {self.spec.method} is not finite in pass "
                f"{len(self.history) + 1} of {self.spec.passes} (learning rate "
                f"{self.spec.lr:g}); a lower lr or amp: off helps"
            )
        now = time.perf_counter()
        record = EpochRecord(
            len(self.history) + 1, self.spec.passes, loss, self.spec.lr, now - self.began
        )
        self.history.append(record)
        self.losses, self.drawn, self.began = [], 0, now
        self.progress.epoch(record.of(*self.name))


class _Watched(nn.Module):
    """A loss that is remembered."""

    def __init__(self, loss: nn.Module, watch: _Watch) -> None:
        super().__init__()
        self.loss = loss
        self._watch = watch

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.loss(logits, targets)
        self._watch.losses.append(loss.detach())
        return loss


class _Images(Dataset[tuple[Tensor, Tensor]]):
    """The train rows, given out a batch at a time.

    How an image is augmented depends on when it is drawn.
    """

    def __init__(
        self,
        data: FoldData,
        feed: Feed,
        augment: Augment | DeviceAugment | None,
        key: tuple[int, ...],
        watch: _Watch,
    ) -> None:
        self.classes = range(data.classes)
        self._rows = data.train_rows
        self._data = data
        self._feed = feed
        self._augment = augment
        self._key = key
        self._watch = watch
        self._n_draws = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[Any]) -> tuple[Tensor, Tensor]:
        rows = self._rows[[int(i) for i in indices]]
        self._watch.draw(len(rows))
        self._n_draws += 1
        rows = np.repeat(rows, 2) if len(rows) == 1 else rows
        images = self._augmented(rows, (*self._key, self._n_draws))
        return images.to(torch.float32).div_(255), torch.from_numpy(
            self._data.targets[rows]
        )

    def _augmented(self, rows: NDArray[np.int64], key: tuple[int, ...]) -> Tensor:
        """Images uint8 `[rows, channels, height, width]`, here if the host augments."""
        augment = self._augment
        if augment is None:
            return self._feed.batch(rows)
        if isinstance(augment, DeviceAugment):
            again = np.zeros(len(rows), np.int64)
            drawn = augment.draw(Streams(keys_of(key, rows, again)))
            return augment.apply(self._feed.batch(rows), drawn)
        seeds = [sample_seed(*key, int(row)) for row in rows]
        pixels = [
            augment(image, seed)
            for image, seed in zip(self._data.pixels[rows], seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _as_it_is(batch: Any) -> Any:
    return batch
