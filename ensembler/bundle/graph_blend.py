"""Blends inside a graph: what fitted blends compute, on tensors.

Probabilities are float32 `[..., classes]`, stacks of members `[members, ..., classes]`. Whatever is
no formula of the probabilities of one image is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.fitted import FittedBlend
from ensembler.blending.methods.greedy import GreedySelection
from ensembler.blending.methods.hill_climbing import HillClimbing
from ensembler.blending.methods.loglinear import LogLinearPool
from ensembler.blending.methods.means import GeometricMean, Median, PowerMean, TrimmedMean
from ensembler.blending.methods.simplex import SimplexWeights
from ensembler.blending.methods.stacking import ShrunkStack
from ensembler.blending.methods.voting import BestMember, SoftVote, WeightedVote
from ensembler.errors import RequestError
from ensembler.logits import FLOOR
from ensembler.targets.kinds import TargetKind

Formula = Callable[[Any, Tensor], Tensor]  # a fitted method and a stack to probabilities


def check_formula(name: str, fitted: FittedBlend) -> None:
    """Raise RequestError, with the nearest method that is one, for a blend that is no formula."""
    method = (
        fitted.method.method if isinstance(fitted.method, Calibrated) else fitted.method
    )
    asked = fitted.candidate.method
    if isinstance(method, ShrunkStack) and method.estimator is not None:
        asked = f"{asked} (estimator {method.estimator})"
    elif type(method) in _FORMULAS:
        return
    nearest = _NEAREST.get(fitted.candidate.method, "loglinear")
    raise RequestError(
        f"blend {name!r}: method {asked} is no formula that a graph can hold; the nearest that is: "
        f"`ens blend RUN --method {nearest} --name NAME`, then --blend NAME"
    )


_NEAREST = {"rank": "geometric", "hard": "soft", "stack": "stack"}


def blended(fitted: FittedBlend, members: Sequence[Tensor], same_folds: bool) -> Tensor:
    """Probabilities `[samples, classes]` of a blend from its members' `[folds, samples, classes]`.

    `same_folds` says that all members have equally many, those that are not read among them.
    """
    if fitted.labels is not None:
        members = [torch.stack([1 - probs, probs], dim=-1) for probs in members]
    if fitted.by_fold and same_folds:
        stacks = [
            torch.stack([probs[fold] for probs in members])
            for fold in range(len(members[0]))
        ]
    else:
        stacks = [torch.stack([probs.mean(dim=0) for probs in members])]
    folds = [_predicted(fitted.method, stack) for stack in stacks]
    probs = torch.stack(folds).mean(dim=0)
    if fitted.labels is None:
        return probs
    return _decided(probs[..., 1], fitted.thresholds)


def _decided(probs: Tensor, thresholds: NDArray[np.float64] | None) -> Tensor:
    if thresholds is None:
        return probs
    moved = np.log(thresholds) - np.log1p(-thresholds)
    return torch.sigmoid(log_odds(probs) - _constant(moved))


def log_odds(probs: Tensor) -> Tensor:
    """The logits of probabilities of single labels."""
    kept = probs.clamp(FLOOR, 1 - FLOOR)
    return kept.log() - torch.log1p(-kept)


def _predicted(method: object, stack: Tensor) -> Tensor:
    if not isinstance(method, Calibrated):
        return _FORMULAS[type(method)](method, stack)
    if method.members_ is not None:
        calibrated = [
            _calibrated(method.before, probs, found)
            for probs, found in zip(stack, method.members_, strict=True)
        ]
        stack = torch.stack(calibrated)
    probs = _FORMULAS[type(method.method)](method.method, stack)
    return _calibrated(method.after, probs, method.blend_)


def _calibrated(kind: str, probs: Tensor, found: Any) -> Tensor:
    if kind == "none" or (kind == "temperature" and float(found) == 1.0):
        return probs
    if kind == "temperature":
        return torch.softmax(_logs(probs) / float(found), dim=-1)
    if kind == "biases":
        return _normalised(probs.clamp_min(FLOOR) * _constant(np.exp(found)))
    scales, biases = np.asarray(found, np.float64)
    return torch.softmax(_logs(probs) * _constant(scales) + _constant(biases), dim=-1)


# --- methods


def _linear(method: Any, stack: Tensor) -> Tensor:
    return _normalised(_weighted(stack, method.weights_))


def _hill_climbed(method: Any, stack: Tensor) -> Tensor:
    return _normalised(_weighted(stack, method.weights_).clamp_min(FLOOR))


def _geometric(_: Any, stack: Tensor) -> Tensor:
    return torch.softmax(_logs(stack).mean(dim=0), dim=-1)


def _power(method: Any, stack: Tensor) -> Tensor:
    mean = (stack.clamp_min(FLOOR) ** method.power).mean(dim=0)
    return _normalised(mean ** (1 / method.power))


def _median(_: Any, stack: Tensor) -> Tensor:
    ordered, middle = stack.sort(dim=0).values, (len(stack) - 1) // 2
    upper = len(stack) // 2
    return _normalised(((ordered[middle] + ordered[upper]) / 2).clamp_min(FLOOR))


def _trimmed(method: Any, stack: Tensor) -> Tensor:
    cut = int(method.share * len(stack))
    kept = stack.sort(dim=0).values[cut : len(stack) - cut]
    return _normalised(kept.mean(dim=0).clamp_min(FLOOR))


def _loglinear(method: Any, stack: Tensor) -> Tensor:
    summed = _weighted(_logs(stack), method.weights_)
    return torch.softmax(summed + _constant(method.bias_), dim=-1)


def _stacked(method: Any, stack: Tensor) -> Tensor:
    features = _logs(stack).movedim(0, -2).flatten(-2)
    if method.probabilities:
        probs = stack.movedim(0, -2).flatten(-2)
        features = torch.cat([features, probs], dim=-1)
    standard = (features - _constant(method.mean_)) / _constant(method.scale_)
    coefficients = np.asarray(method.coefficients_)
    return torch.softmax(
        standard @ _constant(coefficients[:-1]) + _constant(coefficients[-1]), dim=-1
    )


# By the very class: one that inherits from it may compute something else.
_FORMULAS: dict[type, Formula] = {
    SoftVote: _linear,
    WeightedVote: _linear,
    BestMember: _linear,
    GreedySelection: _linear,
    SimplexWeights: _linear,
    HillClimbing: _hill_climbed,
    GeometricMean: _geometric,
    PowerMean: _power,
    Median: _median,
    TrimmedMean: _trimmed,
    LogLinearPool: _loglinear,
    ShrunkStack: _stacked,
}


def _weighted(stack: Tensor, weights: NDArray[np.float64]) -> Tensor:
    terms = [
        w * values for w, values in zip(weights.tolist(), stack, strict=True) if w != 0
    ]
    return torch.stack(terms).sum(dim=0)


def _normalised(probs: Tensor) -> Tensor:
    return probs / probs.sum(dim=-1, keepdim=True)


def _logs(probs: Tensor) -> Tensor:
    return probs.clamp_min(FLOOR).log()


def _constant(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32).copy())


# --- before the blend


def merged_views(how: str, views: Sequence[Tensor], kind: TargetKind) -> Tensor:
    """Probabilities `[samples, classes]` of the logits of a member's views."""
    probs_of = torch.sigmoid if kind.is_multi_label else _softmax
    stack = torch.stack(list(views))
    if how in ("logits", "geometric") or len(views) == 1:
        return probs_of(stack.mean(dim=0))
    probs = probs_of(stack)
    merged = probs.amax(dim=0) if how == "max" else probs.mean(dim=0)
    return merged if kind.is_multi_label else _normalised(merged)


