"""From the logits of checkpoints to the answers of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blends.pool import BLEND_PREFIX
from ensembler.bundle.ensemble import ALTERED, Ensemble
from ensembler.bundle.records import PackedBlend, PackedMember
from ensembler.errors import BundleError, EnsemblerError
from ensembler.predictions.merging import merge_views
from ensembler.targets.composition import Composition
from ensembler.targets.kinds import TargetKind

# By member and checkpoint, logits float32 `[views, rows, logits]`.
Logits = Mapping[str, Sequence[NDArray[np.floating]]]
# By member and target, probabilities float32 `[folds, rows, classes]` in the target's order.
MemberProbs = dict[tuple[str, str], NDArray[np.float32]]


@dataclass(frozen=True)
class Answer:
    """Probabilities `[rows, classes]` of a target, and `[rows]` how far its networks disagree.

    The disagreement is the share of networks (of decisions on labels, where a row has several)
    whose own answer is another one.
    """

    probs: NDArray[np.float32]
    disagreement: NDArray[np.float32]


def answers_of(ensemble: Ensemble, logits: Logits) -> dict[str, Answer]:
    """What each of the ensemble's answers is for some rows, by the name of its blend.

    BundleError where parts of it do not fit each other.
    """
    try:
        probs = member_probs(ensemble, logits)
        return {name: _answer(ensemble, name, probs) for name in ensemble.record.answers}
    except EnsemblerError:
        raise
    except ALTERED as error:
        raise BundleError(
            f"{ensemble.where}: its parts do not fit each other ({error!r}); it was altered"
        ) from error


def _answer(ensemble: Ensemble, name: str, probs: MemberProbs) -> Answer:
    blended = blend_probs(ensemble, name, probs)
    wanted = (len(blended), len(ensemble.record.target_of(name).classes))
    if blended.shape != wanted:
        raise ValueError(f"blend {name!r} gives {list(blended.shape)}")
    return Answer(blended, _disagreement(ensemble, name, blended, probs))


def member_probs(ensemble: Ensemble, logits: Logits) -> MemberProbs:
    """The probabilities of every member that a blend reads, its views merged."""
    probs: MemberProbs = {}
    for member in ensemble.members.values():
        for target in member.merging:
            probs[member.name, target] = _merged(ensemble, member, target, logits)
    return probs


def _merged(
    ensemble: Ensemble, member: PackedMember, target: str, logits: Logits
) -> NDArray[np.float32]:
    kind = ensemble.record.targets[target].named(target).kind
    merging = member.merging[target]
    parts = [ensemble.members[name] for name in member.parts] or [member]
    own = list(parts[0].targets[target])
    order = [own.index(name) for name in ensemble.record.targets[target].classes]
    folds = []
    for fold in range(member.folds):
        found = [
            _of_target(part, target, merging.views, logits[part.name][fold])
            for part in parts
        ]
        one = _mean_of_parts(member, kind, np.stack(found)) if member.parts else found[0]
        folds.append(merge_views(one, merging.how, of=kind)[:, order])
    return np.stack(folds)


def _of_target(
    member: PackedMember,
    target: str,
    views: Sequence[str],
    logits: NDArray[np.floating],
) -> NDArray[np.floating]:
    at = [member.view_names.index(view) for view in views]
    return logits[at][..., member.slices[target]]


def _mean_of_parts(
    member: PackedMember, kind: TargetKind, logits: NDArray[np.floating]
) -> NDArray[np.float32]:
    """What a member predicts, by its parts' logits `[parts, views, rows, classes]`."""
    if member.averages == "logits":
        return logits.mean(axis=0)
    return kind.logits_of_mean(logits)


def blend_probs(ensemble: Ensemble, name: str, probs: MemberProbs) -> NDArray[np.float32]:
    """Probabilities `[rows, classes]` of a blend, from those of the members."""
    blend = ensemble.record.blends[name]
    if blend.tasks:
        return _composed(ensemble, blend, probs)
    fitted = ensemble.fitted[name]
    return fitted.predict([_input(ensemble, blend, m, probs) for m in fitted.members])


def _composed(
    ensemble: Ensemble, blend: PackedBlend, probs: MemberProbs
) -> NDArray[np.float32]:
    packed = ensemble.record.composition
    if packed is None:
        raise ValueError("nothing says how its tasks compose a class")
    of_tasks = {
        task: blend_probs(ensemble, inner, probs) for task, inner in blend.tasks.items()
    }
    classes_of = {task: ensemble.record.targets[task].classes for task in blend.tasks}
    factors = None if packed.factors is None else np.array(packed.factors)
    composed = packed.composition.compose(of_tasks, classes_of, factors)
    return composed.astype(np.float32)


def _input(
    ensemble: Ensemble, blend: PackedBlend, member: str, probs: MemberProbs
) -> NDArray[np.float32]:
    """What a blend reads of one of its members `[folds, rows, classes]`."""
    if member in blend.idle:
        return _of_no_weight(ensemble, blend, member, probs)
    if member.startswith(BLEND_PREFIX):
        return blend_probs(ensemble, member.removeprefix(BLEND_PREFIX), probs)[None]
    return probs[member, blend.target]


def _of_no_weight(
    ensemble: Ensemble, blend: PackedBlend, member: str, probs: MemberProbs
) -> NDArray[np.float32]:
    """Something in the place of a member that is not packed, for its weight is zero."""
    target = ensemble.record.targets[blend.target].named(blend.target)
    rows = next(iter(probs.values())).shape[1]
    shape = (blend.idle[member], rows, len(target.classes))
    return np.full(shape, 1 / target.kind.answers(len(target.classes)), np.float32)


def _disagreement(
    ensemble: Ensemble, name: str, blended: NDArray[np.float32], probs: MemberProbs
) -> NDArray[np.float32]:
    """The share of networks `[rows]` that answer otherwise than the blend."""
    of = ensemble.record.target_of(name)
    votes_of = {of.name: of.kind.votes(blended)}
    packed = ensemble.record.composition
    if packed is not None and packed.composition.name == of.name:
        votes_of |= _votes_of_tasks(ensemble, packed.composition, blended)
    shares = []
    for (_, target), of_member in probs.items():
        kind = ensemble.record.targets[target].named(target).kind
        for of_network in of_member if target in votes_of else ():
            apart = np.abs(kind.votes(of_network) - votes_of[target]).sum(axis=1)
            decisions = of_network.shape[1] if kind.is_multi_label else 2
            shares.append(apart / decisions)
    return np.mean(shares, axis=0).astype(np.float32)


def _votes_of_tasks(
    ensemble: Ensemble, composition: Composition, blended: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """By task which of its classes the composed answer means, as 0 and 1 `[rows, classes]`."""
    decided = blended.argmax(axis=1)
    votes = {}
    for nth, task in enumerate(composition.tasks):
        classes = ensemble.record.targets[task].classes
        part_of = np.array([classes.index(parts[nth]) for parts in composition.parts])
        votes[task] = np.eye(len(classes))[part_of[decided]]
    return votes
