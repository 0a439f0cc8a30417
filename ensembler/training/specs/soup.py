"""method: soup: a network for each fold whose weights are the average of other members'."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SoupSpec(BaseModel):
    """A network for each fold with the mean weights of others (Wortsman et al., 2022)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["soup"] = Field(
        description="soup averages the weights of other members."
    )
    of: tuple[str, ...] = Field(
        min_length=1,
        description="Members whose weights are averaged: of one backbone, best from one start.",
    )
    take: Literal["uniform", "greedy"] = Field(
        "uniform",
        description="uniform averages all; greedy adds one after the other while the log loss of "
        "the other folds' "
        "out-of-fold rows falls.",
    )
