"""Training one fold: pixels and labels in, a network out.

Everything random is derived from seed, fold, epoch and sample, so that a fold that was interrupted
ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensembler.data.augment import Augment, sample_seed
from ensembler.errors import RequestError, TrainingError
from ensembler.metrics import is_better
from ensembler.networks.build import Normalised, build_network
from ensembler.networks.compiled import compiler_faults
from ensembler.networks.devices import (
    autocast,
    autocast_type,
    loader_processes,
    pick_device,
    place_for_training,
)
from ensembler.networks.memory import memory_advice
from ensembler.progress import QUIET, Epoch, Progress
from ensembler.stop import Stop
from ensembler.training.averages import FurtherWeights
from ensembler.training.batches import BatchSource, epoch_batches
from ensembler.training.compiling import NOT_COMPILED, CompileChoice, choose, compiled, works
from ensembler.training.fold_data import FoldData
from ensembler.training.loading import Loader
from ensembler.training.parts import (
    build_criterion,
    build_ema,
    build_mixup,
    build_optimizer,
    build_scheduler,
    mix,
    updates_per_epoch,
)
from ensembler.training.randomness import only_deterministic, own_randomness, seed_all
from ensembler.training.sampling import draw_rows, epoch_size
from ensembler.training.spec import MemberSpec
from ensembler.training.state import StateKeeper, read_state
from ensembler.training.validation import validate


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a fold.

    `loss` is that on the train rows when it is known, `lr` the learning rate at the epoch's first
    step, `score` and `valid_loss` are accuracy (of several labels at once of whole sets) and log
    loss on the validation rows, None after epochs that were not validated; `judged` is the value of
    the metric that chooses the epoch, where one is chosen.
    """

    epoch: int
    epochs: int
    loss: float | None
    lr: float
    seconds: float
    score: float | None = None
    valid_loss: float | None = None
    judged: float | None = None

    def of(self, training: str, fold: int) -> Epoch:
        """The same as progress shows it."""
        return Epoch(training, fold, self.epoch, self.epochs, self.loss, self.score, self.seconds)

    def to_json(self) -> dict[str, Any]:
        """As plain values; a figure that is not finite becomes None."""
        return {
            k: v if not isinstance(v, float) or math.isfinite(v) else None
            for k, v in asdict(self).items()
        }


@dataclass(frozen=True)
class TrainedFold:
    """What a training left, in evaluation mode, and how it came about.

    `networks` by name: last (or ema), and what else was asked for: averages, snapshots, estimators
    of an ensemble. `chosen_epoch` is the one that the first of them is of, `epochs` names those of
    the others.
    """

    networks: Mapping[str, Normalised]
    history: tuple[EpochRecord, ...]
    chosen_epoch: int
    seconds: float
    made_of: tuple[str, ...] = ()  # the members whose weights a soup averages
    epochs: Mapping[str, int] = field(default_factory=dict)

    def epoch_of(self, name: str) -> int:
        """The epoch after which one of the networks was taken."""
        return self.epochs.get(name, self.chosen_epoch)

    @property
    def network(self) -> Normalised:
        """The first of its networks."""
        return next(iter(self.networks.values()))


def train_fold(
    spec: MemberSpec,
    data: FoldData,
    *,
    weights: Sequence[str] = (),
    identity: str = "",
    augment: Augment | None = None,
    seed: int = 0,
    fold: int = 0,
    device: str = "auto",
    workers: int | None = None,
    state_path: Path | None = None,
    name: str = "",
    progress: Progress = QUIET,
    stop: Stop | None = None,
    compiled: bool | None = None,
    on_compile_choice: Callable[[CompileChoice], bool] | None = None,
) -> TrainedFold:
    """Train the network of `spec` on the train rows.

    `weights` names the networks that are wanted of the training (default: the member's own,
    `spec.primary`). With `state_path` the state is kept on disk from time to time and taken up
    again by a training of the same spec, rows and `identity`, a digest of whatever else counts,
    such as the augmentation. With `compile: auto`, `compiled` is what was chosen before; None has
    it measured, and `on_compile_choice` says what counts. Epochs of `name` are shown on `progress`;
    between two of them `stop` may end the training. Raises TrainingError when the loss is not
    finite, with epoch and learning rate.
    """
    if len(data.train_rows) < 2:
        raise RequestError(
            f"fold {fold} has {len(data.train_rows)} train rows; two are needed to learn from"
        )
    chosen_device = pick_device(device)
    processes = loader_processes(chosen_device) if workers is None else workers
    loader = Loader(processes, chosen_device, progress)
    wanted = tuple(weights) or (spec.primary,)
    size = data.pixels.shape[1]
    with (
        own_randomness(chosen_device),
        only_deterministic(spec.deterministic, progress),
        memory_advice(
            batch_size=spec.batch_size, size=size, amp=spec.amp, accumulate=spec.accumulate
        ),
        nullcontext() if state_path is None else StateKeeper(state_path) as keeper,
    ):
        seed_all(sample_seed(seed, "build", fold))
        training = _Training.build(
            spec, data, wanted, identity, augment, seed, fold, chosen_device, loader
        )
        if state_path is not None:
            training.resume(state_path, progress)
        if not training.is_over:
            training.compile(compiled, on_compile_choice, progress)
        while not training.is_over:
            training.train_epoch()
            if keeper is not None:
                keeper.keep(
                    training.state()
                )  # before the validation, so that nothing can take the epoch away
            training.validate()
            progress.epoch(training.history[-1].of(name, fold))
            if stop is not None:
                stop.check()
        return training.result()


