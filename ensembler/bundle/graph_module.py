"""An ensemble as one torch module: from batches of pixels to probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ensembler.blends.pool import BLEND_PREFIX
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.graph_blend import (
    blended,
    check_formula,
    composed,
    mean_of_parts,
    merged_views,
)
from ensembler.bundle.records import PackedBlend, PackedMember
from ensembler.data.size import area, shown
from ensembler.data.spec import InputSpec
from ensembler.errors import RequestError
from ensembler.inference.device_views import DeviceView, device_view
from ensembler.own_code import is_own

# What the ten lines of a consumer do by numpy.
NUMPY_STEPS = ("center_crop", "crop", "grey")
MemberProbs = Mapping[tuple[str, str], Tensor]  # [folds, samples, classes]
Logits = Mapping[str, Sequence[Tensor]]  # by member and fold `[views * n, logits]`


class GraphInput(NamedTuple):
    """A batch of uint8 pixels `[n, height, width, channels]` that a graph takes, by its name."""

    name: str
    spec: InputSpec


def graph_inputs(ensemble: Ensemble) -> tuple[GraphInput, ...]:
    """The inputs: one, or one for each way in which members' images are prepared.

    Those of one size are numbered in the order of the members.
    """
    specs = {input_key(member.input): member.input for member in ensemble.networks}
    ordered = sorted(specs.values(), key=lambda spec: (area(spec.size), spec.shape))
    if len(ordered) == 1:
        return (GraphInput("images", ordered[0]),)
    sizes = [shown(spec.size) for spec in ordered]
    names = [
        f"images_{size}" if sizes.count(size) == 1 else f"images_{size}_{nth}"
        for size, nth in zip(sizes, _nth_of_its_kind(sizes), strict=True)
    ]
    return tuple(map(GraphInput, names, ordered))


def input_key(spec: InputSpec) -> str:
    """What tells one way to prepare images from another."""
    return spec.model_dump_json()


def _nth_of_its_kind(values: Sequence[str]) -> list[int]:
    """For each value, the how many of its equals it is, from 1."""
    return [values[: i + 1].count(value) for i, value in enumerate(values)]


def check_exportable(ensemble: Ensemble) -> None:
    """Raise RequestError, in one line with the nearest way, for what no graph can hold."""
    for name, fitted in ensemble.fitted.items():
        check_formula(name, fitted)
    for member in ensemble.networks:
        for step in member.input.step_names:
            _check_step(member, step)
        _views(ensemble, member)


def _views(ensemble: Ensemble, member: PackedMember) -> list[DeviceView]:
    """A member's views as tensor code."""
    found = []
    for view in ensemble.views(member):
        as_tensors = device_view(view)
        if as_tensors is None:
            raise RequestError(
                f"member {member.name!r}: view {view.name!r} is code, and no formula that a graph "
                f"can hold; a blend of views that are: `ens blend RUN --views identity,hflip "
                "--name NAME`, then --blend NAME"
            )
        found.append(as_tensors)
    return found


def _check_step(member: PackedMember, step: str) -> None:
    if step not in NUMPY_STEPS:
        what = "code" if is_own(step) else "no step of numpy"
        raise RequestError(
            f"member {member.name!r}: prepare step {step!r} is {what}, and whoever uses the graph "
            f"would have to repeat it; those that ship: {', '.join(NUMPY_STEPS)}; `ens pack` keeps "
            "the others"
        )


