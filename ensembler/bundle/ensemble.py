"""An ensemble that predicts, wherever it is kept: in a run's folder or in a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ensembler.blending.candidate import Candidate
from ensembler.blending.fitted import FittedBlend
from ensembler.blending.registry import method_class
from ensembler.blending.state import State
from ensembler.blends.pool import BLEND_PREFIX
from ensembler.bundle.records import BundleRecord, PackedMember
from ensembler.errors import BundleError, RequestError
from ensembler.estimators.files import heads_from_bytes
from ensembler.estimators.target_head import TargetHead
from ensembler.networks.sources import is_own_backbone
from ensembler.networks.spec import NetworkSpec
from ensembler.own_code import is_own

if TYPE_CHECKING:
    from ensembler.inference.views import View
    from ensembler.networks.build import Normalised

# What parts that were altered may raise on their way to a prediction.
ALTERED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class Ensemble:
    """Members with their checkpoints, and the fitted blends that make predictions of theirs.

    `record` says everything but the weights, which `read` gives by the name of an entry, after
    their checksum was found right. `where` is what messages call it. `code` is what it may name as
    `module:name`; nothing else of that kind is run.
    """

    record: BundleRecord
    where: str
    read: Callable[[str], bytes] = field(repr=False)
    code: frozenset[str] = frozenset()

    @property
    def members(self) -> Mapping[str, PackedMember]:
        """The members by name, those that are the mean of others among them."""
        return self.record.members

    @property
    def networks(self) -> tuple[PackedMember, ...]:
        """The members that have checkpoints of their own."""
        return tuple(member for member in self.members.values() if member.checkpoints)

    def network(self, entry: str, device: str = "cpu") -> Normalised:
        """The network of a checkpoint, float32, in evaluation mode.

        It takes pixels 0..255 `[images, channels, height, width]`, normalises them, and gives
        logits `[images, logits]`, those of its member's targets one after the other.
        """
        from ensembler.networks.checkpoint import (
            checkpoint_from_bytes,
            description_from_bytes,
        )

        member = self._member_of(entry)
        if member.frozen is not None:
            return self._with_heads(member, entry, device)
        content, name = self.read(entry), f"{self.where}: {entry}"
        _check_classes(member, name, description_from_bytes(content, name))
        return checkpoint_from_bytes(content, name, device, self._own_spec(member))

    def heads(self, entry: str) -> dict[str, TargetHead]:
        """The heads of a probe in an entry, by target."""
        member, name = self._member_of(entry), f"{self.where}: {entry}"
        found = heads_from_bytes(self.read(entry), name, self.code)
        classes, targets = found.description.get("classes"), list(found.heads)
        if classes != list(member.logit_names) or targets != list(member.targets):
            raise BundleError(f"{name} was fitted for other classes than the record says")
        return dict(found.heads)

    def frozen(self, member: PackedMember, device: str = "cpu") -> Normalised:
        """The network whose features the heads of a probe stand on."""
        from ensembler.networks.checkpoint import checkpoint_from_bytes

        entry = str(member.frozen)
        name, content = f"{self.where}: {entry}", self.read(entry)
        return checkpoint_from_bytes(content, name, device, self._own_spec(member))

    def _with_heads(self, member: PackedMember, entry: str, device: str) -> Normalised:
        """A probe as one network; RequestError for heads that are no layers."""
        from ensembler.networks.heads import with_layers

        layers = [head.layers for head in self.heads(entry).values()]
        known = [one for one in layers if one is not None]
        if len(known) < len(layers):
            raise RequestError(
                f"{self.where}: the heads of member {member.name!r} are no layers of a network, "
                "which a graph would have to hold; logistic, lda, ridge and mlp are"
            )
        return with_layers(self.frozen(member, device), known)

    def _member_of(self, entry: str) -> PackedMember:
        return next(m for m in self.networks if entry in m.checkpoints)

    def _own_spec(self, member: PackedMember) -> NetworkSpec | None:
        """The network of the user's own that a checkpoint of the member may name."""
        if not is_own_backbone(member.backbone) or member.backbone not in self.code:
            return None
        return NetworkSpec(backbone=member.backbone, model_args=member.model_args)

    def views(self, member: PackedMember) -> tuple[View, ...]:
        """The views of a member; RequestError for code that may not be run."""
        from ensembler.inference.views import expand_views, place_of_own

        for spec in member.views:
            if isinstance(spec, str) and is_own(spec):
                self._check_code("view", [place_of_own(spec)])
        return expand_views(member.views)

    @cached_property
    def fitted(self) -> dict[str, FittedBlend]:
        """The fitted blends by name, built from their states; composed ones have none."""
        found = {}
        for name, blend in self.record.blends.items():
            if blend.state is not None:
                found[name] = self._restored(name, blend.state)
        return found

    @property
    def ranks_rows(self) -> bool:
        """Whether what it gives for an image depends on the others that are asked with it."""
        methods = (method_class(f.candidate.method) for f in self.fitted.values())
        return not all(method.gives_probabilities for method in methods)

    def _restored(self, name: str, entry: str) -> FittedBlend:
        try:
            state = State.from_bytes(self.read(entry))
            candidate = Candidate.from_json(state.values["candidate"])
            self._check_code(f"blend {name!r}", candidate.code)
            fitted = FittedBlend.from_state(state)
        except RequestError:
            raise
        except ALTERED as error:
            raise BundleError(
                f"{self.where}: {entry} is no fitted blend ({error!r})"
            ) from error
        if fitted.members != self.record.blends[name].members:
            raise BundleError(
                f"{self.where}: {entry} is a blend of other members than the record says"
            )
        return fitted

    def _check_code(self, what: str, places: list[str]) -> None:
        """Raise RequestError for code that may not be run."""
        for place in places:
            if place not in self.code:
                raise RequestError(
                    f"{self.where}: {what} names code, {place!r}, that is not run; --trust-code "
                    "(trust_code=True) runs the code of a bundle that you trust"
                )

    def check(self) -> None:
        """Raise an error unless blends, members, views and code fit each other."""
        for member in self.networks:
            self._check_own(member)
        for name, blend in self.record.blends.items():
            for inner in blend.members:
                self._check_member(name, inner)
        for name in self.record.blends:
            self._check_depth(name, ())
        assert self.fitted is not None
        for member in self.networks:
            views = tuple(view.name for view in self.views(member))
            if views != member.view_names:
                raise BundleError(
                    f"{self.where}: member {member.name!r} has the views "
                    f"{', '.join(member.view_names)}, and here they are {', '.join(views)}"
                )

    def _check_own(self, member: PackedMember) -> None:
        """Raise RequestError where a member would run code that may not be run."""
        own_steps = [step for step in member.input.step_names if is_own(step)]
        self._check_code("a prepare step", own_steps)
        if is_own_backbone(member.backbone):
            self._check_code(f"member {member.name!r}", [member.backbone])

    def _check_member(self, blend: str, name: str) -> None:
        of, target = self.record.blends[blend], self.record.blends[blend].target
        if name in of.idle:
            return
        if name.startswith(BLEND_PREFIX):
            is_there = name.removeprefix(BLEND_PREFIX) in self.record.blends
        else:
            is_there = name in self.members and target in self.members[name].targets
        if not is_there:
            raise BundleError(
                f"{self.where}: blend {blend!r} is made of {name!r}, which is not in it"
            )

    def _check_depth(self, name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise BundleError(f"{self.where}: blend {name!r} is made of itself")
        blend = self.record.blends[name]
        # a member may have the name of a blend
        inside = [
            member.removeprefix(BLEND_PREFIX)
            for member in blend.members
            if member.startswith(BLEND_PREFIX) and member not in blend.idle
        ]
        for inner in {*inside, *blend.tasks.values()} & self.record.blends.keys():
            self._check_depth(inner, (*above, name))


def _check_classes(member: PackedMember, name: str, said: Mapping[str, Any]) -> None:
    """Raise BundleError unless a checkpoint was trained for the member's classes in their order."""
    shape, classes = said.get("shape"), said.get("classes")
    n_logits = shape.get("classes") if isinstance(shape, dict) else None
    if n_logits != member.n_logits:
        raise BundleError(
            f"{name} gives {n_logits} logits, and the record says {member.n_logits}; it was altered"
        )
    if isinstance(classes, list) and tuple(classes) != member.logit_names:
        raise BundleError(
            f"{name} was trained for the classes {', '.join(map(str, classes[:5]))} in this order, "
            "and the record says another one; it was altered"
        )
