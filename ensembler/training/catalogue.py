"""Names of losses and samplers, and what a recipe may ask of each; torch is not loaded for it.

Other packages add theirs by entry points of `ensembler.losses` and `ensembler.samplers`; a user
names them as `module:name`. What an own one takes is known when it is loaded: see
`training.losses` and `training.sampling`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ensembler.errors import UnknownNameError
from ensembler.own_code import is_own
from ensembler.registry import Registry
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, TargetKind

LOSSES = Registry(
    "loss",
    "ensembler.losses",
    {
        "cross_entropy": "ensembler.training.losses:cross_entropy",
        "bce": "ensembler.training.losses:binary_cross_entropy",
        "focal": "ensembler.training.losses:focal",
        "balanced_softmax": "ensembler.training.losses:balanced_softmax",
        "soft_f1": "ensembler.training.losses:soft_f1",
        "asymmetric": "ensembler.training.losses:asymmetric",
    },
)
SAMPLERS = Registry(
    "sampler",
    "ensembler.samplers",
    {
        "none": "ensembler.training.sampling:all_rows",
        "balanced": "ensembler.training.sampling:balanced",
        "up": "ensembler.training.sampling:up",
        "down": "ensembler.training.sampling:down",
        "sqrt": "ensembler.training.sampling:square_root",
        "effective": "ensembler.training.sampling:effective",
        "weights": "ensembler.training.sampling:weighted",
    },
)


@dataclass(frozen=True)
class LossTraits:
    """What a loss can be asked for; one that is not ours is taken at its word later."""

    kinds: frozenset[TargetKind] = frozenset((SINGLE_LABEL, MULTI_LABEL))
    takes_smoothing: bool = True
    takes_class_weights: bool = True
    takes_mixed_labels: bool = True


_TRAITS = {
    "focal": LossTraits(takes_smoothing=False, takes_mixed_labels=False),
    "balanced_softmax": LossTraits(kinds=frozenset((SINGLE_LABEL,))),
    "soft_f1": LossTraits(takes_smoothing=False, takes_class_weights=False),
    "asymmetric": LossTraits(kinds=frozenset((MULTI_LABEL,))),
}


def traits_of(loss: str) -> LossTraits:
    """What a loss can be asked for."""
    return _TRAITS.get(loss, LossTraits())


def check_loss_name(name: str) -> str:
    """Return the name of a loss, or raise UnknownNameError; nothing is imported."""
    return _check(LOSSES, name)


def check_sampler_name(name: str) -> str:
    """Return the name of a sampler, or raise UnknownNameError; nothing is imported."""
    return _check(SAMPLERS, name)


def _check(registry: Registry, name: str) -> str:
    if is_own(name) or name in registry:
        return name
    raise UnknownNameError(registry.kind, name, [*registry.names, "module:name"])
