"""What a recipe may say about a member: its networks and how they are trained, in timm's words.

A member's `method` says how it comes about: K-fold networks of our own loop (`kfold`, the default),
an ensemble that torchensemble trains in every fold, or a soup of other members' weights.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from ensembler.data.spec import AugmentSpec
from ensembler.errors import nearest
from ensembler.metrics import check_metric_name
from ensembler.metrics.renamed import first_name
from ensembler.networks.spec import NetworkSpec
from ensembler.own_code import is_own

Sampler = Literal["none", "balanced", "up", "down", "sqrt", "effective", "weights"]
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
BOOSTING = (
    "gradient_boosting",
    "soft_gradient_boosting",
)  # their networks are terms of a sum: alone they mean nothing
# Options that count only where another one has a certain value.
OPTIONS_NEED = {
    "tau": ("loss", "balanced_softmax"),
    "focal_gamma": ("loss", "focal"),
    "decay_epochs": ("sched", "step"),
    "decay_rate": ("sched", "step"),
    "cycles": ("snapshots", "cyclic"),
}
EMA_DECAY = 0.999  # of also: [ema] when ema says no other
AVERAGE = re.compile(r"^last_(?P<epochs>\d+)$")


class TrainingSpec(NetworkSpec):
    """What every trained member may say."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True
    )

    target: str | tuple[str, ...] | None = Field(
        None,
        description="The target it predicts (default: the label), or several, with a head for "
        "each.",
    )
    size: int | None = Field(None, ge=8, le=2048, description="Input size of this member alone.")
    augment: AugmentSpec | None = Field(None, description="Augmentation of this member alone.")
    epochs: int = Field(10, ge=1, description="How often every train row is seen.")
    batch_size: int = Field(64, ge=1, description="Images in one step.")
    opt: str = Field("adamw", description="Optimizer, by timm's name.")
    lr: float = Field(1e-3, gt=0, description="Learning rate at its peak.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay; none on biases and norms.")
    momentum: float | None = Field(
        None, ge=0, lt=1, description="Momentum, for optimizers that have one."
    )
    sched: str = Field(
        "cosine",
        description="Learning-rate schedule: cosine, tanh, poly (a straight line), step or none.",
    )
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the end of the schedule.")
    loss: Literal["cross_entropy", "bce", "focal", "balanced_softmax", "soft_f1", "asymmetric"] = (
        Field(
            "cross_entropy",
            description="Loss; bce is one-against-rest, balanced_softmax adjusts logits by how "
            "frequent classes are. Of a "
            "multi-label target cross_entropy and bce are the same, and asymmetric (Ridnik et al., "
            "2021) is for it alone.",
        )
    )
    class_weights: Literal["none", "balanced", "effective"] | dict[str, float] = Field(
        "none",
        description="Weights of classes in the loss: by frequency, by effective number, or by "
        "name.",
    )
    focal_gamma: float = Field(
        2.0, ge=0, description="How little rows that are right count in loss: focal."
    )
    tau: float = Field(
        1.0, ge=0, description="How far loss: balanced_softmax takes the frequency out."
    )
    smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing.")
    amp: Literal["auto", "off", "bf16", "fp16"] = Field("auto", description="Mixed precision.")
    seed: int | None = Field(None, ge=0, description="Seed of this member (default: the recipe's).")
    seeds: int = Field(
        1,
        ge=1,
        le=100,
        description="Trainings of every fold with different seeds: members NAME-s1, NAME-s2, ...",
    )

    def _says(self, option: str) -> bool:
        field = type(self).model_fields.get(option)
        return field is not None and bool(getattr(self, option) != field.default)

    @model_validator(mode="after")
    def _check_training(self) -> TrainingSpec:
        for option, (other, wanted) in OPTIONS_NEED.items():
            if self._says(option) and getattr(self, other) != wanted:
                raise ValueError(
                    f"{option} counts only with {other}: {wanted}; here it is "
                    f"{getattr(self, other)}"
                )
        if self.pretrained and self.checkpoint is not None:
            raise ValueError(
                "pretrained: true and checkpoint both say where the weights come from; keep one"
            )
        for option, unset, losses in (
            ("smoothing", self.smoothing == 0, ("focal", "soft_f1")),
            ("class_weights", self.class_weights == "none", ("soft_f1",)),
        ):
            if not unset and self.loss in losses:
                raise ValueError(f"{option} has no meaning with loss: {self.loss}; leave one out")
        if isinstance(self.class_weights, dict) and len(self.targets) > 1:
            raise ValueError(
                "class_weights by name are for one target; use balanced or effective for several"
            )
        given = self.class_weights.values() if isinstance(self.class_weights, dict) else ()
        if given and (
            any(not (math.isfinite(weight) and weight >= 0) for weight in given) or not any(given)
        ):
            raise ValueError(
                f"class_weights {self.class_weights} should be finite, not negative and not all "
                "zero"
            )
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"target {list(self.targets)} names one twice")
        return self

    @property
    def decisive_options(self) -> dict[str, Any]:
        """The options that decide what the trained networks are, as plain values."""
        return self.model_dump(mode="json", exclude={"augment", "seeds", "as_", "also", "compile"})

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own that the training uses, and what it is used as.

        The backbone's is beside it: see `networks.sources`.
        """
        return {}

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it names; empty for the label."""
        return (
            ()
            if self.target is None
            else (self.target,)
            if isinstance(self.target, str)
            else self.target
        )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels with them."""
        return False


class MemberSpec(TrainingSpec):
    """A network for each fold, trained by our own loop."""

    method: Literal["kfold"] = Field(
        "kfold", description="How it is trained; see below for the others."
    )
    loss_weights: dict[str, float] | None = Field(
        None, description="Of several targets, how much the loss of each counts (default: 1)."
    )
    accumulate: int = Field(
        1, ge=1, description="Steps whose gradients are summed before the optimizer moves."
    )
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="Each layer's lr is this times the next one's."
    )
    decay_epochs: int | None = Field(
        None, ge=1, description="sched: step: epochs between two falls (default: a third)."
    )
    decay_rate: float = Field(0.1, gt=0, lt=1, description="sched: step: the factor of a fall.")
    warmup_epochs: int = Field(0, ge=0, description="Epochs in which the learning rate rises.")
    clip_grad: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    freeze_epochs: int = Field(0, ge=0, description="Epochs in which only the head learns.")
    sampler: Sampler = Field(
        "none",
        description="Rows of an epoch: balanced draws classes equally often, sqrt and effective "
        "less so; up repeats, "
        "down leaves out; weights uses data.weight.",
    )
    sampler_target: str | None = Field(
        None,
        description="The target whose classes are balanced (default: its own; the label when it "
        "has several).",
    )
    mixup: float = Field(0.0, ge=0, description="Mixup alpha; 0 = none.")
    cutmix: float = Field(0.0, ge=0, description="CutMix alpha; 0 = none.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of averaged weights (EMA), which then predict."
    )
    also: tuple[str, ...] = Field(
        (),
        description="Further members of the same training: ema (NAME-ema, the plain weights then "
        "being NAME), swa (the "
        "average of the last quarter of the epochs), last_3 (of the last three).",
    )
    swa_lr: float | None = Field(
        None,
        gt=0,
        description="Constant learning rate of the last quarter, for also: [swa] (Izmailov et al., "
        "2018).",
    )
    snapshots: Literal["none", "cyclic"] = Field(
        "none",
        description="cyclic restarts the schedule, and the end of every cycle is a member: "
        "NAME-c1, NAME-c2, ... "
        "(Huang et al., 2017).",
    )
    cycles: int = Field(
        3, ge=2, description="How many cycles the epochs are divided into, with snapshots: cyclic."
    )
    as_: Literal["estimators", "ensemble"] = Field(
        "estimators",
        alias="as",
        description="Whether seeds and snapshots go into the pool one by one, or as one member "
        "that averages them.",
    )
    choose: Literal["last", "best"] = Field(
        "last",
        description="The epoch that predicts: the last, or the best on the validation fold, which "
        "flatters the "
        "member's scores: they are of the same rows.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping: end after so many epochs without a better one on the "
        "validation fold. The best "
        "epoch predicts, as with choose: best.",
    )
    choose_by: str = Field(
        "log_loss",
        description="The metric by which choose: best and patience judge an epoch: any that "
        "blend.metric takes; of "
        "several targets its mean (of log_loss the sum).",
    )
    val_interval: int | None = Field(
        None,
        ge=1,
        description="Validate every so many epochs, and after the last (default: every epoch with "
        "choose: best or "
        "patience, otherwise the last alone). Only validated epochs can be the best.",
    )
    compile: Literal["off", "on", "auto"] = Field(
        "off",
        description="torch.compile; auto measures at the start whether it pays before the training "
        "ends.",
    )
    deterministic: bool = Field(
        False, description="Only deterministic algorithms, where the device has slower ones."
    )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels with them."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own that the training uses, and what it is used as."""
        named = super().code
        if self.chooses and is_own(self.choose_by):
            named[self.choose_by] = "metric"
        return named

    @property
    def chooses(self) -> bool:
        """Whether the epoch that predicts is chosen on the validation fold."""
        return self.choose == "best" or self.patience is not None

    def validates_after(self, epoch: int) -> bool:
        """Whether the validation fold is looked at after an epoch."""
        interval = self.val_interval or (1 if self.chooses else self.epochs)
        return epoch % interval == 0 or epoch == self.epochs

    @property
    def decisive_options(self) -> dict[str, Any]:
        """The options that decide what the trained network is, as plain values.

        Left out is what only says which members there are, how fast they are made, or how often
        they are looked at.
        """
        options = super().decisive_options
        if self.chooses:
            options["choose"] = "best"
        if not self.chooses or self.choose_by == "log_loss":
            del options["choose_by"]
        else:
            options["choose_by"] = first_name(self.choose_by)
        if not self.chooses or self.val_interval in (None, 1):
            del options["val_interval"]
        return options

    @property
    def primary(self) -> str:
        """Which of the training's weights predict as the member itself."""
        return "ema" if self.ema is not None and "ema" not in self.also else "last"

    @property
    def cycle_ends(self) -> dict[str, int]:
        """The epoch after which each snapshot is taken: c1, c2, ..."""
        if self.snapshots == "none":
            return {}
        return {f"c{i + 1}": (i + 1) * self.epochs // self.cycles for i in range(self.cycles)}

    @property
    def cycle_epochs(self) -> int | None:
        """Epochs of each cycle at whose end a network is kept; None without such cycles."""
        return self.epochs // self.cycles if self.snapshots == "cyclic" else None

    def averaged_from(self, weights: str) -> int:
        """The first epoch whose weights are in the average called `weights` (swa, last_3)."""
        found = AVERAGE.match(weights)
        n_epochs = int(found["epochs"]) if found else max(2, self.epochs // 4)
        return self.epochs - n_epochs + 1

    @model_validator(mode="after")
    def _check(self) -> MemberSpec:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} should be fewer than epochs {self.epochs}"
            )
        if self.freeze_epochs > self.epochs:
            raise ValueError(
                f"freeze_epochs {self.freeze_epochs} should be at most epochs {self.epochs}"
            )
        if self.mixes and (len(self.targets) > 1 or self.loss == "focal"):
            what = "several targets" if len(self.targets) > 1 else "loss: focal"
            raise ValueError(
                f"mixup and cutmix mix labels, which {what} cannot take; leave one out"
            )
        if self.mixes and self.batch_size == 1:
            raise ValueError("mixup and cutmix mix pairs of a batch; batch_size: 1 has none")
        odd = sorted(set(self.loss_weights or ()) - set(self.targets))
        if odd:
            raise ValueError(
                f"loss_weights names {odd[0]!r}, which is not among its targets "
                f"{list(self.targets)}"
            )
        if any(weight < 0 for weight in (self.loss_weights or {}).values()):
            raise ValueError("loss_weights should not be negative")
        self._check_choice()
        self._check_further()
        return self

    def _check_choice(self) -> None:
        if self._says("choose_by") and not self.chooses:
            raise ValueError(
                f"choose_by: {self.choose_by} counts only with choose: best or patience"
            )
        check_metric_name(self.choose_by)
        if (self.val_interval or 1) > self.epochs:
            raise ValueError(
                f"val_interval {self.val_interval} should be at most epochs {self.epochs}"
            )

    def _check_further(self) -> None:
        for name in self.also:
            found = AVERAGE.match(name)
            if name not in ("ema", "swa") and not found:
                raise ValueError(
                    f"also: {name!r}; expected ema, swa, or last_3 for any number of epochs"
                )
            if found and not 2 <= int(found["epochs"]) <= self.epochs:
                raise ValueError(f"also: {name!r} averages 2 to {self.epochs} epochs")
        if "swa" in self.also and self.epochs < 2:
            raise ValueError("also: [swa] averages at least 2 epochs")
        if len(set(self.also)) != len(self.also):
            raise ValueError(f"also: {list(self.also)} names one twice")
        if self.swa_lr is not None and "swa" not in self.also:
            raise ValueError("swa_lr is for also: [swa]")
        timed = [name for name in self.also if name != "ema"] + ["snapshots"] * (
            self.snapshots != "none"
        )
        if timed and self.patience is not None:
            raise ValueError(
                f"patience ends the training at an epoch that {timed[0]} cannot know; leave one out"
            )
        if self.snapshots == "none":
            return
        if self.also or self.ema is not None or self.choose == "best" or self.warmup_epochs:
            raise ValueError(
                "snapshots: cyclic goes without also, ema, choose: best and warmup_epochs"
            )
        if self.sched != "cosine":
            raise ValueError("snapshots: cyclic restarts sched: cosine; leave sched out")
        if self.epochs % self.cycles:
            raise ValueError(f"epochs {self.epochs} should be a multiple of cycles {self.cycles}")


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
        4, ge=2, description="fast_geometric: epochs between two networks after the first `epochs`."
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
        rates = (
            self._FORMER
        )  # without a meaning for other methods; earlier versions have them in their fingerprints
        if self.method == "fast_geometric":
            rates = dict(zip(("lr_1", "lr_2"), self.cycle_rates, strict=True))
        return super().decisive_options | rates

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        known = ("kfold", *get_args(EnsembleMethod), "soup")
        if given not in known:
            raise ValueError(f"{given!r} is no method; {nearest(str(given), known, most=10)}")
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
        if self.method in ("voting", "bagging", "adversarial_training", "gradient_boosting"):
            return self.epochs * self.estimators
        if self.method == "fast_geometric":
            return self.epochs + self.cycle * (self.estimators - 1) + self.cycle // 2
        return self.epochs

    @model_validator(mode="after")
    def _check_method(self) -> EnsembleSpec:
        for option, methods in self._OWN.items():
            unsaid = getattr(self, option) == self._FORMER.get(option)
            if self._says(option) and self.method not in methods and not unsaid:
                raise ValueError(
                    f"{option} is an option of {' and '.join(methods)}, not of {self.method}"
                )
        if len(self.targets) > 1:
            raise ValueError(
                "torchensemble trains for one target; a member for each, or method: kfold, takes "
                "several"
            )
        if self.is_sum:
            unfit = [
                option for option in ("loss", "class_weights", "smoothing") if self._says(option)
            ]
            if unfit:
                raise ValueError(
                    f"{unfit[0]} has no meaning with {self.method}, which fits residuals by least "
                    "squares"
                )
            if self.as_ == "estimators":
                raise ValueError(
                    f"the networks of {self.method} are terms of a sum; as: estimators has no "
                    "meaning"
                )
        if self.method == "snapshot" and self.epochs % self.estimators:
            raise ValueError(
                f"epochs {self.epochs} should be a multiple of estimators {self.estimators}"
            )
        highest, lowest = self.cycle_rates
        if self.method == "fast_geometric" and lowest >= highest:
            raise ValueError(
                f"lr_2 {lowest:g}, in the middle of a cycle, should be below lr_1 {highest:g}, at "
                "its ends"
            )
        if self.lr_clip is not None and not 0 <= self.lr_clip[0] < self.lr_clip[1]:
            raise ValueError(
                f"lr_clip {list(self.lr_clip)} should be a lower and a higher learning rate"
            )
        if self.sched not in ("cosine", "none"):
            raise ValueError(f"sched: {self.sched!r}; torchensemble's methods take cosine or none")
        if self.amp == "fp16":
            raise ValueError(
                "amp: fp16 needs a scaler, which torchensemble does not have; take auto, bf16 or "
                "off"
            )
        if self.method == "snapshot" and (self._says("sched") or self._says("min_lr")):
            raise ValueError(
                "snapshot has a schedule of its own; leave sched and min_lr out (lr_clip bounds "
                "the rate)"
            )
        return self


