"""What every trained member may say: its networks and how they are trained, in timm's words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from ensembler.data.size import SizeGiven
from ensembler.data.spec import (
    AugmentSpec,
    DataSpec,
    InputSpec,
    OwnInputSpec,
    TrainBins,
    TrainBinsGiven,
    as_train_bins,
    names_of_steps,
)
from ensembler.errors import nearest
from ensembler.networks.spec import NetworkSpec
from ensembler.own_code import is_own
from ensembler.training.catalogue import check_loss_name, traits_of

# Options that count only where another one has a certain value.
REQUIRES = {
    "tau": ("loss", "balanced_softmax"),
    "focal_gamma": ("loss", "focal"),
    "decay_epochs": ("sched", "step"),
    "decay_rate": ("sched", "step"),
    "cycles": ("snapshots", "cyclic"),
}


AUTO = "auto"
AUTO_EPOCHS = 10  # of epochs: auto until a plan says otherwise


def _epochs(given: Any) -> Any:
    return AUTO_EPOCHS if given == AUTO else given


Epochs = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(_epochs),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": AUTO}]}),
]


def _form_of_train_bins(given: Any) -> str:
    if isinstance(given, dict):
        return "of one" if given.keys() <= TrainBins.model_fields.keys() else "by target"
    return "of one" if isinstance(given, TrainBins) else "edges"


# Edges, or edges and what is dropped, of the one target that has bins; or that by target.
OwnTrainBins = Annotated[
    Annotated[tuple[float, ...], Tag("edges")]
    | Annotated[TrainBins, Tag("of one")]
    | Annotated[dict[str, TrainBinsGiven], Tag("by target")],
    Discriminator(_form_of_train_bins),
]
# Options of later versions: where one is not used, fingerprints are those of earlier versions.
LATER = ("input", "prepare", "train_bins")


PREPARE = (
    "Steps that prepare the images of this member alone, instead of those of input.prepare."
)
OWN_INPUT = (
    "Whatever of `input` is different for this member, such as {size: 96, resize: pad}; size and "
    "prepare are short for two of them."
)
TRAIN_BINS = (
    "Training bins of this member alone, by target, such as {age: [30, 58]} or {age: {drop: [57, "
    "59]}} (without its name where one target has bins); {} trains on what is scored."
)


def code_of_steps(
    prepare: Sequence[str | dict[str, Any]] | None, own: OwnInputSpec | None
) -> dict[str, str]:
    """Every `module:function` among a member's own steps."""
    steps = names_of_steps([*(() if own is None else own.prepare), *(prepare or ())])
    return {step: "prepare step" for step in steps if is_own(step)}


