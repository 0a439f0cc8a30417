"""A blend before it is fitted: a method, its options, and the calibration around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ensembler.blending.calibration.calibrated import Calibrated, Calibration
from ensembler.blending.registry import BlendMethod, create_blend


@dataclass(frozen=True)
class Candidate:
    """A family that `auto` compares: the method, its options, and what follows it and its members."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    after: Calibration = "none"
    before: Calibration = "none"
    metric: str = "log_loss"

    @property
    def label(self) -> str:
        """Its name in tables."""
        first = "" if self.before == "none" else f"{self.before} + "
        name = (
            f"{self.method} with probabilities"
            if self.options.get("probabilities")
            else self.method
        )
        return first + (name if self.after == "none" else f"{name} + {self.after}")

    def of_members(self, kept: Sequence[int]) -> Candidate:
        """The candidate for the members at some positions: weights by hand are those of these members."""
        if "weights" not in self.options:
            return self
        weights = [self.options["weights"][m] for m in kept]
        return replace(
            self,
            options={
                **self.options,
                "weights": weights if sum(weights) > 0 else [1.0] * len(weights),
            },
        )

    def make(self) -> BlendMethod:
        """A fresh method, not fitted yet."""
        method = create_blend(self.method, **self.options)
        if self.after == self.before == "none":
            return method
        calibrated: BlendMethod = Calibrated(method, self.after, self.before, self.metric)
        return calibrated