@dataclass
class _Training:
    """A fold in training: the parts that change from epoch to epoch."""

    spec: MemberSpec
    data: FoldData
    wanted: tuple[str, ...]
    identity: str
    augment: Augment | None
    seed: int
    fold: int
    device: torch.device
    loader: Loader
    network: Normalised
    optimizer: torch.optim.Optimizer
    scheduler: Any
    criterion: nn.Module
    mixup: Any
    ema: Any
    further: FurtherWeights
    scaler: Any
    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    compiled: nn.Module | None = None  # the same network, for whole batches

    @classmethod
    def build(
        cls,
        spec: MemberSpec,
        data: FoldData,
        wanted: tuple[str, ...],
        identity: str,
        augment: Augment | None,
        seed: int,
        fold: int,
        device: torch.device,
        loader: Loader,
    ) -> _Training:
        _, size, _, channels = data.pixels.shape
        network = build_network(spec, classes=data.classes, size=size, channels=channels)
        network = place_for_training(network, spec.amp, device)
        optimizer = build_optimizer(spec, network)
        updates = updates_per_epoch(spec, epoch_size(spec.sampler, data.train_labels))
        return cls(
            spec,
            data,
            wanted,
            identity,
            augment,
            seed,
            fold,
            device,
            loader,
            network,
            optimizer,
            build_scheduler(spec, optimizer, updates),
            build_criterion(spec, data).to(device),
            build_mixup(spec, data),
            build_ema(spec, network) if "ema" in wanted else None,
            FurtherWeights(spec, wanted, network),
            torch.amp.GradScaler(
                device.type, enabled=autocast_type(spec.amp, device) == torch.float16
            ),
        )

    @property
    def job(self) -> str:
        """A fingerprint of what is trained, so that a state is never taken up by another training."""
        rows = hashlib.sha256(
            self.data.train_rows.tobytes() + self.data.targets.tobytes()
        ).hexdigest()
        augment = self.spec.model_dump(mode="json", include={"augment"})
        content = [
            self.spec.decisive_options | augment,
            self.wanted,
            self.identity,
            self.seed,
            self.fold,
            rows,
            list(self.data.pixels.shape),
        ]
        for drawn_by in (self.data.balance, self.data.weights):
            if drawn_by is not None:
                content.append(hashlib.sha256(drawn_by.tobytes()).hexdigest())
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or patience ran out."""
        done, patience = len(self.history), self.spec.patience
        if done >= self.spec.epochs:
            return True
        if patience is None or not self.best_epoch:
            return False
        was_judged = (
            self.history[-1].judged is not None
        )  # with val_interval, the next look may find a better one
        return was_judged and done - self.best_epoch >= patience

    def compile(
        self,
        chosen: bool | None,
        on_choice: Callable[[CompileChoice], bool] | None,
        progress: Progress,
    ) -> None:
        """Compile the network when the member says so, or when a measurement does (unless it was `chosen` before)."""
        wanted = self.spec.compile == "on" or (self.spec.compile == "auto" and chosen)
        if self.spec.compile == "auto" and chosen is not False:
            source = self._source(len(self.history) + 1)
            with Loader(0, self.device).batches(source) as batches:
                pixels, targets = next(batches)
            self.network.train()
            wanted, text = self._weigh_compiling(
                chosen, lambda n: self._loss(pixels, targets, n), len(source), on_choice
            )
            if text:
                progress.note(text)
        if wanted:
            self.compiled = compiled(self.network)

    def _weigh_compiling(
        self,
        chosen: bool | None,
        loss: Callable[[nn.Module], Tensor],
        steps: int,
        on_choice: Callable[[CompileChoice], bool] | None,
    ) -> tuple[bool, str]:
        """Whether to compile with compile: auto, and what there is to say about it.

        An epoch has so many steps.
        """
        if chosen:  # perhaps on another machine
            return (True, "") if works(self.network, loss) else (False, NOT_COMPILED)
        choice = choose(
            self.network, loss, steps * (self.spec.epochs - len(self.history)), self.device
        )
        return choice.compiled if on_choice is None else on_choice(choice), choice.text

    def _source(self, epoch: int) -> BatchSource:
        key, data = (self.seed, self.fold, epoch), self.data
        rng = np.random.default_rng(sample_seed(*key, "order"))
        weights = None if data.weights is None else data.weights[data.train_rows]
        rows = draw_rows(data.train_rows, data.train_labels, self.spec.sampler, rng, weights)
        batches = epoch_batches(rows, self.spec.batch_size, rng)
        return BatchSource(data.pixels, data.targets, batches, self.augment, key)

    def train_epoch(self) -> None:
        """Train one epoch; `validate` then looks at it."""
        epoch = len(self.history) + 1
        began = time.perf_counter()
        seed_all(sample_seed(self.seed, self.fold, epoch))
        source = self._source(epoch)
        frozen = epoch <= self.spec.freeze_epochs
        self._freeze(frozen)
        self._learn(frozen)
        loss, lr = self._train(source, epoch)
        self.further.after_epoch(epoch, self.network)
        self.history.append(
            EpochRecord(epoch, self.spec.epochs, loss, lr, time.perf_counter() - began)
        )

    def validate(self) -> None:
        """Look at the validation rows after the epoch that was trained last, where something asks for it."""
        record = self.history[-1]
        if not self.spec.validates_after(record.epoch) or not len(self.data.valid_rows):
            return
        began = time.perf_counter()
        found = validate(self._predictor, self.spec, self.data, self.device)
        seconds = record.seconds + time.perf_counter() - began
        judged = found.judged if self.spec.chooses else None
        record = replace(
            record, seconds=seconds, score=found.score, valid_loss=found.loss, judged=judged
        )
        self.history[-1] = record
        self._remember_best(record)

    @property
    def _lr(self) -> float:
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    @property
    def _predictor(self) -> nn.Module:
        return (
            self.ema.module if self.ema is not None and self.spec.primary == "ema" else self.network
        )

    def _freeze(self, frozen: bool) -> None:
        if not self.spec.freeze_epochs:
            return
        backbone = self.network.network
        for parameter in backbone.parameters():
            parameter.requires_grad_(not frozen)
        for part in _head(backbone):
            for parameter in part.parameters():
                parameter.requires_grad_(True)

    def _learn(self, frozen: bool) -> None:
        """Put the network into training mode; of a frozen backbone the head alone.

        The statistics of its batch norms stay as they are, like its weights, and its dropout does
        nothing.
        """
        self.network.train()
        if frozen:
            self.network.network.eval()
            for part in _head(self.network.network):
                part.train()

    def _train(self, source: BatchSource, epoch: int) -> tuple[float, float]:
        """Take the steps of an epoch; the mean loss, and the learning rate of the first step."""
        steps = len(source)
        total, seen = torch.zeros((), device=self.device), 0
        updates = (epoch - 1) * math.ceil(steps / self.spec.accumulate)
        self._schedule(updates, epoch)
        lr = self._lr
        with self.loader.batches(source) as batches:
            for step, (pixels, targets) in enumerate(batches):
                first = step - step % self.spec.accumulate
                in_group = min(self.spec.accumulate, steps - first)
                loss = self._learn_from(pixels, targets, in_group)
                total += loss * len(targets)
                seen += len(targets)
                if step - first == in_group - 1:
                    updates += 1
                    self._update(updates, epoch)
                if step % 20 == 0 or step == steps - 1:
                    self._check_finite(total, epoch)
        if self.scheduler is not None:
            self.scheduler.step(epoch)
        return float(total) / seen, lr

    def _learn_from(self, pixels: Tensor, targets: Tensor, in_group: int) -> Tensor:
        """Add the gradients of a batch, one of `in_group` that are summed; its loss."""
        # Another batch size would be compiled anew, so the last batch of an epoch goes through the
        # plain network.
        whole = len(targets) == self.spec.batch_size
        network = self.compiled if whole and self.compiled is not None else self.network
        loss = self._loss(pixels, targets, network)
        with compiler_faults():
            self.scaler.scale(loss / in_group).backward()
        return loss.detach()

    def _loss(self, pixels: Tensor, targets: Tensor, network: nn.Module) -> Tensor:
        images, soft = mix(self.mixup, pixels.float(), targets) if self.mixup else (pixels, targets)
        with (
            autocast(autocast_type(self.spec.amp, self.device), self.device),
            _enough_for_batch_norms(len(images)),
        ):
            logits = network(images)
        # The loss is summed in float32, whatever the network computed in.
        loss: Tensor = self.criterion(logits.float(), soft)
        return loss

    def _schedule(self, updates: int, epoch: int) -> None:
        """Set the learning rate after so many updates."""
        if self.spec.swa_lr is not None and epoch >= self.spec.averaged_from("swa"):
            for group in self.optimizer.param_groups:
                group["lr"] = self.spec.swa_lr * group.get("lr_scale", 1.0)
        elif self.scheduler is not None:
            self.scheduler.step_update(updates)

    def _update(self, updates: int, epoch: int) -> None:
        if self.spec.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.network, step=updates)
        self._schedule(updates, epoch)

    def _check_finite(self, total: Tensor, epoch: int) -> None:
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f"the loss is not finite in epoch {epoch} (learning rate {self._lr:g}); a lower "
                "lr, clip_grad: 1 or "
                "amp: off helps"
            )

    def _remember_best(self, record: EpochRecord) -> None:
        value = record.judged
        if value is None or not math.isfinite(value):
            return
        before = self.history[self.best_epoch - 1].judged if self.best_epoch else None
        if before is not None and not is_better(self.spec.choose_by, value, than=before):
            return
        self.best_epoch = record.epoch
        self.best = {k: v.detach().cpu().clone() for k, v in self._predictor.state_dict().items()}

    def result(self) -> TrainedFold:
        """The wanted networks; the member's own is that of the chosen epoch."""
        chosen = len(self.history)
        found: dict[str, nn.Module] = {self.spec.primary: copy.deepcopy(self._predictor)}
        if self.best is not None:
            found[self.spec.primary].load_state_dict(self.best)
            chosen = self.best_epoch
        if self.ema is not None:
            found.setdefault("ema", self.ema.module)
        data = self.data
        seed_all(sample_seed(self.seed, self.fold, "batch norms"))
        found |= self.further.networks(
            self.network, data.pixels, data.train_rows, self.spec.batch_size
        )
        networks: dict[str, Normalised] = {}
        for name in self.wanted:
            network = found[name].eval()
            assert isinstance(network, Normalised)
            networks[name] = network.requires_grad_(True)
        seconds = sum(record.seconds for record in self.history)
        last = dict.fromkeys(self.wanted, len(self.history))
        epochs = last | self.spec.cycle_ends | {self.spec.primary: chosen}
        return TrainedFold(networks, tuple(self.history), chosen, seconds, epochs=epochs)

    def state(self) -> dict[str, Any]:
        """Everything that `resume` takes up."""
        return {
            "job": self.job,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "further": self.further.state(),
            "scaler": self.scaler.state_dict(),
            "history": [asdict(record) for record in self.history],
            "best": self.best,
            "best_epoch": self.best_epoch,
        }

    def resume(self, path: Path, progress: Progress) -> None:
        """Take up the state in `path` when it is whole and of this very training."""
        state = read_state(path, self.job)
        if state is None:
            if path.is_file():
                progress.note(
                    "the state on disk is damaged or of another training; the fold starts again"
                )
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.further.load(state["further"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        if self.history:
            progress.note(f"goes on after epoch {len(self.history)}")
        if self.history and self.history[-1].valid_loss is None:
            self.validate()


@contextmanager
def _enough_for_batch_norms(n_images: int) -> Iterator[None]:
    """Say what torch's batch norms mean by their ValueError for a batch of one image."""
    try:
        yield
    except ValueError as error:
        if n_images > 1:
            raise
        raise TrainingError(
            f"a batch of one image is too few for the network's batch norms ({error}); batch_size: "
            "2 or more is needed"
        ) from error


def _head(backbone: Any) -> tuple[nn.Module, ...]:
    head = (
        backbone.get_classifier()
        if hasattr(backbone, "get_classifier")
        else list(backbone.children())[-1]
    )
    return head if isinstance(head, tuple) else (head,)
