"""What a recipe may say about data, folds, input and augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from ensembler.data.size import SizeGiven, sides
from ensembler.fold_columns import is_fold_column
from ensembler.targets.kinds import TargetKind, kind_written_as
from ensembler.targets.label_sets import SetFormat

Scheme = Literal[
    "stratified", "group", "stratified-group", "plain", "repeated", "single", "column"
]
BUILT_IN_SOURCES = ("digits", "fashion-mnist")
# A preset's name, or a list of transforms: names, or a name with its arguments.
AugmentSpec = str | tuple[str | dict[str, Any], ...] | dict[str, Any]


def _as_ranges(given: Any) -> Any:
    """One pair of numbers stands for a list of it."""
    is_pair = isinstance(given, (list, tuple)) and not any(
        isinstance(end, (list, tuple)) for end in given
    )
    return [given] if is_pair and given else given


_RANGE_SCHEMA = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
Ranges = Annotated[
    tuple[tuple[float, float], ...],
    BeforeValidator(_as_ranges),
    WithJsonSchema({"anyOf": [_RANGE_SCHEMA, {"type": "array", "items": _RANGE_SCHEMA}]}),
]


class TrainBins(BaseModel):
    """How labels to train on are cut from a number, where that is not as they are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...] | None = Field(
        None, min_length=1, description="Edges to train with (default: those of bins)."
    )
    drop: Ranges = Field(
        (),
        description="Rows whose number lies from the first to the second, such as [57, 59], are "
        "not trained on; or a list of such pairs.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for low, high in self.drop:
            if low > high:
                raise ValueError(
                    f"drop [{low:g}, {high:g}] should be a lower and a higher number"
                )
        return self


TrainBinsGiven = tuple[float, ...] | TrainBins


def as_train_bins(given: TrainBinsGiven) -> TrainBins:
    """Training bins, which may be given as a list of their edges."""
    return TrainBins(edges=given) if isinstance(given, tuple) else given


class TargetSpec(BaseModel):
    """Where the labels of a target come from, and how they are redrawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    column: str | None = Field(
        None,
        alias="from",
        description="The column, or field of data.pattern, it is read from (default: its name).",
    )
    bins: tuple[float, ...] | None = Field(
        None,
        min_length=1,
        description="Edges that cut a number into classes; an edge belongs to the bin above it.",
    )
    train_bins: TrainBinsGiven | None = Field(
        None,
        description="Other edges for the labels that are trained on, or {edges: [...], drop: [57, "
        "59]}, where rows with a number from 57 to 59 are not trained on; scores keep to bins.",
    )
    labels: tuple[str, ...] | None = Field(
        None, description="Names of the bins, one more than edges."
    )
    map: dict[str, str] | None = Field(
        None, min_length=1, description="New names of values; equal names are merged."
    )
    multi_label: str | None = Field(
        None,
        min_length=1,
        description="What stands between the labels of a value, such as a space: a sample then has "
        "any number of "
        "labels at once, and drop and min_count leave out labels instead of rows.",
    )
    no_label: str | None = Field(
        None,
        description="With multi_label, the value that means none of the labels; '' for an empty "
        "cell of a train row.",
    )
    others: str | None = Field(
        None,
        description="What a value that map does not list becomes: keep, or a name (default: an "
        "error).",
    )
    drop: tuple[str, ...] = Field(
        (), description="Rows with these labels are left out, such as [Not sure, Skip]."
    )
    min_count: int | None = Field(
        None, ge=1, description="Classes with fewer train rows are left out."
    )
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="The classes in their order."
    )

    @property
    def bin_labels(self) -> tuple[str, ...]:
        """Names of the bins in order.

        They are written as ranges when the recipe names none: <30, 30-60, >=60.
        """
        if self.labels is not None or self.bins is None:
            return self.labels or ()
        edges = [f"{edge:g}" for edge in self.bins]
        inner = [f"{low}-{high}" for low, high in pairwise(edges)]
        return (f"<{edges[0]}", *inner, f">={edges[-1]}")

    @model_validator(mode="after")
    def _check(self) -> TargetSpec:
        _check_edges("bins", self.bins)
        if self.train_bins is not None:
            self.check_train_bins(as_train_bins(self.train_bins))
        if self.bins is not None and self.map is not None:
            raise ValueError("bins and map both say what the labels are; keep one")
        if self.labels is not None and (
            self.bins is None or len(set(self.labels)) != len(self.bins) + 1
        ):
            raise ValueError("labels names the bins: one more name than edges, none twice")
        if self.others is not None and self.map is None:
            raise ValueError(
                "others says what becomes of values that map does not list; there is no map"
            )
        if self.multi_label is not None and (self.bins is not None or self.map is not None):
            raise ValueError(
                "multi_label reads labels as they stand; leave bins and map out"
            )
        if self.no_label is not None and self.multi_label is None:
            raise ValueError(
                "no_label is the empty set of labels; it goes with multi_label"
            )
        return self

    def check_train_bins(self, given: TrainBins) -> None:
        """Raise ValueError for training bins that are not those of this target's classes."""
        if self.bins is None:
            raise ValueError("train_bins needs bins, which say what is scored")
        _check_edges("train_bins", given.edges)
        if given.edges is not None and len(given.edges) != len(self.bins):
            raise ValueError(
                f"train_bins {list(given.edges)} should have as many edges as bins"
            )

    @property
    def set_format(self) -> SetFormat | None:
        """How its values write sets of labels; None when a sample has one label."""
        return (
            None if self.multi_label is None else SetFormat(self.multi_label, self.no_label)
        )


def _check_edges(name: str, edges: tuple[float, ...] | None) -> None:
    if edges is not None and list(edges) != sorted(set(edges)):
        raise ValueError(f"{name} {list(edges)} should rise from edge to edge")


class ComposeSpec(BaseModel):
    """A class made of several targets, such as mask x gender x age."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: tuple[str, ...] = Field(
        min_length=2, description="The targets; the last one turns fastest."
    )
    name: str = Field("label", description="What the composed class is called.")
    separator: str = Field(
        "-", description="What stands between the parts of a class's name."
    )
    numbers: bool = Field(
        False, description="Name classes 0, 1, 2, ... in the order of the combinations."
    )
    exclude: tuple[dict[str, str], ...] = Field(
        (),
        description="Combinations that cannot be, such as {mask: none, age: child}; parts left out "
        "mean any.",
    )
    unseen: Literal["keep", "exclude"] = Field(
        "keep", description="Combinations that no train row has."
    )
    min_count: int | None = Field(
        None,
        ge=1,
        description="Combinations with fewer train rows are left out, rows and classes.",
    )
    prior: Literal["none", "observed"] = Field(
        "none",
        description="observed: the tasks' product is weighed by how often their classes occur "
        "together.",
    )


Correcting = Literal["relabel", "drop", "weight"]


class CorrectionsSpec(BaseModel):
    """Labels that are corrected, from a file as `ens audit RUN --labels --out` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(
        description="The CSV: id, given, suggested; perhaps confidence, target, action."
    )
    action: Correcting = Field(
        "relabel",
        description="What is done with its rows: relabel as suggested, drop them, or weight: they "
        "count for less. A column action says otherwise of a row.",
    )
    weight: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="What the weight of such a row is multiplied by; sampler: weights, and "
        "sample_weights, read it.",
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, description="Rows of the file below that confidence are not taken."
    )


