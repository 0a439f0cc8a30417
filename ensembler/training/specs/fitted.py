"""What every member may say that is fitted on tables of numbers, and trains no network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ensembler.estimators.registry import check_head
from ensembler.own_code import is_own
from ensembler.training.specs.base import (
    LATER,
    TRAIN_BINS,
    OwnTrainBins,
    TrainingSpec,
    raise_first,
)


class FittedSpec(BaseModel):
    """What every member may say that is fitted by scikit-learn, fold by fold."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True
    )

    target: str | tuple[str, ...] | None = Field(
        None,
        description="The target it predicts (default: the label), or several, each with a head of "
        "its own.",
    )
    head: str = Field(
        "logistic",
        description="What is fitted: logistic, lda, ridge, mlp, knn, lightgbm (extra lightgbm), or "
        "module:Class of a classifier of scikit-learn's kind, such as sklearn.svm:SVC with "
        "head_args: {probability: true}.",
    )
    head_args: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of the head, such as {C: 0.1}; what is not given is chosen by "
        "cross-validation inside each fold's train rows, whole groups left out.",
    )
    class_weights: Literal["none", "balanced", "effective"] | dict[str, float] = Field(
        "none",
        description="Weights of classes: by frequency, by effective number, or by name.",
    )
    sample_weights: bool = Field(
        False, description="Whether train rows count by data.weight."
    )
    priority: int = Field(
        0,
        description="Members with a higher priority are made first; of equal ones the cheapest is "
        "first, fold by fold.",
    )
    train_bins: OwnTrainBins | None = Field(None, description=TRAIN_BINS)
    seed: int | None = Field(
        None, ge=0, description="Seed of this member (default: the recipe's)."
    )
    seeds: int = Field(
        1,
        ge=1,
        le=100,
        description="Fits of every fold with different seeds: members NAME-s1, NAME-s2, ...",
    )

    # the variant of its only network that a member of our own loop has: here it is its heads
    variant: ClassVar[str] = "head"

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it names; empty for the label."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def sees_images(self) -> bool:
        """Whether a network looks at the images."""
        return False

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own that is fitted, and what it is used as."""
        return {self.head: "head"} if is_own(self.head) else {}

    @property
    def base(self) -> TrainingSpec:
        """What its network is like, where it has one; without one the backbone is ''."""
        return TrainingSpec(
            backbone="",
            target=self.target,
            train_bins=self.train_bins,
            class_weights=self.class_weights,
            priority=self.priority,
            seed=self.seed,
            seeds=self.seeds,
        )

    @property
    def decisive_options(self) -> dict[str, Any]:
        """The options that decide what is fitted, as plain values."""
        return self.model_dump(mode="json", exclude={"seeds", "priority", *LATER})

    @model_validator(mode="after")
    def _check_fitted(self) -> FittedSpec:
        check_head(self.head)
        raise_first(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        """What is wrong with the options, the first of it first."""
        if len(set(self.targets)) != len(self.targets):
            yield f"target {list(self.targets)} names one twice"
        if not isinstance(self.class_weights, dict):
            return
        if len(self.targets) > 1:
            yield "class_weights by name are for one target; use balanced or effective for several"
        given = self.class_weights.values()
        are_weights = all(math.isfinite(weight) and weight >= 0 for weight in given)
        if given and not (are_weights and any(given)):
            weights = self.class_weights
            yield f"class_weights {weights} should be finite, not negative and not all zero"
