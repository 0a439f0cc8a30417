"""The ensemble of a run: its members of non-zero weight, and a blend of them as it was fitted.

Only the run's folder is read. The images that it was trained on may be gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ensembler.blending.fitted import FittedBlend
from ensembler.blending.state import State
from ensembler.blends.apply import ViewMerging, merging_below
from ensembler.blends.composed import COMPOSED
from ensembler.blends.origin import cross_fitted_score
from ensembler.blends.pool import BLEND_PREFIX
from ensembler.blends.submit import default_blend, submission_spec
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.provenance import provenance_of
from ensembler.bundle.records import (
    BundleRecord,
    PackedBlend,
    PackedComposition,
    PackedMember,
    PackedTarget,
    ViewMerge,
)
from ensembler.errors import RequestError, StoreError
from ensembler.inference.spec import CustomView, ViewSpec
from ensembler.networks.header import read_description
from ensembler.own_code import load_own
from ensembler.predictions.blends import Blend
from ensembler.predictions.composed import co_occurrence_of, composition_of
from ensembler.predictions.members import FEATURES, Member, shared_views
from ensembler.predictions.samples import fold_repeats
from ensembler.predictions.store import RunStore
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember, planned_members
from ensembler.recipe.own_code import code_named_by
from ensembler.training.spec import FITTED, TrainingSpec, with_own_input


def ensemble_of_run(
    store: RunStore, blend: str | None = None, folders: Sequence[Path] = ()
) -> Ensemble:
    """The ensemble behind a blend of a run (default: the submitted one).

    Modules of the user's own that the recipe names may be in one of `folders`.

    Raises RequestError or StoreError, in one line, for what cannot be kept: a blend without its
    fitted state, a member without checkpoints.
    """
    name = blend or default_blend(store)
    return _Reader(store, tuple(folders)).ensemble([name, *_beside(store, name)])


def _beside(store: RunStore, name: str) -> list[str]:
    """The blends of targets beside that of the blend `name`, which `ens run` made with it."""
    target = store.blend(name).record.target
    composed_of = () if store.composition is None else store.composition.tasks
    others = [t for t in store.samples.targets if t != target and t not in composed_of]
    found = [f"{name}.{other}" for other in others]
    return [
        beside
        for beside, other in zip(found, others, strict=True)
        if beside in store.blends and store.blend(beside).record.target == other
    ]


@dataclass
class _Reader:
    """Reads the parts of an ensemble from a run; `files` says where each entry is."""

    store: RunStore
    folders: tuple[Path, ...] = ()
    files: dict[str, tuple[Path, str]] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def recipe(self) -> Recipe:
        if not self.store.recipe_path.is_file():
            raise RequestError(
                f"run {self.store.name!r} was not made from a recipe: its members have no "
                "networks to keep"
            )
        return Recipe.load_recorded(self.store.recipe_path)

    @cached_property
    def jobs(self) -> dict[str, PlannedMember]:
        table = self.store.samples.table
        planned = planned_members(self.recipe.spec.members, fold_repeats(table))
        return {job.name: job for job in planned}

    def ensemble(self, answers: list[str]) -> Ensemble:
        for place, kind in self.recipe.spec.blend.code.items():
            load_own(place, kind, self.folders)
        blends: dict[str, PackedBlend] = {}
        merging: dict[tuple[str, str], ViewMerging] = {}
        for name in answers:
            self._add_blend(name, blends)
            merging |= merging_below(self.store, name)
        members = self._members(blends, merging)
        spec, store = self.recipe.spec, self.store
        targets = {name: None for member in members.values() for name in member.targets}
        targets |= dict.fromkeys(blend.target for blend in blends.values())
        record = BundleRecord(
            name=store.name,
            versions=dict(store.lock.versions),
            engine=spec.inference.engine,
            answers=tuple(answers),
            targets={name: self._target(name) for name in targets},
            members=members,
            blends=blends,
            composition=self._composition(blends),
            submission=submission_spec(store).model_copy(update={"template": None}),
            path_column=spec.data.path,
            id_column=spec.data.id,
            scores={name: self._scores(name) for name in answers},
            code=self._code(),
            sha256={
                **{entry: digest for entry, (_, digest) in self.files.items()},
                **{
                    entry: hashlib.sha256(content).hexdigest()
                    for entry, content in self.states.items()
                },
            },
        )
        code = frozenset(record.code)
        return Ensemble(record, f"run {store.name!r}", self._read, code)

    def _read(self, entry: str) -> bytes:
        if entry in self.states:
            return self.states[entry]
        path, sha256 = self.files[entry]
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(
                f"{path} is not the file that member.json describes (its sha256 differs); "
                "restore it"
            )
        return content

    def _scores(self, answer: str) -> dict[str, Any]:
        """What the run says of a blend, and its score by its own metric with the interval."""
        kept = self.store.blend(answer)
        record, found = kept.record, cross_fitted_score(self.store, kept)
        return {
            **{split: record.scores.get(split) for split in ("cross_fitted", "holdout")},
            "gain": None if record.gain is None else record.gain.to_json(),
            "interval": None if found is None else found.to_json(),
        }

    def _code(self) -> dict[str, str]:
        return code_named_by(self.recipe.spec)

    def _target(self, name: str) -> PackedTarget:
        found = self.store.target(name)
        return PackedTarget(classes=found.classes, set_format=found.set_format)

    def _composition(self, blends: Mapping[str, PackedBlend]) -> PackedComposition | None:
        if not any(blend.tasks for blend in blends.values()):
            return None
        factors = co_occurrence_of(self.store)
        return PackedComposition(
            composition=composition_of(self.store),
            factors=None if factors is None else tuple(factors.tolist()),
        )

    # --- blends

    def _add_blend(self, name: str, blends: dict[str, PackedBlend]) -> None:
        """Put a blend, and those that it is made of, among `blends`."""
        if name in blends:
            return
        kept = self.store.blend(name)
        record = kept.record
        if record.method == COMPOSED:
            tasks = dict(record.details.tasks)
            blends[name] = PackedBlend(
                target=record.target,
                method=record.method,
                members=record.members,
                tasks=tasks,
            )
            inside = list(tasks.values())
        else:
            blends[name] = self._with_state(kept)
            used = [m for m in record.members if m not in blends[name].idle]
            inside = [
                m.removeprefix(BLEND_PREFIX) for m in used if m.startswith(BLEND_PREFIX)
            ]
        for inner in inside:
            self._add_blend(inner, blends)

    def _with_state(self, kept: Blend) -> PackedBlend:
        record, content = kept.record, kept.state
        if content is None:
            raise RequestError(
                f"blend {record.name!r} has no fitted state in the store, so it cannot be kept: "
                f"`ens blend {self.store.name} --name {record.name}` with its options keeps one "
                "(a scikit-learn stack needs the extra 'skops' for it)"
            )
        try:
            fitted = FittedBlend.from_state(State.from_bytes(content))
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"the state of blend {record.name!r} cannot be read ({error!r})"
            ) from error
        entry = f"blends/{record.name}.safetensors"
        self.states[entry] = content
        return PackedBlend(
            target=record.target,
            method=record.method,
            members=record.members,
            state=entry,
            idle={name: self._folds_of(name) for name in fitted.idle},
        )

    def _folds_of(self, name: str) -> int:
        if name.startswith(BLEND_PREFIX):
            return 1
        return self.store.member(name).record.folds

    # --- members

    def _members(
        self,
        blends: Mapping[str, PackedBlend],
        merging: Mapping[tuple[str, str], ViewMerging],
    ) -> dict[str, PackedMember]:
        used: dict[str, None] = {}
        for blend in blends.values():
            names = () if blend.tasks else blend.members
            direct = [n for n in names if not n.startswith(BLEND_PREFIX)]
            used |= dict.fromkeys(name for name in direct if name not in blend.idle)
        members: dict[str, PackedMember] = {}
        for name in used:
            self._add_member(self.store.member(name), merging, members)
        return members

    def _add_member(
        self,
        member: Member,
        merging: Mapping[tuple[str, str], ViewMerging],
        members: dict[str, PackedMember],
    ) -> None:
        """Put a member, and those that it is the mean of, among `members`."""
        part_names = member.record.made_of
        parts = [self.store.member(name) for name in part_names]
        shared = shared_views(parts or [member])
        of_target = {}
        for target in member.targets:
            by = merging.get((member.name, target), ViewMerging())
            of_target[target] = ViewMerge(how=by.how, views=tuple(by.views or shared))
        wanted = {view for merge in of_target.values() for view in merge.views}
        packed = self._packed(member, [view for view in shared if view in wanted])
        if parts:
            averages = "logits" if member.record.values == "logits" else "probabilities"
            packed = packed.model_copy(
                update={"parts": part_names, "averages": averages, "merging": of_target}
            )
            members[member.name] = packed
            for part in parts:
                self._add_part(part, packed.view_names, members)
            return
        packed = self._with_checkpoints(member, packed)
        before = members.get(member.name)
        views = [*(before.view_names if before else ()), *packed.view_names]
        packed = self._with_views(packed, [v for v in member.record.views if v in views])
        members[member.name] = packed.model_copy(update={"merging": of_target})

    def _add_part(
        self, part: Member, views: tuple[str, ...], members: dict[str, PackedMember]
    ) -> None:
        before = members.get(part.name)
        if before is None:
            packed = self._with_checkpoints(part, self._packed(part, list(views)))
            members[part.name] = packed
            return
        wanted = {*before.view_names, *views}
        both = [view for view in part.record.views if view in wanted]
        members[part.name] = self._with_views(before, both)

    def _packed(self, member: Member, views: list[str]) -> PackedMember:
        base = self._training(member)
        record = member.record
        input_ = base.seen_input(self.recipe.spec.input)
        targets = {
            target: member.for_target(target).record.classes for target in member.targets
        }
        packed = PackedMember(
            name=member.name,
            targets=targets,
            input=input_,
            folds=record.folds,
            amp=base.amp,
            batch_size=base.batch_size,
            deterministic=getattr(base, "deterministic", False),
            backbone=base.backbone,
            model_args=dict(base.model_args),
            provenance=provenance_of(base),
        )
        return self._with_views(packed, views)

    def _training(self, member: Member) -> TrainingSpec:
        """How the networks of a member were trained: as the recipe says, else as it recorded."""
        job = self.jobs.get(member.name)
        if job is not None:
            return job.base
        options = {
            key: value
            for key, value in member.record.options.items()
            if key in TrainingSpec.model_fields
        }
        try:
            return TrainingSpec.model_validate(with_own_input(options))
        except ValueError as error:
            raise StoreError(
                f"member {member.name!r} is not in the recipe of run {self.store.name!r}, and its "
                f"member.json does not say what its networks are ({error})"
            ) from error

    def _with_views(self, packed: PackedMember, names: list[str]) -> PackedMember:
        views = tuple(self._view(name) for name in names)
        return packed.model_copy(update={"views": views, "view_names": tuple(names)})

    def _view(self, name: str) -> ViewSpec:
        custom = {v.name: v for v in self.recipe.spec.views if isinstance(v, CustomView)}
        return custom.get(name, name)

    def _with_checkpoints(self, member: Member, packed: PackedMember) -> PackedMember:
        record, entries = member.record, []
        if record.imported:
            raise RequestError(
                f"member {member.name!r} was imported and has no networks to keep; blend without "
                f"it: `ens blend {self.store.name} --members ... --name NAME`, then --blend NAME"
            )
        for fold in range(record.folds):
            path = member.folder / f"fold{fold}.safetensors"
            if path.name not in record.sha256 or not path.is_file():
                raise StoreError(
                    f"member {member.name!r} keeps no weights of fold {fold} ({path.name}); it "
                    "cannot predict"
                )
            entry = f"members/{member.name}/{path.name}"
            self.files[entry] = (path, record.sha256[path.name])
            entries.append(entry)
        frozen = self._frozen(member)
        return packed.model_copy(update={"checkpoints": tuple(entries), "frozen": frozen})

    def _frozen(self, member: Member) -> str | None:
        """The entry of the network that a probe's heads stand on; None for other members.

        RequestError where these look at no image, or were not kept.
        """
        record = member.record
        if record.options.get("method") not in FITTED:
            return None
        without = (
            f"`ens blend {self.store.name} --members ... --name NAME`, then --blend NAME"
        )
        if FEATURES not in record.sha256:
            raise RequestError(
                f"member {member.name!r} does not look at images, which is all that a bundle is "
                f"given; blend without it: {without}"
            )
        header = read_description(member.folder / "fold0.safetensors")
        if "not_kept" in header:
            raise RequestError(
                f"member {member.name!r} keeps no heads ({header['not_kept']}); blend without it: "
                f"{without}"
            )
        digest = record.sha256[FEATURES]
        entry = (
            f"frozen/{digest[:16]}.safetensors"  # the same for all probes of one network
        )
        self.files[entry] = (member.folder / FEATURES, digest)
        return entry
