"""refit: networks on all rows, after the folds have been scored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RefitSpec(BaseModel):
    """Networks on all rows that predict the test rows of a member."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(1, ge=1, le=100, description="How many networks.")
    predict: Literal["folds", "refit", "both"] = Field(
        "refit",
        description="What predicts test rows in blends: the folds' networks (the refit is a member "
        "beside), those of the refit, or both.",
    )
