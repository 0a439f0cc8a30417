"""Checks of a member's options that need timm: names of backbones, optimizers and schedules."""

from __future__ import annotations

from pathlib import Path

from ensembler.data.prepare import build_steps
from ensembler.data.spec import InputSpec
from ensembler.errors import DataError, RequestError, UnknownNameError
from ensembler.metrics import check_metric
from ensembler.networks.build import check_network
from ensembler.training.losses import check_loss
from ensembler.training.sampling import check_sampler
from ensembler.training.spec import EnsembleSpec, MemberSpec, TrainingSpec

SCHEDULES = ("cosine", "tanh", "poly", "step", "none")


def check_member(spec: TrainingSpec, of_recipe: InputSpec) -> None:
    """Raise RequestError for an unknown name, a size the network cannot take, a missing file."""
    from timm.optim import list_optimizers

    seen = spec.seen_input(of_recipe)
    build_steps(seen.prepare)
    check_network(spec, size=seen.size, channels=seen.channels)
    check_loss(spec)
    if isinstance(spec, MemberSpec):
        check_sampler(spec.sampler)
        check_metric(spec.choose_by)
    if isinstance(spec, EnsembleSpec):
        from ensembler.training.ensembles import OPTIMIZERS

        optimizers = list(OPTIMIZERS)
    else:
        optimizers = [str(name) for name in list_optimizers()]
    if spec.opt.lower() not in optimizers:
        raise UnknownNameError("optimizer (opt)", spec.opt, optimizers)
    if spec.momentum is not None and not _has_momentum(spec):
        raise RequestError(
            f"momentum counts only for optimizers that have one, such as sgd; {spec.opt} has none"
        )
    if spec.sched not in SCHEDULES:
        raise UnknownNameError("schedule (sched)", spec.sched, SCHEDULES)
    if spec.checkpoint is not None and not Path(spec.checkpoint).is_file():
        raise DataError(f"checkpoint {spec.checkpoint} does not exist")


def _has_momentum(spec: TrainingSpec) -> bool:
    from timm.optim import get_optimizer_info

    return bool(get_optimizer_info(spec.opt.lower()).has_momentum)
