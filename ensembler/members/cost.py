"""What a member costs where it predicts: milliseconds for an image, measured, and megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ensembler.errors import RequestError
from ensembler.files import fingerprint
from ensembler.members.recorded import recorded_spec
from ensembler.predictions.members import FEATURES, Member
from ensembler.predictions.samples import fold_repeats
from ensembler.predictions.store import RunStore
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember, planned_members
from ensembler.training.spec import FITTED, TrainingSpec


@dataclass(frozen=True)
class MemberCost:
    """The cost of a member with all its networks and views.

    `seconds` are for one image, `bytes` those of its checkpoints.
    """

    seconds: float
    bytes: int
    networks: int


@dataclass(frozen=True)
class Costs:
    """Measures the members of a run; the code of their networks is that of its recipe."""

    store: RunStore
    recipe: Recipe
    device: str = "auto"
    timed: dict[str, float] = field(default_factory=dict)  # equal networks cost the same

    def of(self, name: str) -> MemberCost:
        """What a member costs; of one that is the mean of others what these cost together.

        Its first network is timed: the others are alike. RequestError for a member without any.
        """
        member = self.store.member(name)
        if member.record.made_of:
            return total(self.of(part) for part in member.record.made_of)
        paths = [
            member.folder / file
            for file in member.record.sha256
            if file.startswith("fold") and file.endswith(".safetensors")
        ]
        if not paths:
            raise RequestError(
                f"member {name!r} has no networks (it was imported); what it costs is not known"
            )
        n_views = len(member.record.views)
        if member.record.options.get("method") in FITTED:
            return self._of_probe(member, paths, n_views)
        seconds = self._seconds(member, paths[0]) * len(paths) * n_views
        return MemberCost(seconds, sum(path.stat().st_size for path in paths), len(paths))

    def _of_probe(self, member: Member, heads: Sequence[Path], n_views: int) -> MemberCost:
        """What a probe costs: its frozen network once, for its heads cost next to nothing."""
        if FEATURES not in member.record.sha256:
            raise RequestError(
                f"member {member.name!r} does not look at images; what it costs is not known"
            )
        frozen = member.folder / FEATURES
        n_bytes = sum(path.stat().st_size for path in [*heads, frozen])
        return MemberCost(self._seconds(member, frozen) * n_views, n_bytes, 1)

    def _seconds(self, member: Member, path: Path) -> float:
        """The seconds of one network for one view of one image, by the device's default engine."""
        from ensembler.inference.engines.choose import ready
        from ensembler.inference.engines.registry import named_engine
        from ensembler.inference.latency import BATCH, seconds_per_image
        from ensembler.networks.checkpoint import load_checkpoint
        from ensembler.networks.devices import pick_device

        base = self._base(member)
        given = base.seen_input(self.recipe.spec.input)
        size = given.size
        key = fingerprint([base.backbone, base.model_args, base.amp, size, given.channels])
        if key in self.timed:
            return self.timed[key]
        device = pick_device(self.device)
        predictor = ready(
            named_engine("default", device.type),
            lambda: load_checkpoint(path, self.device, base),
            np.zeros((BATCH, *given.shape), np.uint8),
            amp=base.amp,
            device=self.device,
            name=f"member {member.name!r}",
            kinds=(self.store.kind(member.targets[0]),),
        )
        self.timed[key] = seconds_per_image(predictor, size, given.channels, device)
        return self.timed[key]

    def _base(self, member: Member) -> TrainingSpec:
        """What the networks of a member are like: as the recipe says, else its record."""
        planned = self._planned.get(member.name)
        if planned is not None:
            return planned.base
        return recorded_spec(member, self.recipe.spec)

    @cached_property
    def _planned(self) -> dict[str, PlannedMember]:
        repeats = fold_repeats(self.store.samples.table)
        planned = planned_members(self.recipe.spec.members, repeats)
        return {member.name: member for member in planned}


def total(costs: Iterable[MemberCost]) -> MemberCost:
    """What several members cost together."""
    found = list(costs)
    return MemberCost(
        sum(cost.seconds for cost in found),
        sum(cost.bytes for cost in found),
        sum(cost.networks for cost in found),
    )