class DataSpec(BaseModel):
    """What is read, and how. A column counts only when it is named here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="An image folder, a CSV or Parquet manifest, or digits | fashion-mnist."
    )
    root: str | None = Field(
        None,
        description="The folder that image paths start from (default: the manifest's), or that "
        "holds fashion-mnist.",
    )
    path: str = Field("path", description="The column of image paths.")
    pattern: str | None = Field(
        None,
        description="Fields of the image path that count as columns, such as "
        "{person}_{gender}_{age:int}/.",
    )
    targets: str | tuple[str, ...] | dict[str, TargetSpec] = Field(
        "label",
        description="The column of labels, several, or targets by name with their bins or map.",
    )
    compose: tuple[str, ...] | ComposeSpec | None = Field(
        None,
        description="The targets that together make the class to predict, or that with options.",
    )
    unlabelled: Literal["stop", "allow"] = Field(
        "stop",
        description="What an empty label of a train row does: stop the run, or count as unknown in "
        "that task.",
    )
    weight: str | None = Field(
        None, description="The column of sample weights for sampler: weights."
    )
    features: tuple[str, ...] | dict[str, Literal["auto", "number", "category"]] = Field(
        (),
        description="Columns beside images that members with method: tabular are fitted on: "
        "numbers where every cell is one, else categories; {site: category} says so. Cells may be "
        "empty.",
    )
    id: str | None = Field(
        None,
        description="The column of sample ids (default: a column called id, else the path).",
    )
    group: str | None = Field(
        None, description="The column of groups: samples of one group stay on one side."
    )
    corrections: str | CorrectionsSpec | None = Field(
        None,
        description="A CSV of corrected labels of train rows, such as ens audit RUN --labels --out "
        "writes, or that with options.",
    )
    group_duplicates: bool = Field(
        False,
        description="Images that are the same, or as good as the same, count as one group.",
    )
    split: str | None = Field(
        None,
        description="The column that says train or test, for a manifest that holds both.",
    )
    test: str | None = Field(
        None,
        description="The test part: a folder or a manifest; its labels may be missing.",
    )
    classes: tuple[str, ...] | None = Field(
        None,
        description="The classes of the first target in their order; rows of other classes are an "
        "error.",
    )
    keep: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        description="Only these classes of the first target are kept; other rows are left out.",
    )
    limit: int | None = Field(
        None,
        ge=2,
        description="At most this many labelled train rows; classes keep their shares.",
    )
    test_limit: int | None = Field(
        None, ge=1, description="At most this many test rows, drawn at random."
    )
    on_broken: Literal["stop", "skip"] = Field(
        "stop",
        description="What an image that cannot be read does: stop the run, or be left out and "
        "named.",
    )
    allow_outside: bool = Field(
        False, description="Allow image paths that lead outside their root."
    )
    separator: str | None = Field(
        None, description="The separator of a CSV (default: found by looking)."
    )
    encoding: str = Field("utf-8-sig", description="The encoding of a CSV.")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns that tabular members are fitted on."""
        return tuple(self.features)

    @property
    def feature_kinds(self) -> dict[str, str]:
        """What the recipe says of columns: number, category, or auto."""
        return dict(self.features) if isinstance(self.features, dict) else {}

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets that are read; the first one is the label unless one is composed."""
        return (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)

    @property
    def target_specs(self) -> dict[str, TargetSpec]:
        """Every target that is read with its options."""
        given = self.targets if isinstance(self.targets, dict) else {}
        return {name: given.get(name) or TargetSpec() for name in self.target_names}

    @property
    def set_formats(self) -> dict[str, SetFormat]:
        """The multi-label targets, and how their values write sets of labels."""
        return {
            name: spec.set_format
            for name, spec in self.target_specs.items()
            if spec.set_format is not None
        }

    def kind(self, target: str) -> TargetKind:
        """Whether rows have one label of a target, or several at once."""
        return kind_written_as(self.set_formats.get(target))

    @property
    def correcting(self) -> CorrectionsSpec | None:
        """The corrections with their options; None when there are none."""
        if isinstance(self.corrections, str):
            return CorrectionsSpec(file=self.corrections)
        return self.corrections

    @property
    def weighs_rows(self) -> bool:
        """Whether train rows have weights: of a column, or by corrections."""
        correcting = self.correcting
        return self.weight is not None or (
            correcting is not None and correcting.action == "weight"
        )

    @property
    def composition(self) -> ComposeSpec | None:
        """How the class is composed of targets; None when it is not."""
        return (
            ComposeSpec(of=self.compose)
            if isinstance(self.compose, tuple)
            else self.compose
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of everything that a member can predict, the label first."""
        composed = self.composition
        return (
            self.target_names if composed is None else (composed.name, *self.target_names)
        )

    @field_validator("targets", mode="before")
    @classmethod
    def _bare_names(cls, targets: Any) -> Any:
        if isinstance(targets, dict):
            return {name: {} if spec is None else spec for name, spec in targets.items()}
        return targets

    @model_validator(mode="after")
    def _check(self) -> DataSpec:
        names = self.label_names
        if not self.target_names or len(set(names)) != len(names):
            raise ValueError(
                f"targets {list(names)} should name at least one column, none twice"
            )
        if self.pattern is not None and "{" not in self.pattern:
            raise ValueError(
                f"pattern {self.pattern!r} should hold fields, such as {{person}}_{{age:int}}/"
            )
        self._check_features()
        composed = self.composition
        for name in (
            (*composed.of, *chain.from_iterable(composed.exclude)) if composed else ()
        ):
            if name not in self.target_names:
                raise ValueError(
                    f"compose names {name!r}, which is no target ({', '.join(self.target_names)})"
                )
            if name in self.set_formats:
                raise ValueError(
                    f"compose names {name!r}, which has several labels at once; it takes one of "
                    "each target"
                )
        if self.keep is not None and self.target_names[0] in self.set_formats:
            raise ValueError(
                "keep chooses rows by their one label; of a multi-label target drop leaves labels "
                "out"
            )
        for name in names:
            is_fixed = name in ("id", "split", "source", "group") or is_fold_column(name)
            if is_fixed or name.startswith(("train:", "value:")):
                raise ValueError(
                    f"targets: the name {name!r} is taken by a column of samples.csv; rename the "
                    "column"
                )
        return self

    def _check_features(self) -> None:
        """Raise ValueError for columns that are named twice, or would give the label away."""
        names = self.feature_names
        if len(set(names)) != len(names):
            raise ValueError(f"features {list(names)} names one twice")
        labels = {spec.column or name for name, spec in self.target_specs.items()}
        known = sorted(labels & set(names))
        if known:
            raise ValueError(
                f"features names {known[0]!r}, the column of a target: members would be told what "
                "they are to predict"
            )


