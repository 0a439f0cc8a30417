"""What `bundle.json` says: everything about a packed ensemble but its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from ensembler.data.spec import InputSpec
from ensembler.inference.spec import ViewSpec
from ensembler.predictions.merging import Merge
from ensembler.predictions.records import Record
from ensembler.reporting.spec import SubmissionSpec
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import SetFormat
from ensembler.targets.target import Target

FORMAT: Literal[1] = 1
MANIFEST = "bundle.json"
Precision = Literal["float32", "bfloat16", "float16"]


class PackedTarget(Record):
    """The classes of a target in order, and how tables write sets of its labels."""

    classes: tuple[str, ...] = Field(min_length=1)
    set_format: SetFormat | None = None

    def named(self, name: str) -> Target:
        """The target as a value."""
        return Target(name, self.classes, self.set_format)


class Provenance(Record):
    """Where the weights of a member come from, before they were trained on.

    `start` is "random", "pretrained" (by timm's name, from its `source`), "file" or "hub".
    """

    backbone: str
    start: str = "random"
    source: str | None = None
    licence: str | None = None
    sha256: str | None = None


class ViewMerge(Record):
    """How one prediction is made of some of a member's views."""

    how: Merge = "mean"
    views: tuple[str, ...] = Field(min_length=1)


class PackedMember(Record):
    """A member: its checkpoints in the order of the folds, or the members that it is the mean of.

    `targets` has the classes of each target in the order of its logits, `merging` how the views
    of each are merged. `view_names` are the names of `views`, groups spelt out. `averages` says
    what of its `parts` is averaged. The checkpoints of a probe are its heads, which stand on the
    features of the network in the entry `frozen`.
    """

    name: str
    targets: dict[str, tuple[str, ...]] = Field(min_length=1)
    input: InputSpec
    folds: int = Field(ge=1)
    views: tuple[ViewSpec, ...] = ()
    view_names: tuple[str, ...] = ()
    merging: dict[str, ViewMerge] = Field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    frozen: str | None = None
    parts: tuple[str, ...] = ()
    averages: Literal["probabilities", "logits"] = "probabilities"
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    batch_size: int = Field(64, ge=1)
    deterministic: bool = False
    backbone: str = ""
    model_args: dict[str, Any] = Field(default_factory=dict)
    provenance: Provenance | None = None

    def check_parts(self, parts: Sequence[PackedMember]) -> None:
        """Raise ValueError unless it has a checkpoint for each fold, or such `parts`."""
        if bool(self.checkpoints) == bool(parts):
            raise ValueError(f"members.{self.name} has either checkpoints or parts")
        for one in parts or [self]:
            is_whole = len(one.checkpoints) == self.folds and one.targets == self.targets
            if not is_whole or not set(self.view_names) <= set(one.view_names):
                raise ValueError(f"members.{self.name} has parts that do not fit it")

    @property
    def n_logits(self) -> int:
        """How many logits its checkpoints give."""
        return sum(len(classes) for classes in self.targets.values())

    @property
    def logit_names(self) -> tuple[str, ...]:
        """Names of the logits in order: the classes, `task=class` where there are several tasks."""
        if len(self.targets) == 1:
            return next(iter(self.targets.values()))
        return tuple(
            f"{target}={name}" for target, names in self.targets.items() for name in names
        )

    @property
    def slices(self) -> dict[str, slice]:
        """Which of its logits belong to each target."""
        slices, start = {}, 0
        for target, classes in self.targets.items():
            slices[target] = slice(start, start + len(classes))
            start += len(classes)
        return slices


class PackedBlend(Record):
    """A blend: the entry of its fitted state, or the blend of each task that it is composed of.

    `idle` has the number of folds of each of its members that has no weight and is not packed.
    """

    target: str
    method: str
    members: tuple[str, ...] = ()
    state: str | None = None
    tasks: dict[str, str] = Field(default_factory=dict)
    idle: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> PackedBlend:
        if (self.state is None) == (not self.tasks):
            raise ValueError("a blend has either a state or tasks")
        return self


class PackedComposition(Record):
    """How the label is composed of tasks; `factors` say how often its parts occur together."""

    composition: Composition
    factors: tuple[float, ...] | None = None


class Reference(Record):
    """Images that were drawn, and the probabilities that each answer must give for them."""

    images: str
    probs: dict[str, str] = Field(min_length=1)


class BundleRecord(Record):
    """What `bundle.json` says; keys of later versions are kept and ignored.

    `answers` names the blends that predict, the first of them the label's; `blends` has those, and
    the blends that they are made of. `code` has every `module:name` that is used, and as what;
    `code_files` the entries that hold such modules. `sha256` has every other entry.
    """

    format: Literal[1] = FORMAT
    name: str
    made: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    precision: Precision = "float32"
    max_difference: float = 0.0
    engine: str = "default"
    answers: tuple[str, ...] = Field(min_length=1)
    targets: dict[str, PackedTarget] = Field(min_length=1)
    members: dict[str, PackedMember] = Field(min_length=1)
    blends: dict[str, PackedBlend] = Field(min_length=1)
    composition: PackedComposition | None = None
    submission: SubmissionSpec = Field(default_factory=SubmissionSpec)
    path_column: str = "path"
    id_column: str | None = None
    scores: dict[str, Any] = Field(default_factory=dict)
    reference: Reference | None = None
    code: dict[str, str] = Field(default_factory=dict)
    code_files: tuple[str, ...] = ()
    sha256: dict[str, str] = Field(default_factory=dict)

    def target_of(self, blend: str) -> Target:
        """The target of a blend."""
        name = self.blends[blend].target
        return self.targets[name].named(name)

    def _parts(self, member: PackedMember) -> tuple[str, ...]:
        _all_known(f"members.{member.name}.parts", member.parts, self.members)
        return member.parts

    @model_validator(mode="after")
    def _check_names(self) -> BundleRecord:
        _all_known("answers", self.answers, self.blends)
        for name, blend in self.blends.items():
            _all_known(f"blends.{name}.tasks", blend.tasks.values(), self.blends)
            _all_known(f"blends.{name}.target", [blend.target], self.targets)
            _all_known(f"blends.{name}.state", _given(blend.state), self.sha256)
        for name, member in self.members.items():
            if name != member.name:
                raise ValueError(f"members.{name} is called {member.name}")
            member.check_parts([self.members[part] for part in self._parts(member)])
            _all_known(f"members.{name}.checkpoints", member.checkpoints, self.sha256)
            _all_known(f"members.{name}.frozen", _given(member.frozen), self.sha256)
            _all_known(f"members.{name}.targets", member.targets, self.targets)
            for target, merging in member.merging.items():
                _all_known(f"members.{name}.merging", [target], member.targets)
                _all_known(f"members.{name}.merging", merging.views, member.view_names)
            for target, classes in member.targets.items():
                if sorted(classes) != sorted(self.targets[target].classes):
                    raise ValueError(f"members.{name} has other classes than {target}")
        return self


def _given(value: str | None) -> list[str]:
    return [] if value is None else [value]


def _all_known(place: str, names: Any, known: Any) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{place} names {name!r}, which is not there")
