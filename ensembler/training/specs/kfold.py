"""method: kfold: a network for each fold, trained by our own loop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from ensembler.metrics import check_metric_name
from ensembler.metrics.renamed import first_name
from ensembler.own_code import is_own
from ensembler.training.catalogue import check_sampler_name, traits_of
from ensembler.training.specs.base import TrainingSpec, raise_first
from ensembler.training.specs.refit import RefitSpec

EMA_DECAY = 0.999  # of also: [ema] when ema says no other
AVERAGE = re.compile(r"^last_(?P<epochs>\d+)$")


class MemberSpec(TrainingSpec):
    """A network for each fold, trained by our own loop."""

    method: Literal["kfold"] = Field(
        "kfold", description="How it is trained; see below for the others."
    )
    loss_weights: dict[str, float] | None = Field(
        None,
        description="Of several targets, how much the loss of each counts (default: 1).",
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
    decay_rate: float = Field(
        0.1, gt=0, lt=1, description="sched: step: the factor of a fall."
    )
    warmup_epochs: int = Field(
        0, ge=0, description="Epochs in which the learning rate rises."
    )
    clip_grad: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    freeze_epochs: int = Field(0, ge=0, description="Epochs in which only the head learns.")
    init_head: Literal["random", "probe"] = Field(
        "random",
        description="probe begins with a head that is a logistic regression on the features of the "
        "fold's train rows (linear probing, then fine-tuning); for pretrained networks.",
    )
    sampler: str = Field(
        "none",
        description="Rows of an epoch: none (every row once); balanced draws classes equally "
        "often, sqrt and effective less so; up repeats, down leaves out; weights uses "
        "data.weight; or module:name of your own.",
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
        3,
        ge=2,
        description="How many cycles the epochs are divided into, with snapshots: cyclic.",
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
        description="Early stopping: end after this many epochs without a better one on the "
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
        description="Validate every n epochs, and after the last (default: every epoch with "
        "choose: best or "
        "patience, otherwise the last alone). Only validated epochs can be the best.",
    )
    step: Literal["auto", "eager", "graph", "compile"] | None = Field(
        None,
        description="How steps reach the device: eager, one operation after the other; graph, "
        "recorded once as a CUDA graph; compile, by torch.compile; auto measures on CUDA which of "
        "them pays (default: graph on CUDA where it can, else eager).",
    )
    refit: RefitSpec | None = Field(
        None,
        description="After the folds, networks on all rows: {seeds: 3, predict: refit}. They are "
        "member NAME-refit, whose test predictions nothing has scored.",
    )
    deterministic: bool = Field(
        False,
        description="Only deterministic algorithms, where the device has slower ones.",
    )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels with them."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own that the training uses, and what it is used as."""
        named = super().code
        if is_own(self.sampler):
            named[self.sampler] = "sampler"
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
    def unused_later(self) -> set[str]:
        """Options that earlier versions did not have and that are not used here."""
        has_probe = self.init_head == "probe"
        return super().unused_later | (set() if has_probe else {"init_head"})

    @property
    def decisive_options(self) -> dict[str, Any]:
        """The options that decide what the trained network is, as plain values.

        Left out is what only says which members there are, how fast they are made, or how often
        they are looked at.
        """
        options = super().decisive_options
        if self.init_head == "random":  # as earlier versions had it
            del options["init_head"]
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
        return {
            f"c{i + 1}": (i + 1) * self.epochs // self.cycles for i in range(self.cycles)
        }

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
        raise_first(self._problems_of_loop())
        return self

    def _problems_of_loop(self) -> Iterator[str]:
        """What is wrong with the options of our own loop, the first of it first."""
        epochs = self.epochs
        if self.warmup_epochs >= epochs and self.warmup_epochs > 0:
            yield f"warmup_epochs {self.warmup_epochs} should be fewer than epochs {epochs}"
        if self.freeze_epochs > epochs:
            yield f"freeze_epochs {self.freeze_epochs} should be at most epochs {epochs}"
        yield from self._problems_of_mixing()
        check_sampler_name(self.sampler)
        yield from self._problems_of_loss_weights()
        yield from self._problems_of_choice()
        yield from self._problems_of_also()
        yield from self._problems_of_snapshots()
        several = [name for name in ("also", "seeds", "snapshots") if self.says(name)]
        if self.refit is not None and several:
            yield f"refit is for one network a fold; leave {several[0]} out"

    def _problems_of_mixing(self) -> Iterator[str]:
        if not self.mixes:
            return
        if len(self.targets) > 1:
            yield "mixup and cutmix mix labels, which several targets cannot take; leave one out"
        if not traits_of(self.loss).takes_mixed_labels:
            yield f"mixup and cutmix mix labels, which loss: {self.loss} cannot take; leave one out"
        if self.batch_size == 1:
            yield "mixup and cutmix mix pairs of a batch; batch_size: 1 has none"

    def _problems_of_loss_weights(self) -> Iterator[str]:
        weights = self.loss_weights or {}
        unknown = sorted(set(weights) - set(self.targets))
        if unknown:
            targets = list(self.targets)
            yield f"loss_weights names {unknown[0]!r}, which is not among its targets {targets}"
        if any(weight < 0 for weight in weights.values()):
            yield "loss_weights should not be negative"

    def _problems_of_choice(self) -> Iterator[str]:
        if self.says("choose_by") and not self.chooses:
            yield f"choose_by: {self.choose_by} counts only with choose: best or patience"
        check_metric_name(self.choose_by)
        if (self.val_interval or 1) > self.epochs:
            yield f"val_interval {self.val_interval} should be at most epochs {self.epochs}"

    def _problems_of_also(self) -> Iterator[str]:
        for name in self.also:
            found = AVERAGE.match(name)
            if name not in ("ema", "swa") and not found:
                yield f"also: {name!r}; expected ema, swa, or last_3 for any number of epochs"
            if found and not 2 <= int(found["epochs"]) <= self.epochs:
                yield f"also: {name!r} averages 2 to {self.epochs} epochs"
        if "swa" in self.also and self.epochs < 2:
            yield "also: [swa] averages at least 2 epochs"
        if len(set(self.also)) != len(self.also):
            yield f"also: {list(self.also)} names one twice"
        if self.swa_lr is not None and "swa" not in self.also:
            yield "swa_lr is for also: [swa]"
        timed = [name for name in self.also if name != "ema"]
        if self.snapshots != "none":
            timed.append("snapshots")
        if timed and self.patience is not None:
            yield (
                f"patience ends the training at an epoch that {timed[0]} cannot know; leave one out"
            )

    def _problems_of_snapshots(self) -> Iterator[str]:
        if self.snapshots == "none":
            return
        if self.also or self.ema is not None or self.choose == "best" or self.warmup_epochs:
            yield "snapshots: cyclic goes without also, ema, choose: best and warmup_epochs"
        if self.sched != "cosine":
            yield "snapshots: cyclic restarts sched: cosine; leave sched out"
        if self.epochs % self.cycles:
            yield f"epochs {self.epochs} should be a multiple of cycles {self.cycles}"