class FoldSpec(BaseModel):
    """How the labelled rows are split into folds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(5, ge=2, le=1000, description="How many folds.")
    scheme: Scheme | None = Field(
        None,
        description="stratified (default), group, stratified-group (default with a group), plain, "
        "repeated, "
        "single (one split) or column.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The share of labelled rows set aside as labelled test rows: nothing is fitted "
        "on them.",
    )
    repeats: int = Field(3, ge=2, le=100, description="How often scheme: repeated splits.")
    share: float = Field(
        0.2, gt=0, lt=1, description="The validation share of scheme: single."
    )
    column: str | None = Field(
        None, description="The column of fold numbers for scheme: column, or in file."
    )
    file: str | None = Field(
        None,
        description="A CSV of id, fold and perhaps split, as `ens folds` writes it or a run's "
        "samples.csv is: the split of a team. `folds: folds.csv` is short for it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_file(cls, given: Any) -> Any:
        return {"file": given} if isinstance(given, str) else given

    @property
    def are_given(self) -> bool:
        """Whether the folds are read and not drawn."""
        return self.file is not None or self.scheme == "column"

    @property
    def manifest_column(self) -> str | None:
        """The column of the manifest that folds are read from."""
        return None if self.file is not None else self.column

    @model_validator(mode="after")
    def _check_file(self) -> FoldSpec:
        drawn = {"count", "scheme", "seed", "holdout", "repeats", "share"}
        said = sorted(drawn & self.model_fields_set)
        differing = [
            key
            for key in said
            if getattr(self, key) != type(self).model_fields[key].default
        ]
        if self.file is not None and differing:
            raise ValueError(
                f"file says all of the split, and {differing[0]} how one is drawn; keep one"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> FoldSpec:
        if self.file is not None:
            return self
        if self.scheme == "column" and self.column is None:
            raise ValueError("scheme: column needs column: NAME")
        if self.scheme != "column" and self.column is not None:
            raise ValueError("column is used only with scheme: column")
        return self


def names_of_steps(steps: Sequence[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of steps that prepare images, without their arguments."""
    return tuple(step if isinstance(step, str) else next(iter(step), "") for step in steps)


