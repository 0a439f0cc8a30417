"""An ensemble for each fold, trained by torchensemble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from ensembler.errors import nearest
from ensembler.training.specs.base import TrainingSpec, raise_first

EnsembleMethod = Literal[
    "fusion",
    "voting",
    "bagging",
    "gradient_boosting",
    "soft_gradient_boosting",
    "snapshot",
    "adversarial_training",
    "fast_geometric",
]
# Their networks are terms of a sum: alone they mean nothing.
BOOSTING = ("gradient_boosting", "soft_gradient_boosting")


class EnsembleSpec(TrainingSpec):
    """An ensemble for each fold, trained by torchensemble; each of its networks is kept."""

    method: EnsembleMethod = Field(description="How torchensemble trains it.")
    estimators: int = Field(5, ge=2, le=100, description="Networks in the ensemble.")
    as_: Literal["ensemble", "estimators"] = Field(
        "ensemble",
        alias="as",
        description="ensemble is one member; estimators are members of their own: NAME-e1, "
        "NAME-e2, ...",
    )
    shrinkage_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="gradient_boosting, soft_gradient_boosting: how much of each network is added.",
    )
    use_reduction_sum: bool = Field(
        True,
        description="gradient_boosting, soft_gradient_boosting: sum squared errors instead of "
        "averaging them.",
    )
    epsilon: float = Field(
        0.01,
        gt=0,
        le=1,
        description="adversarial_training: the step of an adversarial image, pixels being 0 to 1.",
    )
    cycle: int = Field(
        4,
        ge=2,
        description="fast_geometric: epochs between two networks after the first `epochs`.",
    )
    lr_1: float | None = Field(
        None,
        gt=0,
        description="fast_geometric: learning rate at the ends of a cycle (default: lr).",
    )
    lr_2: float | None = Field(
        None,
        gt=0,
        description="fast_geometric: learning rate in its middle, where networks are kept "
        "(default: a hundredth of "
        "lr_1).",
    )
    lr_clip: tuple[float, float] | None = Field(
        None, description="snapshot: lowest and highest learning rate."
    )

    _OWN: ClassVar[dict[str, tuple[str, ...]]] = {
        "shrinkage_rate": BOOSTING,
        "use_reduction_sum": BOOSTING,
        "epsilon": ("adversarial_training",),
        "cycle": ("fast_geometric",),
        "lr_1": ("fast_geometric",),
        "lr_2": ("fast_geometric",),
        "lr_clip": ("snapshot",),
    }

    # What earlier versions took, and wrote into every run's recipe whatever the method:
    # torchensemble's own, for SGD.
    _FORMER: ClassVar[dict[str, float]] = {"lr_1": 5e-2, "lr_2": 1e-4}

    @property
    def cycle_rates(self) -> tuple[float, float]:
        """Of fast_geometric: the learning rates at the ends and in the middle of a cycle."""
        highest = self.lr if self.lr_1 is None else self.lr_1
        return highest, highest / 100 if self.lr_2 is None else self.lr_2

    @property
    def decisive_options(self) -> dict[str, Any]:
        """The options that decide what the trained networks are, as plain values."""
        # Without a meaning for other methods; earlier versions have them in their fingerprints.
        rates = self._FORMER
        if self.method == "fast_geometric":
            rates = dict(zip(("lr_1", "lr_2"), self.cycle_rates, strict=True))
        return super().decisive_options | rates

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        known = ("kfold", *get_args(EnsembleMethod), "soup", "probe", "tabular")
        if given not in known:
            raise ValueError(
                f"unknown method {given!r}; {nearest(str(given), known, most=10)}"
            )
        return given

    @property
    def is_sum(self) -> bool:
        """Whether its networks are terms of a sum, so that only the whole predicts."""
        return self.method in BOOSTING

    @property
    def cycle_epochs(self) -> int | None:
        """Epochs of each cycle at whose end a network is kept.

        None for methods without such cycles.
        """
        return self.epochs // self.estimators if self.method == "snapshot" else None

    @property
    def passes(self) -> int:
        """How often all train rows are gone through, by all networks together."""
        if self.method in (
            "voting",
            "bagging",
            "adversarial_training",
            "gradient_boosting",
        ):
            return self.epochs * self.estimators
        if self.method == "fast_geometric":
            return self.epochs + self.cycle * (self.estimators - 1) + self.cycle // 2
        return self.epochs

    @model_validator(mode="after")
    def _check_method(self) -> EnsembleSpec:
        raise_first(self._problems_of_method())
        return self

    def _problems_of_method(self) -> Iterator[str]:
        """What is wrong with the options of torchensemble's methods, the first of it first."""
        for option, methods in self._OWN.items():
            unsaid = getattr(self, option) == self._FORMER.get(option)
            if self.says(option) and self.method not in methods and not unsaid:
                yield f"{option} is an option of {' and '.join(methods)}, not of {self.method}"
        if len(self.targets) > 1:
            yield (
                "torchensemble trains for one target; a member for each, or method: kfold, takes "
                "several"
            )
        if self.is_sum:
            yield from self._problems_of_sum()
        if self.method == "snapshot" and self.epochs % self.estimators:
            yield f"epochs {self.epochs} should be a multiple of estimators {self.estimators}"
        yield from self._problems_of_rates()
        if self.amp == "fp16":
            yield (
                "amp: fp16 needs a scaler, which torchensemble does not have; take auto, bf16 or "
                "off"
            )
        if self.method == "snapshot" and (self.says("sched") or self.says("min_lr")):
            yield (
                "snapshot has a schedule of its own; leave sched and min_lr out (lr_clip bounds "
                "the rate)"
            )

    def _problems_of_sum(self) -> Iterator[str]:
        for option in ("loss", "class_weights", "smoothing"):
            if self.says(option):
                yield (
                    f"{option} has no meaning with {self.method}, which fits residuals by least "
                    "squares"
                )
        if self.as_ == "estimators":
            yield (
                f"the networks of {self.method} are terms of a sum; as: estimators has no meaning"
            )

    def _problems_of_rates(self) -> Iterator[str]:
        highest, lowest = self.cycle_rates
        if self.method == "fast_geometric" and lowest >= highest:
            yield (
                f"lr_2 {lowest:g}, in the middle of a cycle, should be below lr_1 {highest:g}, at "
                "its ends"
            )
        if self.lr_clip is not None and not 0 <= self.lr_clip[0] < self.lr_clip[1]:
            yield f"lr_clip {list(self.lr_clip)} should be a lower and a higher learning rate"
        if self.sched not in ("cosine", "none"):
            yield f"sched: {self.sched!r}; torchensemble's methods take cosine or none"
