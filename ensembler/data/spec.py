"""What a recipe may say about data, folds, input and augmentation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scheme = Literal["stratified", "group", "stratified-group", "plain", "repeated", "single", "column"]
BUILT_IN_SOURCES = ("digits", "fashion-mnist")
# A preset's name, or a list of transforms: names, or a name with its arguments.
AugmentSpec = str | tuple[str | dict[str, Any], ...] | dict[str, Any]


class DataSpec(BaseModel):
    """What is read, and how. A column counts only when it is named here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="An image folder, a CSV or Parquet manifest, or digits | fashion-mnist.")
    root: str | None = Field(
        None,
        description="The folder that image paths start from (default: the manifest's), or that holds fashion-mnist.",
    )
    path: str = Field("path", description="The column of image paths.")
    targets: str | tuple[str, ...] = Field("label", description="The column of labels, or several.")
    id: str | None = Field(None, description="The column of sample ids (default: a column called id, else the path).")
    group: str | None = Field(None, description="The column of groups: samples of one group stay on one side.")
    split: str | None = Field(None, description="The column that says train or test, for a manifest that holds both.")
    test: str | None = Field(None, description="The test part: a folder or a manifest; its labels may be missing.")
    classes: tuple[str, ...] | None = Field(
        None, description="The classes of the first target in their order; rows of other classes are an error."
    )
    keep: tuple[str, ...] | None = Field(
        None, min_length=2, description="Only these classes of the first target are kept; other rows are left out."
    )
    limit: int | None = Field(None, ge=2, description="At most so many labelled train rows, drawn in equal shares.")
    test_limit: int | None = Field(None, ge=1, description="At most so many test rows, drawn at random.")
    on_broken: Literal["stop", "skip"] = Field(
        "stop", description="What an image that cannot be read does: stop the run, or be left out and named."
    )
    allow_outside: bool = Field(False, description="Allow image paths that lead outside their root.")
    separator: str | None = Field(None, description="The separator of a CSV (default: found by looking).")
    encoding: str = Field("utf-8-sig", description="The encoding of a CSV.")

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets; the first one is the label."""
        return (self.targets,) if isinstance(self.targets, str) else self.targets

    @model_validator(mode="after")
    def _check(self) -> DataSpec:
        names = self.target_names
        if not names or len(set(names)) != len(names):
            raise ValueError(f"targets {list(names)} should name at least one column, none twice")
        for name in names:
            if name in ("id", "split", "source", "fold", "group") or name.startswith("fold_r"):
                raise ValueError(f"targets: the name {name!r} is taken by a column of samples.csv; rename the column")
        return self


class FoldSpec(BaseModel):
    """How the labelled rows are split into folds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(5, ge=2, le=1000, description="How many folds.")
    scheme: Scheme | None = Field(
        None,
        description="stratified (default), group, stratified-group (default with a group), plain, repeated, "
        "single (one split) or column.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The share of labelled rows set aside as labelled test rows: nothing is fitted on them.",
    )
    repeats: int = Field(3, ge=2, le=100, description="How often scheme: repeated splits.")
    share: float = Field(0.2, gt=0, lt=1, description="The validation share of scheme: single.")
    column: str | None = Field(None, description="The column of fold numbers for scheme: column.")

    @model_validator(mode="after")
    def _check(self) -> FoldSpec:
        if self.scheme == "column" and self.column is None:
            raise ValueError("scheme: column needs column: NAME")
        if self.scheme != "column" and self.column is not None:
            raise ValueError("column is used only with scheme: column")
        return self


class InputSpec(BaseModel):
    """What the networks see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(64, ge=8, le=2048, description="Height and width in pixels.")
    channels: Literal[1, 3] = Field(3, description="3 for colour, 1 for grey.")
    resize: Literal["stretch", "fit", "crop"] = Field(
        "stretch", description="stretch to the square, fit inside it with a border, or crop its centre."
    )
