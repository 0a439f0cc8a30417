"""A blend followed by a temperature."""

from __future__ import annotations

from typing import Any, Self

from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import BlendMethod
from ensembler.blending.temperature import apply_temperature, fit_temperature


class Tempered:
    """A method whose probabilities are divided, as logarithms, by a temperature fitted on the same rows."""

    def __init__(self, method: BlendMethod) -> None:
        self.method = method

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Fit the method, then the temperature; log loss on the fitted rows never gets worse."""
        self.method.fit(stack, y)
        self.temperature_ = fit_temperature(self.method.predict_proba(stack), y)
        return self

    @property
    def weights_(self) -> Any:
        """The method's weights."""
        return self.method.weights_

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return apply_temperature(self.method.predict_proba(stack), self.temperature_)
