"""What a recipe may say about a member: its network and how it is trained, in timm's words."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from ensembler.data.spec import AugmentSpec
from ensembler.networks.spec import NetworkSpec

Sampler = Literal["none", "balanced", "up", "down", "sqrt", "effective", "weights"]


class MemberSpec(NetworkSpec):
    """One member: every fold of it is trained alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    target: str | tuple[str, ...] | None = Field(
        None, description="The target it predicts (default: the label), or several, with a head for each."
    )
    loss_weights: dict[str, float] | None = Field(
        None, description="Of several targets, how much the loss of each counts (default: 1)."
    )
    size: int | None = Field(None, ge=8, le=2048, description="Input size of this member alone.")
    augment: AugmentSpec | None = Field(None, description="Augmentation of this member alone.")
    epochs: int = Field(10, ge=1, description="How often every train row is seen.")
    batch_size: int = Field(64, ge=1, description="Images in one step.")
    accumulate: int = Field(1, ge=1, description="Steps whose gradients are summed before the optimizer moves.")
    opt: str = Field("adamw", description="Optimizer, by timm's name.")
    lr: float = Field(1e-3, gt=0, description="Learning rate at its peak.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay; none on biases and norms.")
    momentum: float | None = Field(None, ge=0, lt=1, description="Momentum, for optimizers that have one.")
    layer_decay: float | None = Field(None, gt=0, le=1, description="Each layer's lr is this times the next one's.")
    sched: str = Field("cosine", description="Learning-rate schedule, by timm's name, or none.")
    warmup_epochs: int = Field(0, ge=0, description="Epochs in which the learning rate rises.")
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the end of the schedule.")
    clip_grad: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    freeze_epochs: int = Field(0, ge=0, description="Epochs in which only the head learns.")
    loss: Literal["cross_entropy", "bce", "focal", "balanced_softmax", "soft_f1"] = Field(
        "cross_entropy",
        description="Loss; bce is one-against-rest, balanced_softmax adjusts logits by how frequent classes are.",
    )
    class_weights: Literal["none", "balanced", "effective"] | dict[str, float] = Field(
        "none", description="Weights of classes in the loss: by frequency, by effective number, or by name."
    )
    focal_gamma: float = Field(2.0, ge=0, description="How little rows that are right count in loss: focal.")
    tau: float = Field(1.0, ge=0, description="How far loss: balanced_softmax takes the frequency out.")
    sampler: Sampler = Field(
        "none",
        description="Rows of an epoch: balanced draws classes equally often, sqrt and effective less so; up repeats, "
        "down leaves out; weights uses data.weight.",
    )
    sampler_target: str | None = Field(None, description="The target whose classes are balanced (default: its own).")
    smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing.")
    mixup: float = Field(0.0, ge=0, description="Mixup alpha; 0 = none.")
    cutmix: float = Field(0.0, ge=0, description="CutMix alpha; 0 = none.")
    ema: float | None = Field(None, gt=0, lt=1, description="Decay of averaged weights (EMA), which then predict.")
    choose: Literal["last", "best"] = Field(
        "last", description="The epoch that predicts; best looks at the validation fold and flatters its scores."
    )
    patience: int | None = Field(None, ge=1, description="Stop after so many epochs without a better validation loss.")
    amp: Literal["auto", "off", "bf16", "fp16"] = Field("auto", description="Mixed precision.")
    deterministic: bool = Field(False, description="Only deterministic algorithms, where the device has slower ones.")
    seed: int | None = Field(None, ge=0, description="Seed of this member (default: the recipe's).")

    @model_validator(mode="after")
    def _check(self) -> MemberSpec:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} should be fewer than epochs {self.epochs}")
        if self.pretrained and self.checkpoint is not None:
            raise ValueError("pretrained: true and checkpoint both say where the weights come from; keep one")
        mixes = self.mixup > 0 or self.cutmix > 0
        if mixes and (len(self.targets) > 1 or self.loss == "focal"):
            what = "several targets" if len(self.targets) > 1 else "loss: focal"
            raise ValueError(f"mixup and cutmix mix labels, which {what} cannot take; leave one out")
        for option, unset, losses in (
            ("smoothing", self.smoothing == 0, ("focal", "soft_f1")),
            ("class_weights", self.class_weights == "none", ("soft_f1",)),
        ):
            if not unset and self.loss in losses:
                raise ValueError(f"{option} has no meaning with loss: {self.loss}; leave one out")
        if isinstance(self.class_weights, dict) and len(self.targets) > 1:
            raise ValueError("class_weights by name are for one target; use balanced or effective for several")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"target {list(self.targets)} names one twice")
        odd = sorted(set(self.loss_weights or ()) - set(self.targets))
        if odd:
            raise ValueError(f"loss_weights names {odd[0]!r}, which is not among its targets {list(self.targets)}")
        if any(weight < 0 for weight in (self.loss_weights or {}).values()):
            raise ValueError("loss_weights should not be negative")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it names; empty for the label."""
        return () if self.target is None else (self.target,) if isinstance(self.target, str) else self.target
