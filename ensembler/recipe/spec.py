"""The whole recipe: the rooms' specs under the keys they have in the file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ensembler.blending.spec import BlendSpec
from ensembler.data.spec import AugmentSpec, DataSpec, FoldSpec, InputSpec
from ensembler.errors import UnknownNameError, nearest
from ensembler.inference.spec import InferenceSpec, ViewSpec
from ensembler.metrics import check_metric_name, metric_names
from ensembler.recipe.tune import TuneSpec, check_tune
from ensembler.reporting.spec import SubmissionSpec
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL
from ensembler.training.catalogue import traits_of
from ensembler.training.spec import (
    AnyMemberSpec,
    EnsembleSpec,
    FittedSpec,
    MemberSpec,
    SoupSpec,
    TabularSpec,
)


class RecipeSpec(BaseModel):
    """Everything a run is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="The run: its folder is artifacts/NAME. Default: the recipe's file name."
    )
    seed: int = Field(0, ge=0, description="Seed of every member that has none of its own.")
    data: DataSpec = Field(description="What is read, and how.")
    folds: FoldSpec = Field(
        default_factory=FoldSpec, description="How train rows are split into folds."
    )
    input: InputSpec = Field(
        default_factory=InputSpec, description="What the networks see."
    )
    augment: AugmentSpec = Field(
        "light",
        description="Augmentation of every member without its own: a preset or transforms (see "
        "Names); heavy is for "
        "long training.",
    )
    views: tuple[ViewSpec, ...] = Field(
        ("identity",), min_length=1, description="Views of test-time augmentation."
    )
    inference: InferenceSpec = Field(
        default_factory=InferenceSpec, description="How predictions are computed."
    )
    members: dict[str, AnyMemberSpec] = Field(
        min_length=1, description="The members, by name."
    )
    blend: BlendSpec = Field(
        default_factory=BlendSpec, description="How members become one prediction."
    )
    submission: SubmissionSpec = Field(
        default_factory=SubmissionSpec, description="The file that is submitted."
    )
    tune: TuneSpec | None = Field(
        None, description="What `ens tune` searches for; its trials become members."
    )

    @property
    def has_networks(self) -> bool:
        """Whether any member's network looks at images, for which torch is needed."""
        return any(
            not isinstance(member, FittedSpec) or member.sees_images
            for member in self.members.values()
        )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What networks see: the recipe's own way first where a member keeps to it."""
        found: dict[str, InputSpec] = {}
        for member in self.members.values():
            if isinstance(member, SoupSpec):
                continue
            if isinstance(member, FittedSpec) and not member.sees_images:
                continue
            base = member.base if isinstance(member, FittedSpec) else member
            seen = base.seen_input(self.input)
            found[seen.model_dump_json()] = seen
        usual = found.pop(self.input.model_dump_json(), None)
        others = tuple(found.values())
        return others if usual is None and others else (self.input, *others)

    track: tuple[str, ...] = Field(
        (),
        description="Experiment trackers that mirror the run: mlflow, wandb, tensorboard, trackio. "
        "One that fails never stops a run.",
    )

    @field_validator("track", mode="before")
    @classmethod
    def _one_tracker(cls, track: object) -> object:
        return (track,) if isinstance(track, str) else track

    @model_validator(mode="after")
    def _check_targets(self) -> RecipeSpec:
        known = self.data.label_names
        for name, member in self.members.items():
            if isinstance(member, SoupSpec):
                continue
            balanced = member.sampler_target if isinstance(member, MemberSpec) else None
            for target in (*member.targets, *([balanced] if balanced else [])):
                if target not in known:
                    raise ValueError(
                        f"members.{name} names target {target!r}; {nearest(target, known)}"
                    )
            _check_own_data(name, member, self)
            if isinstance(member, FittedSpec):
                if member.sample_weights and not self.data.weighs_rows:
                    raise ValueError(
                        f"members.{name}: sample_weights needs data.weight, the column of weights"
                    )
                _check_columns(name, member, self.data)
                continue
            if (
                isinstance(member, MemberSpec)
                and member.sampler == "weights"
                and not self.data.weighs_rows
            ):
                raise ValueError(
                    f"members.{name}: sampler: weights needs data.weight, the column of weights"
                )
            _check_label_sets(name, member, member.targets or known[:1], self.data)
            _check_choice(name, member, member.targets or known[:1], self.data)
        kind = self.data.kind(known[0])
        fitting = metric_names(of=kind)
        if self.blend.metric in metric_names() and self.blend.metric not in fitting:
            raise ValueError(
                f"blend.metric {self.blend.metric!r} is not a metric of {kind.says}, which "
                f"{known[0]!r} has; choose from {', '.join(fitting)}"
            )
        if self.tune is not None:
            check_tune(self.tune, self.members, self.folds, self.data)
        return self


def _check_own_data(
    name: str, member: MemberSpec | EnsembleSpec | FittedSpec, recipe: RecipeSpec
) -> None:
    """Raise ValueError for a member's own input or training bins that cannot be."""
    base = member.base if isinstance(member, FittedSpec) else member
    try:
        base.seen_input(recipe.input)
        base.own_train_bins(recipe.data)
    except ValueError as error:
        raise ValueError(f"members.{name}: {error}") from error


def _check_columns(name: str, member: FittedSpec, data: DataSpec) -> None:
    """Raise ValueError for a tabular member whose columns data.features does not name."""
    if not isinstance(member, TabularSpec):
        return
    if not data.feature_names and not member.stack:
        raise ValueError(
            f"members.{name}: method: tabular is fitted on columns; data.features names them"
        )
    for column in member.columns or ():
        if column not in data.feature_names:
            raise ValueError(
                f"members.{name}.columns names {column!r}; {nearest(column, data.feature_names)}"
            )


def _check_label_sets(
    name: str, member: MemberSpec | EnsembleSpec, targets: tuple[str, ...], data: DataSpec
) -> None:
    """Raise ValueError for options that several labels at once, or only one, cannot take."""
    sets = [target for target in targets if data.kind(target) is MULTI_LABEL]
    if sets and isinstance(member, EnsembleSpec):
        raise ValueError(
            f"members.{name}: torchensemble trains for one label of each image, and "
            f"{sets[0]!r} has several at once; method: kfold, with seeds or snapshots, "
            "makes such ensembles"
        )
    kinds = traits_of(member.loss).kinds
    if sets and MULTI_LABEL not in kinds:
        raise ValueError(
            f"members.{name}: loss: {member.loss} is for one label of each image, and "
            f"{sets[0]!r} has several at once; class_weights: balanced, or loss: "
            "asymmetric or focal weigh rare labels"
        )
    if SINGLE_LABEL not in kinds and len(sets) < len(targets):
        raise ValueError(
            f"members.{name}: loss: {member.loss} is for targets with multi_label; focal "
            "is its like for one"
        )


def _check_choice(
    name: str, member: MemberSpec | EnsembleSpec, targets: tuple[str, ...], data: DataSpec
) -> None:
    """Raise ValueError for a metric that chooses epochs and is none of the member's targets."""
    if not isinstance(member, MemberSpec):
        return
    for target in targets:
        kind = data.kind(target)
        try:
            check_metric_name(member.choose_by, of=kind)
        except UnknownNameError as error:
            raise ValueError(
                f"members.{name}: choose_by: {member.choose_by} is not a metric of {target!r}, "
                f"which has {kind.says}; choose from {', '.join(metric_names(of=kind))}"
            ) from error