def raise_first(problems: Iterator[str]) -> None:
    """Raise ValueError with the first of the problems, if there is one."""
    problem = next(problems, None)
    if problem is not None:
        raise ValueError(problem)


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
    size: SizeGiven | None = Field(
        None, description="Input size of this member alone: one number, or [height, width]."
    )
    prepare: tuple[str | dict[str, Any], ...] | None = Field(None, description=PREPARE)
    input: OwnInputSpec | None = Field(None, description=OWN_INPUT)
    augment: AugmentSpec | None = Field(
        None, description="Augmentation of this member alone."
    )
    train_bins: OwnTrainBins | None = Field(None, description=TRAIN_BINS)
    epochs: Epochs = Field(
        10,
        description="How often every train row is seen. auto leaves it to the plan under a "
        "deadline, and is 10 without one; it is fixed before the member's first fold.",
    )
    batch_size: int = Field(64, ge=1, description="Images in one step.")
    opt: str = Field("adamw", description="Optimizer, by timm's name.")
    lr: float = Field(1e-3, gt=0, description="Learning rate at its peak.")
    weight_decay: float = Field(
        0.01, ge=0, description="Weight decay; none on biases and norms."
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="Momentum, for optimizers that have one."
    )
    sched: str = Field(
        "cosine",
        description="Learning-rate schedule: cosine, tanh, poly (a straight line), step or none.",
    )
    min_lr: float = Field(
        0.0, ge=0, description="Learning rate at the end of the schedule."
    )
    loss: str = Field(
        "cross_entropy",
        description="Loss: cross_entropy, bce (one-against-rest), focal, balanced_softmax (adjusts "
        "logits by how frequent classes are), soft_f1, asymmetric, or module:name of your own. Of "
        "a multi-label target cross_entropy and bce are the same, and asymmetric (Ridnik et al., "
        "2021) is for it alone.",
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
    amp: Literal["auto", "off", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision."
    )
    priority: int = Field(
        0,
        description="Members with a higher priority are trained first; of equal ones the cheapest "
        "is first, fold by fold.",
    )
    seed: int | None = Field(
        None, ge=0, description="Seed of this member (default: the recipe's)."
    )
    seeds: int = Field(
        1,
        ge=1,
        le=100,
        description="Trainings of every fold with different seeds: members NAME-s1, NAME-s2, ...",
    )

    def says(self, option: str) -> bool:
        """Whether an option is there and differs from its default."""
        field = type(self).model_fields.get(option)
        return field is not None and bool(getattr(self, option) != field.default)

    @model_validator(mode="after")
    def _check_training(self) -> TrainingSpec:
        raise_first(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        """What is wrong with the options of every kind of training, the first of it first."""
        for option, (other, wanted) in REQUIRES.items():
            if self.says(option) and getattr(self, other) != wanted:
                given = getattr(self, other)
                yield f"{option} counts only with {other}: {wanted}; here it is {given}"
        if self.pretrained and self.checkpoint is not None:
            yield "pretrained: true and checkpoint both say where the weights come from; keep one"
        check_loss_name(self.loss)
        traits = traits_of(self.loss)
        takes = {
            "smoothing": traits.takes_smoothing,
            "class_weights": traits.takes_class_weights,
        }
        for option, takes_it in takes.items():
            if self.says(option) and not takes_it:
                yield f"{option} has no meaning with loss: {self.loss}; leave one out"
        yield from self._problems_of_class_weights()
        if len(set(self.targets)) != len(self.targets):
            yield f"target {list(self.targets)} names one twice"
        yield from self._problems_of_input()

    def _problems_of_input(self) -> Iterator[str]:
        said = {} if self.input is None else self.input.said
        for name in ("size", "prepare"):
            if name in said and getattr(self, name) is not None:
                yield f"{name} and input.{name} both say what this member sees; keep one"

    def seen_input(self, of_recipe: InputSpec) -> InputSpec:
        """What its networks see: the recipe's input with what is its own."""
        short = {"size": self.size, "prepare": self.prepare}
        own = {name: value for name, value in short.items() if value is not None}
        given = of_recipe.with_own(self.input)
        return InputSpec.model_validate({**given.model_dump(), **own}) if own else given

    def own_train_bins(self, data: DataSpec) -> dict[str, TrainBins]:
        """Its own training bins by target.

        Raises ValueError for a target without bins, and for edges that do not fit its bins.
        """
        given = self.train_bins
        if given is None:
            return {}
        specs = data.target_specs
        if not isinstance(given, dict):
            binned = [name for name, spec in specs.items() if spec.bins is not None]
            if len(binned) != 1:
                raise ValueError(
                    f"train_bins is for the one target with bins, and {len(binned)} have any; "
                    "name targets, such as {age: [30, 58]}"
                )
            given = {binned[0]: given}
        found = {name: as_train_bins(bins) for name, bins in given.items()}
        for name, bins in found.items():
            if name not in specs:
                raise ValueError(f"train_bins names {name!r}; {nearest(name, specs)}")
            specs[name].check_train_bins(bins)
        return found

    @property
    def unused_later(self) -> set[str]:
        """Options that earlier versions did not have and that are not used here."""
        return {name for name in LATER if getattr(self, name) is None}

    def _problems_of_class_weights(self) -> Iterator[str]:
        if not isinstance(self.class_weights, dict):
            return
        if len(self.targets) > 1:
            yield "class_weights by name are for one target; use balanced or effective for several"
        given = self.class_weights.values()
        are_weights = all(math.isfinite(weight) and weight >= 0 for weight in given)
        if given and not (are_weights and any(given)):
            weights = self.class_weights
            yield f"class_weights {weights} should be finite, not negative and not all zero"

    @property
    def decisive_options(self) -> dict[str, Any]:
        """The options that decide what the trained networks are, as plain values."""
        return self.model_dump(
            mode="json",
            # what is said of input and of labels to train on, `members.plan` says resolved
            exclude={
                "augment",
                "seeds",
                "as_",
                "also",
                "refit",
                "step",
                "priority",
                *LATER,
            },
        )

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own that the training uses, and what it is used as.

        The backbone's is beside it: see `networks.sources`.
        """
        named = code_of_steps(self.prepare, self.input)
        return named | ({self.loss: "loss"} if is_own(self.loss) else {})

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it names; empty for the label."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels with them."""
        return False