def mean_of_parts(averages: str, parts: Sequence[Tensor], kind: TargetKind) -> Tensor:
    """Logits `[samples, classes]` of a member that is the mean of others, by theirs."""
    stack = torch.stack(list(parts))
    if averages == "logits":
        return stack.mean(dim=0)
    n = float(np.log(len(parts)))
    if not kind.is_multi_label:
        return torch.logsumexp(torch.log_softmax(stack, dim=-1), dim=0) - n
    yes, no = (torch.nn.functional.logsigmoid(sign * stack) for sign in (1, -1))
    return torch.logsumexp(yes, dim=0) - torch.logsumexp(no, dim=0)


def composed(
    tasks: Sequence[Tensor],
    positions: NDArray[np.int64],
    factors: NDArray[np.float64] | None,
) -> Tensor:
    """Probabilities `[samples, classes]` of the classes that tasks compose.

    `positions` `[classes, tasks]` has the class of each task that a class is made of.
    """
    logs = [
        probs.clamp_min(1e-12)
        .log()
        .index_select(1, torch.from_numpy(positions[:, t].copy()))
        for t, probs in enumerate(tasks)
    ]
    total = torch.stack(logs).sum(dim=0)
    if factors is not None:
        total = total + _constant(np.log(factors))
    return torch.softmax(total, dim=-1)


def _softmax(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=-1)