class InputSpec(BaseModel):
    """What the networks see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: SizeGiven = Field(
        64,
        description="Height and width in pixels: one number for both, or [height, width].",
    )
    channels: Literal[1, 3] = Field(3, description="3 for colour, 1 for grey.")
    resize: Literal["stretch", "fit", "pad", "crop"] = Field(
        "stretch",
        description="stretch to that size, fit inside it with a black border, pad it with its own "
        "edges, or crop its "
        "centre.",
    )
    decode: Literal["full", "reduced"] = Field(
        "full",
        description="reduced decodes a JPEG to 1/2, 1/4 or 1/8 of its sides, none below twice the "
        "size: several times "
        "faster on large photographs, with pixels that differ a little.",
    )
    bits: int | None = Field(
        None,
        ge=9,
        le=16,
        description="How many bits the levels of 16-bit files use, such as 12 for 0 to 4095 "
        "(default: what the file "
        "says, else 16).",
    )
    prepare: tuple[str | dict[str, Any], ...] = Field(
        (),
        description="Steps before that, in order: center_crop, crop, clahe, grey, grabcut, rembg, "
        "with an argument as "
        "{center_crop: 0.8}, or module:function. rembg needs its extra, and weights in U2NET_HOME "
        "or ~/.rembg.",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of an image."""
        return (*sides(self.size), self.channels)

    @property
    def step_names(self) -> tuple[str, ...]:
        """The names of the steps in `prepare`, without their arguments."""
        return names_of_steps(self.prepare)

    @property
    def described(self) -> dict[str, Any]:
        """The options as plain values, as fingerprints hold them.

        Options added in later versions are included only where they are used.
        """
        later = {"decode": "full", "bits": None}
        return self.model_dump(
            mode="json",
            exclude={name for name in later if getattr(self, name) == later[name]},
        )

    def with_own(self, own: OwnInputSpec | None) -> InputSpec:
        """The input with what is a member's own."""
        if own is None:
            return self
        return InputSpec.model_validate({**self.model_dump(), **own.said})


class OwnInputSpec(InputSpec):
    """What of the input is a member's own; the rest is as the recipe says."""

    @property
    def said(self) -> dict[str, Any]:
        """The options that are given, as plain values; null leaves one to the recipe."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in values.items() if value is not None}

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        return {name: value for name, value in written.items() if name in self.said}

    @classmethod
    def of_record(cls, described: Mapping[str, Any]) -> OwnInputSpec:
        """The whole input of a member, from what its record says of it.

        Words among its values say how this version prepares some images otherwise than earlier ones
        did; they are no options.
        """
        known = {
            name: value
            for name, value in described.items()
            if name in cls.model_fields and (name != "bits" or not isinstance(value, str))
        }
        return cls.model_validate(InputSpec.model_validate(known).model_dump())
