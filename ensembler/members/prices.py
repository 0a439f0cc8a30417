"""What a fold costs on this machine: seconds, and how far they may be off.

A fold of the same networks and input as one that was trained on this machine is priced by that, in
proportion to epochs and images. Of others the operations of the network are counted, and how long
these take is known from what was measured, or supposed.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median, quantiles
from typing import Any, Literal

from ensembler.files import fingerprint
from ensembler.machine.cores import available_cores
from ensembler.machine.execution import Execution
from ensembler.members.price_record import (
    PRICES,
    MeasuredBlend,
    MeasuredFold,
    PriceFile,
    PriceRecord,
)
from ensembler.members.training import Training
from ensembler.predictions.store import cache_folder
from ensembler.training.spec import EnsembleSpec, FittedSpec, MemberSpec, SoupSpec
from ensembler.workspace.workspace import Workspace

Source = Literal["earlier folds", "timed batches", "estimate"]
# How far a price may be off, as factors: of folds seen at least so far.
_OFF: dict[Source, tuple[float, float]] = {
    "earlier folds": (0.85, 1.15),
    "timed batches": (0.6, 1.7),
    "estimate": (0.25, 4.0),
}
# What is supposed where nothing was measured: operations a second, and seconds beside them.
_CPU_RATE, _GPU_RATE = 1.5e10, 8e12
_IMAGE_SECONDS = 2e-4
_AROUND_SECONDS = 2.0
_LEAST_BLEND = 2.0  # seconds
_CELL_SECONDS = 1e-6  # of a blend, for each probability
_TRAINING_PASSES = 3.0  # forwards, and backwards to activations and weights


@dataclass(frozen=True)
class Seconds:
    """A length of time that is expected, from `low` to `high`."""

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(
            self.expected + other.expected, self.low + other.low, self.high + other.high
        )


@dataclass(frozen=True)
class Workload:
    """How much a fold has to do: epochs over train rows, and predictions (views of images)."""

    epochs: int
    rows: int
    predictions: int


@dataclass(frozen=True)
class Price:
    """Seconds for a train row, for a prediction and around both, with the factors of a spread."""

    row: float
    prediction: float
    around: float
    source: Source
    off: tuple[float, float]

    def training(self, work: Workload) -> Seconds:
        """What all epochs cost."""
        return self._spread(self.row * work.rows * work.epochs)

    def predicting(self, work: Workload) -> Seconds:
        """What the predictions cost, and building, saving and checking the network."""
        return self._spread(self.prediction * work.predictions + self.around)

    def fold(self, work: Workload) -> Seconds:
        """What the whole fold costs."""
        return self.training(work) + self.predicting(work)

    def _spread(self, seconds: float) -> Seconds:
        low, high = self.off
        return Seconds(seconds, seconds * low, seconds * high)


@dataclass
class PriceList:
    """The prices of trainings on a `machine` (a digest of what counts), kept in `file`."""

    file: PriceFile
    machine: str
    on_gpu: bool = False

    @classmethod
    def of(cls, workspace: Workspace, execution: Execution) -> PriceList:
        """The price list beside a workspace's prepared pixels."""
        share = max(1, available_cores() // execution.processes)
        device, threads = "cpu", share
        if workspace.spec.has_networks:
            import torch

            from ensembler.networks.devices import pick_device

            device = pick_device(execution.device).type
            threads = min(share, torch.get_num_threads())
        machine = fingerprint([platform.node(), platform.machine(), device, threads])
        file = PriceFile(cache_folder(workspace.artifacts) / PRICES)
        return cls(file, machine, on_gpu=device != "cpu")

    @cached_property
    def record(self) -> PriceRecord:
        """What was kept when it was first asked for."""
        return self.file.read()

    def measured(self, training: Training) -> tuple[MeasuredFold, ...]:
        """The folds of the same networks and input that were trained on this machine."""
        return self.record.folds.get(self.machine, {}).get(kind_of_work(training), ())

    def price(self, training: Training) -> Price:
        """What work of `training` costs, by what is known best."""
        folds = self.measured(training)
        if folds:
            return price_of_folds(folds)
        timed = self.timed(training)
        if timed is not None:
            return timed_price(timed)
        return self._estimate(training)

    def timed(self, training: Training) -> MeasuredFold | None:
        """What a few batches of the same networks and input took on this machine."""
        return self.record.timed.get(self.machine, {}).get(kind_of_work(training))

    def add_timed(self, training: Training, batches: MeasuredFold) -> None:
        """Keep what a few batches of `training` took."""
        kind = kind_of_work(training)
        self.file.update(lambda record: record.with_timed(self.machine, kind, batches))
        self.record = self.record.with_timed(self.machine, kind, batches)

    def fold(self, training: Training, fold: int) -> Seconds:
        """What a whole fold of `training` costs."""
        return self.price(training).fold(workload_of(training, fold))

    def add(self, training: Training, fold: MeasuredFold) -> None:
        """Keep what a fold of `training` took."""
        known = self.record.flops.get(_network_key(training))
        fold = fold.model_copy(update={"flops": known})
        kind = kind_of_work(training)
        self.file.update(lambda record: record.with_fold(self.machine, kind, fold))
        self.record = self.record.with_fold(self.machine, kind, fold)

    def blending(self, workspace: Workspace) -> Seconds:
        """What the recipe's blend costs, and writing the submission of it."""
        cells = cells_of(workspace)
        blends = self.record.blends.get(self.machine, ())
        # those of about this size, else in proportion to the nearest
        near = sorted(blends, key=lambda b: abs(math.log((b.cells + 1) / (cells + 1))))[:5]
        if near:
            worst = max(b.seconds * max(1.0, cells / (b.cells + 1)) for b in near)
            usual = median(b.seconds * max(1.0, cells / (b.cells + 1)) for b in near)
            return Seconds(usual, usual / 2, max(_LEAST_BLEND, 2 * worst))
        supposed = _LEAST_BLEND + cells * _CELL_SECONDS
        return Seconds(supposed, supposed / 4, 2 * supposed)

    def add_blend(self, workspace: Workspace, seconds: float) -> None:
        """Keep what a blend and its submission took."""
        blend = MeasuredBlend(cells=cells_of(workspace), seconds=seconds)
        self.file.update(lambda record: record.with_blend(self.machine, blend))
        self.record = self.record.with_blend(self.machine, blend)

    def _estimate(self, training: Training) -> Price:
        has_network = training.all_plans[0].member.base.backbone != ""
        flops = self.flops(training) if has_network else None
        forwards = (flops or 0.0) / self._rate
        row = _TRAINING_PASSES * forwards + _IMAGE_SECONDS
        prediction = forwards + _IMAGE_SECONDS / 4
        return Price(row, prediction, _AROUND_SECONDS, "estimate", _OFF["estimate"])

    @property
    def _rate(self) -> float:
        """Operations a second: of the folds that were measured here, else supposed."""
        here = self.record.folds.get(self.machine, {}).values()
        rates = [
            _TRAINING_PASSES * fold.flops / max(fold.row - _IMAGE_SECONDS, fold.row / 2)
            for folds in here
            for fold in folds
            if fold.flops and fold.row
        ]
        supposed = _GPU_RATE if self.on_gpu else _CPU_RATE
        return median(rates) if rates else supposed

    def flops(self, training: Training) -> float | None:
        """The operations of an image's way through the training's network.

        They are kept, for counting them takes a second.
        """
        key = _network_key(training)
        if key in self.record.flops:
            return self.record.flops[key]
        from ensembler.networks.work import flops_per_image

        plan = training.all_plans[0]
        found = flops_per_image(
            plan.member.base,
            classes=len(plan.output.classes),
            size=plan.input.size,
            channels=plan.input.channels,
        )
        self.file.update(lambda record: record.with_flops(key, found))
        self.record = self.record.with_flops(key, found)
        return found


def price_of_folds(folds: Sequence[MeasuredFold]) -> Price:
    """The price that folds of the same work tell, with the spread that they show."""
    rows = [fold.row for fold in folds]
    around = [fold.around for fold in folds if fold.around is not None]
    low, high = _OFF["earlier folds"]
    usual = median(rows)
    if len(rows) > 1 and usual > 0:
        cuts = quantiles(rows, n=20, method="inclusive")
        low, high = min(low, cuts[0] / usual), max(high, cuts[-1] / usual)
    return Price(
        usual,
        median(fold.prediction for fold in folds),
        median(around) if around else _AROUND_SECONDS,
        "earlier folds",
        (low, high),
    )


def timed_price(batches: MeasuredFold) -> Price:
    """The price that a few batches tell."""
    off = _OFF["timed batches"]
    return Price(batches.row, batches.prediction, _AROUND_SECONDS, "timed batches", off)


def workload_of(training: Training, fold: int) -> Workload:
    """How much one fold of a training has to do."""
    plan, spec = training.all_plans[0], training.plans[0].member.spec
    n_images = len(plan.rows.validated_in(fold)) + len(plan.workspace.image_rows[1])
    predictions = n_images * len(plan.views) * len(training.plans)
    rows = len(plan.rows.rows_of_fold(fold, validation=False))
    if isinstance(spec, FittedSpec):
        return Workload(0, rows, _features_of_a_fold(training) if spec.sees_images else 0)
    return Workload(0 if isinstance(spec, SoupSpec) else _passes(spec), rows, predictions)


def _features_of_a_fold(training: Training) -> int:
    """A fold's share of the features of all images, which are computed once."""
    plan = training.all_plans[0]
    n_images = sum(map(len, plan.workspace.image_rows))
    return len(plan.views) * n_images // plan.rows.n_folds


def _passes(spec: MemberSpec | EnsembleSpec) -> int:
    return spec.passes if isinstance(spec, EnsembleSpec) else spec.epochs


def cells_of(workspace: Workspace) -> int:
    """How many probabilities the recipe's blend takes."""
    label = workspace.samples.targets[0]
    n_rows = len(workspace.samples.table)
    return len(workspace.pool) * n_rows * len(workspace.samples.classes[label])


def kind_of_work(training: Training) -> str:
    """A digest of what decides how long an image takes."""
    plan, spec = training.all_plans[0], training.plans[0].member.spec
    base = plan.member.base
    options = base.model_dump(
        mode="json",
        include={
            "batch_size",
            "accumulate",
            "amp",
            "mixup",
            "cutmix",
            "step",
            "sampler",
        },
    )
    work = [*_network(training), spec.method, options, plan.augment]
    return fingerprint([*work, len(training.all_plans)])


def _network(training: Training) -> list[Any]:
    plan = training.all_plans[0]
    base, seen = plan.member.base, plan.input
    return [base.backbone, base.model_args, seen.size, seen.channels]


def _network_key(training: Training) -> str:
    classes = len(training.all_plans[0].output.classes)
    return fingerprint([*_network(training), classes])
