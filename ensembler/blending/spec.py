"""What a recipe may say about its blend."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ensembler.metrics.registry import decision_metrics, may_move_decisions
from ensembler.metrics.renamed import refuse_renamed
from ensembler.own_code import is_own, own_values
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL


class BlendSpec(BaseModel):
    """How members become one prediction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field("auto", description="auto, or a blend method by name.")
    metric: str = Field("log_loss", description="What the blend is chosen by.")
    members: tuple[str, ...] | None = Field(
        None, min_length=1, description="Only these members (default: all)."
    )
    weights: dict[str, float] | tuple[float, ...] | None = Field(
        None,
        description="Weights by hand for method: weights, by member or in their order.",
    )
    name: str | None = Field(
        None, description="What the blend is called (default: the method)."
    )
    merge: Literal["mean", "logits", "geometric", "max"] = Field(
        "mean", description="How a member's views are merged."
    )
    views: tuple[str, ...] | None = Field(
        None, min_length=1, description="Only these views (default: all there are)."
    )
    calibrate: Literal["none", "temperature", "vector", "biases"] = Field(
        "none",
        description="What follows the blend: a temperature, a scale and a bias for each class, or "
        "biases that move the "
        "decisions towards the metric (f1_macro, balanced_accuracy, accuracy, quadratic_kappa, "
        "unweighted_kappa). Of a "
        "multi-label target a "
        "scale and biases that all labels share, or a threshold for each label.",
    )
    calibrate_members: Literal["none", "temperature", "vector"] = Field(
        "none", description="The same for each member before it is blended."
    )
    prune: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Leave out members nearer than this to a better one (mean total variation).",
    )
    max_cost: float | None = Field(
        None,
        gt=0,
        description="Seconds a sample may take: only members that fit this together are blended.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the method, such as rounds: 50."
    )
    seed: int = Field(
        0, ge=0, description="Seed of the cross-fitting parts and of the bootstrap."
    )

    @property
    def blend_name(self) -> str:
        """What the blend is called.

        One by code of the user's own, `module:name`, after its name.
        """
        return self.name or self.method.rpartition(":")[2]

    @model_validator(mode="after")
    def _check(self) -> BlendSpec:
        if self.weights is not None and self.method not in ("weights", "auto"):
            raise ValueError(f"weights are for method: weights, not for {self.method!r}")
        if self.weights is None and self.method == "weights":
            raise ValueError(
                "method: weights needs weights: {a: 2, b: 1} in a recipe, --weights a=2,b=1 on the "
                "command line"
            )
        values = (
            self.weights.values()
            if isinstance(self.weights, dict)
            else self.weights or (1.0,)
        )
        if any(not math.isfinite(v) or v < 0 for v in values) or sum(values) in (
            0,
            math.inf,
        ):
            raise ValueError(
                f"weights {self.weights} should be finite, not negative and not all zero"
            )
        if self.calibrate == "biases":
            _check_looks_at_decisions(self.metric)
        if self.members is not None and len(set(self.members)) != len(self.members):
            raise ValueError(f"members {list(self.members)} name one twice")
        return self

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own that the blend names, with what it is used for."""
        named = {self.method: "method"} if is_own(self.method) else {}
        named |= dict.fromkeys(own_values(self.options), "estimator")
        for name in (self.options.get("metric"), self.metric):
            if is_own(name):
                named[str(name)] = "metric"
        return named

    @model_validator(mode="before")
    @classmethod
    def _weights_mean_method(cls, content: Any) -> Any:
        if (
            isinstance(content, dict)
            and content.get("weights") is not None
            and content.get("method", "auto") == "auto"
        ):
            return {**content, "method": "weights"}
        return content


def _check_looks_at_decisions(metric: str) -> None:
    """Raise ValueError for a metric that biases or thresholds change nothing of."""
    refuse_renamed(metric)
    if is_own(metric):
        return  # what it looks at is known when it is loaded
    decisions = [*decision_metrics(SINGLE_LABEL), *decision_metrics(MULTI_LABEL)]
    if not may_move_decisions(metric):
        raise ValueError(
            "calibrate: biases needs a metric of decisions; metric should be one of "
            f"{', '.join(dict.fromkeys(decisions))}"
        )
