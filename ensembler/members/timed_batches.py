"""What a training costs by a few batches of it, where nothing like it was trained here before.

The images are noise, so that none has to be decoded first: how long they take does not depend on
what they show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ensembler.machine.execution import Execution
from ensembler.members.price_record import MeasuredFold
from ensembler.members.training import Training
from ensembler.training.spec import EnsembleSpec, MemberSpec

_BATCHES = 3  # timed, after one that warms up
_SHARED = ("backbone", "model_args", "batch_size", "opt", "loss", "amp", "drop_rate")


def time_batches(
    training: Training,
    execution: Execution,
    clock: Callable[[], float] = time.perf_counter,
) -> MeasuredFold:
    """What a row of `training` takes, and a prediction, by a few batches of noise."""
    import torch

    from ensembler.networks.devices import pick_device
    from ensembler.training.batches import BatchSource
    from ensembler.training.learner import Learner
    from ensembler.training.loading import Loader
    from ensembler.training.randomness import own_randomness, seed_all

    device = pick_device(execution.device)
    with own_randomness(device):
        seed_all(0)
        setup = _setup_on_noise(training)
        learner = Learner.build(setup, device)
        loader = Loader(0, device)
        source = setup.source(1)
        size = setup.spec.batch_size

        def train(batches: Any) -> float:
            began = clock()
            part: BatchSource = replace(source, batches=batches)
            learner.train_epoch(loader, part, 1)
            return clock() - began

        train(source.batches[:1])
        trained = train(source.batches[1:])
        network = learner.predictor.eval()
        images = torch.from_numpy(setup.data.pixels[np.arange(size)]).permute(0, 3, 1, 2)
        with torch.inference_mode():
            network(images.to(device))
            began = clock()
            network(images.to(device)).sum().item()
            predicted = clock() - began
    return MeasuredFold(row=trained / (_BATCHES * size), prediction=predicted / size)


def _setup_on_noise(training: Training) -> Any:
    """A fold of the training's networks and options whose images are noise."""
    from ensembler.data.augment import build_augment
    from ensembler.training.fold_data import FoldData
    from ensembler.training.setup import FoldSetup

    plan = training.all_plans[0]
    seen, classes = plan.input, max(2, len(plan.output.classes))
    spec = _as_plain(plan.member.base)
    n = (1 + _BATCHES) * spec.batch_size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, *seen.shape), np.uint8)
    data = FoldData(
        pixels, np.arange(n) % classes, np.arange(n), np.zeros(0, np.int64), classes
    )
    augment = build_augment(plan.augment, seen.size, seen.channels)
    return FoldSetup(spec, data, augment=augment)


def _as_plain(base: Any) -> MemberSpec:
    """The member with what makes a batch slow or fast, and nothing that asks for other labels."""
    assert isinstance(base, (MemberSpec, EnsembleSpec))
    shared = {name: getattr(base, name) for name in _SHARED}
    if base.loss not in ("cross_entropy", "bce", "focal"):
        shared["loss"] = "cross_entropy"
    return MemberSpec(epochs=1, **shared)