class SoupSpec(BaseModel):
    """A network for each fold whose weights are the average of other members' (Wortsman et al., 2022)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["soup"] = Field(description="soup averages the weights of other members.")
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


def _method_of(value: Any) -> str:
    method = (
        value.get("method", "kfold")
        if isinstance(value, dict)
        else getattr(value, "method", "kfold")
    )
    return method if method in ("kfold", "soup") else "ensemble"


AnyMemberSpec = Annotated[
    Annotated[MemberSpec, Tag("kfold")]
    | Annotated[EnsembleSpec, Tag("ensemble")]
    | Annotated[SoupSpec, Tag("soup")],
    Discriminator(_method_of),
]
MEMBER_SPECS: dict[str, type[BaseModel]] = {
    "kfold": MemberSpec,
    "ensemble": EnsembleSpec,
    "soup": SoupSpec,
}


def spec_of(member: Any) -> type[BaseModel]:
    """The spec that a member's options in a recipe are checked by, judged by its `method`."""
    return MEMBER_SPECS[_method_of(member if isinstance(member, dict) else {})]


def counts(option: str, member: dict[str, Any]) -> bool:
    """Whether an option of a member counts beside its others, as tau does with loss: balanced_softmax alone."""
    if option == "choose_by":
        return member.get("choose") == "best" or member.get("patience") is not None
    if option not in OPTIONS_NEED:
        return True
    other, wanted = OPTIONS_NEED[option]
    field = spec_of(member).model_fields.get(other)
    return bool(member.get(other, None if field is None else field.default) == wanted)


def has_option(spec: type[BaseModel], key: str) -> bool:
    """Whether a member checked by `spec` may have the option `key`."""
    return key in {field.alias or name for name, field in spec.model_fields.items()}


def any_has_option(key: str) -> bool:
    """Whether some member may have the option `key`."""
    return any(has_option(spec, key) for spec in MEMBER_SPECS.values())