class EnsembleGraph(nn.Module):
    """The whole ensemble: normalisation, views, networks, merge, blend and calibration.

    Takes the batches of its `inputs` one after the other, and gives probabilities float32
    `[n, classes]` for each of the ensemble's answers.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.inputs = graph_inputs(ensemble)
        self.networks = nn.ModuleDict()
        for number, member in enumerate(ensemble.networks):
            networks = [ensemble.network(entry) for entry in member.checkpoints]
            self.networks[f"member{number}"] = nn.ModuleList(networks)
        self.views = {m.name: _views(ensemble, m) for m in ensemble.networks}
        self.requires_grad_(False)
        self.eval()

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Probabilities of each answer `[n, classes]` of uint8 `[n, height, width, channels]`.

        There is a batch for each of `inputs`.
        """
        return self.answers(self.logits(self.seen(images)))

    def seen(self, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """By member, what its networks see: one batch `[views * n, channels, height, width]`."""
        keys = [input_key(given.spec) for given in self.inputs]
        pixels = dict(zip(keys, images, strict=True))
        return {
            member.name: torch.cat(
                [view(pixels[input_key(member.input)]) for view in self.views[member.name]]
            ).permute(0, 3, 1, 2)
            for member in self.ensemble.networks
        }

    def logits(self, seen: Mapping[str, Tensor]) -> Logits:
        """By member, for each fold, logits `[views * n, logits]`."""
        return {
            member.name: [
                network(seen[member.name]) for network in self.networks_of(number)
            ]
            for number, member in enumerate(self.ensemble.networks)
        }

    def answers(self, logits: Logits) -> tuple[Tensor, ...]:
        """Probabilities of each answer `[n, classes]`, by the logits of all networks."""
        probs = self._member_probs(logits)
        return tuple(self._blend(name, probs) for name in self.ensemble.record.answers)

    def networks_of(self, number: int) -> list[nn.Module]:
        """The networks of the ensemble's member number so and so, fold by fold."""
        return list(self.networks[f"member{number}"].children())

    def _member_probs(self, logits: Logits) -> MemberProbs:
        probs = {}
        for member in self.ensemble.members.values():
            for target in member.merging:
                folds = [
                    self._merged(member, target, fold, logits)
                    for fold in range(member.folds)
                ]
                probs[member.name, target] = torch.stack(folds)
        return probs

    def _merged(
        self,
        member: PackedMember,
        target: str,
        fold: int,
        logits: Logits,
    ) -> Tensor:
        kind = self.ensemble.record.targets[target].named(target).kind
        parts = [self.ensemble.members[name] for name in member.parts] or [member]
        views = []
        for view in member.merging[target].views:
            found = [
                _of_view(part, logits[part.name][fold], view)[:, part.slices[target]]
                for part in parts
            ]
            one = mean_of_parts(member.averages, found, kind) if member.parts else found[0]
            views.append(one)
        merged = merged_views(member.merging[target].how, views, kind)
        own = list(parts[0].targets[target])
        order = [own.index(name) for name in self.ensemble.record.targets[target].classes]
        if order == sorted(order):
            return merged
        return merged.index_select(1, torch.tensor(order))

    def _blend(self, name: str, probs: MemberProbs) -> Tensor:
        blend = self.ensemble.record.blends[name]
        if blend.tasks:
            return self._composed(blend, probs)
        fitted = self.ensemble.fitted[name]
        rows = next(iter(probs.values())).shape[1]
        members = [self._input(blend, member, probs, rows) for member in fitted.members]
        same_folds = len({len(one) for one in members}) == 1
        return blended(fitted, members, same_folds)

    def _input(
        self, blend: PackedBlend, member: str, probs: MemberProbs, rows: int
    ) -> Tensor:
        """What a blend reads of one of its members `[folds, n, classes]`."""
        if member in blend.idle:
            # it has no weight: what it says is multiplied by zero
            target = self.ensemble.record.targets[blend.target].named(blend.target)
            n_classes = len(target.classes)
            even = 1 / target.kind.answers(n_classes)
            return torch.full((blend.idle[member], rows, n_classes), even)
        if member.startswith(BLEND_PREFIX):
            return self._blend(member.removeprefix(BLEND_PREFIX), probs)[None]
        return probs[member, blend.target]

    def _composed(self, blend: PackedBlend, probs: MemberProbs) -> Tensor:
        packed = self.ensemble.record.composition
        assert packed is not None
        tasks = [self._blend(blend.tasks[task], probs) for task in packed.composition.tasks]
        classes_of = {
            task: self.ensemble.record.targets[task].classes for task in blend.tasks
        }
        factors = None if packed.factors is None else np.array(packed.factors)
        return composed(tasks, packed.composition.positions(classes_of), factors)


class OpenGraph(EnsembleGraph):
    """The same graph that also gives what its networks see, and then their logits."""

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """The answers, then what the networks of each member see, then all their logits."""
        seen = self.seen(images)
        logits = self.logits(seen)
        of_folds = itertools.chain.from_iterable(logits.values())
        return (*self.answers(logits), *seen.values(), *of_folds)


def _of_view(member: PackedMember, logits: Tensor, view: str) -> Tensor:
    """The logits `[n, logits]` of one view."""
    n_views = len(member.view_names)
    by_view = logits.reshape(n_views, -1, logits.shape[1])
    return by_view[member.view_names.index(view)]


def sample_of(inputs: Sequence[GraphInput], n: int = 2) -> tuple[Tensor, ...]:
    """Batches of pixels to trace a graph with."""
    rng = np.random.default_rng(0)
    shapes = [(n, *given.spec.shape) for given in inputs]
    return tuple(
        torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes
    )


def output_names(ensemble: Ensemble) -> list[str]:
    """The graph's outputs: `probabilities` of the first answer, those of others by their target."""
    others = ensemble.record.answers[1:]
    named = [f"probabilities_{ensemble.record.blends[name].target}" for name in others]
    return list(itertools.chain(["probabilities"], named))
