"""One member to train: what decides what its networks are, and the fingerprint of that."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensembler.data.augment import augment_version, where_to_augment
from ensembler.data.prepare import contents_of_steps
from ensembler.data.spec import AugmentSpec
from ensembler.errors import UnknownNameError
from ensembler.files import fingerprint, sha256_by_stat
from ensembler.members.columns import columns_of
from ensembler.members.on_disk import Identity, MemberOnDisk
from ensembler.members.output import MemberOutput
from ensembler.members.rows import MemberRows
from ensembler.networks.sources import FOLDER, contents_of_backbone, source_of_backbone
from ensembler.own_code import digest_of
from ensembler.recipe.members import PlannedMember
from ensembler.training.spec import (
    EMA_DECAY,
    FittedSpec,
    MemberSpec,
    ProbeSpec,
    SoupSpec,
    TabularSpec,
)
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from ensembler.data.pixels import Pixels
    from ensembler.data.spec import InputSpec
    from ensembler.inference.views import View


@dataclass(frozen=True)
class MemberPlan:
    """One member to train, with its options, seed, input and views."""

    workspace: Workspace
    member: PlannedMember

    @cached_property
    def output(self) -> MemberOutput:
        """What it predicts."""
        return MemberOutput(self.workspace, self.member)

    @cached_property
    def rows(self) -> MemberRows:
        """What it is trained on."""
        return MemberRows(self.output)

    @property
    def final_folder(self) -> Path:
        """Where the complete member is."""
        return self.workspace.store.member_folder(self.member.name)

    @cached_property
    def on_disk(self) -> MemberOnDisk:
        """What of it is there."""
        identity = Identity(
            self.fingerprint, self._older_fingerprints, self.output.classes, self.view_names
        )
        return MemberOnDisk(
            self.final_folder, identity, self.rows.n_folds, self.workspace.progress
        )

    @cached_property
    def changed(self) -> str | None:
        """Which options differ from those of the complete member in the store, in words.

        None = none or no member.
        """
        record = self.on_disk.record
        if record is None or self.on_disk.is_complete:
            return None
        old = {**record.options, "classes": list(record.classes)}
        new = {**self.options, "classes": list(self.output.classes)}
        keys = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
        return (
            ", ".join(_told(key, old, new) for key in keys)
            or "the order of classes of some fold"
        )

    @cached_property
    def options(self) -> dict[str, Any]:
        """Everything that decides what the trained network is, as plain values."""
        if isinstance(self.member.spec, FittedSpec):
            return self._fitted_options(self.member.spec)
        targets = self.output.targets
        version = augment_version(self.augment)
        contents = self._contents
        return {
            **self._member_options,
            **({"contents": contents} if contents else {}),
            # not where images are augmented: on another machine finished members stay what they are
            "augment": _as_values(where_to_augment(self.augment).transforms),
            **({} if version is None else {"augment_version": version}),
            "input": self.workspace.input_options(self.input),
            **self._train_bins,
            "seed": self.seed,
            "target": targets[0] if len(targets) == 1 else list(targets),
            "fold_column": self.member.fold_column,
        }

    def _fitted_options(self, spec: FittedSpec) -> dict[str, Any]:
        """The same of a member without a training: no augmentation, and perhaps no pixels."""
        targets = self.output.targets
        options = spec.decisive_options
        if isinstance(spec, ProbeSpec):
            options["features"] = self._features_options(spec)
        if isinstance(spec, TabularSpec):
            options["columns"] = columns_of(self.workspace, spec).digest
            # a name is not enough: what these predict is what counts
            options["stack"] = {
                plan.member.name: plan.fingerprint for plan in self.ingredients
            }
        contents = {place: digest for place in spec.code if (digest := digest_of(place))}
        if spec.sees_images:
            contents |= contents_of_steps(self.input.prepare)
        seen = (
            {"input": self.workspace.input_options(self.input)} if spec.sees_images else {}
        )
        return {
            **options,
            **({"contents": contents} if contents else {}),
            **seen,
            **self._train_bins,
            "seed": self.seed,
            "target": targets[0] if len(targets) == 1 else list(targets),
            "fold_column": self.member.fold_column,
            "weights": self.member.variant,
        }

    def _features_options(self, spec: ProbeSpec) -> dict[str, Any]:
        """Where features come from: what is in files counts, not where these lie."""
        given = spec.features
        if given.file is not None and given.ids is not None:
            files = {"file": given.file, "ids": given.ids}
            return {name: sha256_by_stat(Path(path)) for name, path in files.items()}
        options = given.model_dump(
            mode="json", exclude={"file", "ids", "size", "batch_size"}
        )
        return {**options, **self.network_options}

    @property
    def network_options(self) -> dict[str, Any]:
        """What decides the network that a training starts from, or a frozen one."""
        base = self.member.base
        options: dict[str, Any] = base.model_dump(
            mode="json", include={"backbone", "pretrained", "checkpoint", "model_args"}
        )
        if base.checkpoint is not None:
            options["checkpoint"] = sha256_by_stat(Path(base.checkpoint))
        if source_of_backbone(base.backbone)[0] == FOLDER:
            options["backbone"] = FOLDER
        behind = contents_of_backbone(base.backbone, weights=base.pretrained)
        return {**options, **({"contents": behind} if behind else {})}

    @property
    def _train_bins(self) -> dict[str, Any]:
        """The member's own training bins, where it has any."""
        own = self.output.train_bins
        if not own:
            return {}
        return {
            "train_bins": {name: bins.model_dump(mode="json") for name, bins in own.items()}
        }

    @property
    def augment(self) -> AugmentSpec:
        """Its augmentation as the recipe says it, its own or that of all members."""
        return self.member.base.augment or self.workspace.spec.augment

    @property
    def _contents(self) -> dict[str, str]:
        """Digests of files of the user's own, which may be edited under the same name."""
        base = self.member.base
        backbone = contents_of_backbone(base.backbone, weights=base.pretrained)
        training = {place: digest for place in base.code if (digest := digest_of(place))}
        return {**contents_of_steps(self.input.prepare), **backbone, **training}

    @property
    def _member_options(self) -> dict[str, Any]:
        spec = self.member.spec
        if isinstance(spec, SoupSpec):
            return {
                "method": "soup",
                "take": spec.take,
                "of": {p.member.name: p.fingerprint for p in self.ingredients},
            }
        assert not isinstance(spec, FittedSpec)
        options = spec.decisive_options
        if spec.checkpoint is not None:  # what is in the file counts, not where it lies
            options["checkpoint"] = sha256_by_stat(Path(spec.checkpoint))
        if source_of_backbone(spec.backbone)[0] == FOLDER:  # likewise, see `_contents`
            options["backbone"] = FOLDER
        if isinstance(spec, MemberSpec):
            options["ema"] = (
                (spec.ema or EMA_DECAY) if self.member.variant == "ema" else None
            )
        return {**options, "weights": self.member.variant}

    @cached_property
    def ingredients(self) -> tuple[MemberPlan, ...]:
        """The members whose weights a soup averages, or whose predictions are columns."""
        by_name = {planned.name: planned for planned in self.workspace.members}
        return tuple(
            MemberPlan(self.workspace, by_name[name]) for name in self.member.ingredients
        )

    @cached_property
    def fingerprint(self) -> str:
        """A digest of options, classes in order and samples: equal ones are the same training."""
        return fingerprint({**self._options, "classes": self.output.classes})

    @cached_property
    def _older_fingerprints(self) -> frozenset[str]:
        """The fingerprints as earlier versions wrote them.

        Some are without classes, which stand in the record beside it, some without what was in
        files of the user's own, against which nothing speaks then, some with the place where images
        are augmented.
        """
        ways = itertools.product((True, False), repeat=3)
        return frozenset(
            self._fingerprint(classes=classes, contents=contents, place=place)
            for classes, contents, place in ways
        )

    def _fingerprint(self, *, classes: bool, contents: bool, place: bool) -> str:
        options = {k: v for k, v in self._options.items() if contents or k != "contents"}
        if place and "augment" in options:
            options["augment"] = _as_values(self.augment)
        if isinstance(self.member.spec, SoupSpec):
            options["of"] = {
                plan.member.name: plan._fingerprint(
                    classes=classes, contents=contents, place=place
                )
                for plan in self.ingredients
            }
        return fingerprint(options | ({"classes": self.output.classes} if classes else {}))

    @property
    def _options(self) -> dict[str, Any]:
        return {**self.options, "samples": self.workspace.store.samples_sha256}

    @property
    def seed(self) -> int:
        """The member's seed, else the recipe's; of several seeds one after the other."""
        own = self.member.base.seed
        return (self.workspace.spec.seed if own is None else own) + self.member.nth_seed

    @cached_property
    def input(self) -> InputSpec:
        """What its networks see: the recipe's input, with what is the member's own."""
        return self.member.base.seen_input(self.workspace.spec.input)

    @property
    def pixels(self) -> Pixels:
        """All images, prepared: `[images, height, width, channels]`."""
        return self.workspace.pixels(self.input)

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The views of the recipe, expanded; without a look at images there is one."""
        from ensembler.inference.views import check_views_fit, expand_views

        if not self.member.sees_images:
            return expand_views(("identity",))
        views = expand_views(self.workspace.spec.views)
        check_views_fit(views, self.input.size)
        return views

    @property
    def view_names(self) -> tuple[str, ...]:
        """Names of the views, as the store keeps them."""
        return tuple(view.name for view in self.views)

    def check_classes(self) -> None:
        """Raise UnknownNameError for a class in class_weights that the target does not have.

        RequestError for a class that the member's training bins leave nothing of.
        """
        self.rows.check_classes_are_learned()
        weights = self.member.base.class_weights
        for name in weights if isinstance(weights, dict) else ():
            if name not in self.output.classes:
                raise UnknownNameError(
                    "class",
                    name,
                    self.output.classes,
                    of=f"members.{self.member.entry}.class_weights",
                )


def _told(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What changed in one of a member's options, in words."""
    if key == "contents":
        return _edited(old, new)
    if key == "augment_version":
        return "the augmentation, which this version of ensembler draws differently,"
    if key == "choose" and new.get("patience") is not None:
        return "the epoch that predicts after early stopping, now the best one,"
    return f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)"


def _edited(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which files of the user's own hold something else than they did, in words."""
    before, now = old.get("contents") or {}, new.get("contents") or {}
    names = [
        name
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    return f"what is in {' and '.join(names)}"


def _as_values(augment: AugmentSpec) -> Any:
    """An augmentation as it is in a record."""
    return json.loads(json.dumps(augment, default=_plain))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")
