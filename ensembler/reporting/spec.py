"""What a recipe may say about the submission file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SubmissionFormat = Literal["labels", "probs"]


class SubmissionSpec(BaseModel):
    """The file that is submitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: SubmissionFormat = Field(
        "labels",
        description="labels: the best class, or all labels of a multi-label target (with a "
        "template that has a column "
        "for each, 0 and 1); probs: a column for each class.",
    )
    columns: tuple[str, ...] = Field(
        ("id", "label"),
        min_length=1,
        description="Column names: the id's, then the label's; with probs the id's, then perhaps "
        "one for each class.",
    )
    per: Literal["row", "group"] = Field(
        "row",
        description="group: the images of one group are answered together, with a row for each "
        "group.",
    )
    reduce: Literal["mean", "vote", "max"] = Field(
        "mean",
        description="What the rows of a group become: their mean, their votes, or the most "
        "confident one.",
    )
    each: bool = Field(
        False,
        description="With per: group, a row for each image, which has its group's answer.",
    )
    template: str | None = Field(
        None,
        description="A sample submission (CSV): its ids, their order and its columns are matched "
        "or it is an error.",
    )

    @model_validator(mode="after")
    def _check_columns(self) -> SubmissionSpec:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns {list(self.columns)} name one column twice")
        if self.format == "labels" and len(self.columns) != 2:
            raise ValueError(
                f"labels need two columns (id and label), given {list(self.columns)}"
            )
        if self.per == "row" and (self.each or self.reduce != "mean"):
            raise ValueError("reduce and each are used only with per: group")
        return self
