"""The catalogue of blend methods, and the door through which a stack enters one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, cast

import numpy as np

from ensembler.blending.pool import Probs, Stack, StackPart, Targets
from ensembler.blending.state import State
from ensembler.errors import RequestError, nearest
from ensembler.own_code import is_own, load_own
from ensembler.registry import Registry

Capacity = Literal["linear", "rich"]


class Fittable(Protocol):
    """What cross-fitting needs: it learns on some rows how to turn a stack into one prediction."""

    @property
    def takes_parts(self) -> bool:
        """Whether walking over the stack member after member is enough: it may be on disk."""
        ...

    def fit(self, stack: Stack, y: Targets) -> Self: ...

    def predict_proba(self, stack: Stack) -> Probs: ...


class BlendMethod(Fittable, Protocol):
    """A fit that says what it learned, and can be built again from it.

    The constructor only stores its arguments. `methods.base.Blender` has a default for everything
    but `fit` and `predict_proba`; `testing.BlendContract` tests what a method owes.
    """

    @property
    def needs_fit(self) -> bool:
        """Whether anything is learned from labels; if not, fitted predictions are honest ones."""
        ...

    @property
    def capacity(self) -> Capacity:
        """How much a fit adapts to its rows: "linear" finds a weight for each member."""
        ...

    @property
    def zero_weight_is_absent(self) -> bool:
        """Whether a blend without the members of weight zero is the same blend."""
        ...

    @property
    def weights_(self) -> Any:
        """Weights float64 `[members]` after `fit`; None where there are none."""
        ...

    @property
    def stopped_early_(self) -> bool:
        """Whether the search was stopped by its time limit or by Ctrl-C."""
        ...

    @property
    def converged_(self) -> bool:
        """Whether the search found what it looked for."""
        ...

    def learned(self) -> dict[str, Any]:
        """What to show of the fit beside its weights, as plain values."""
        ...

    def state(self) -> State:
        """What predictions need of the fit; NotKeptError where no file can hold that."""
        ...

    def restore(self, state: State) -> Self:
        """Make this method, not fitted yet, the fitted one whose `state()` it is; returns it."""
        ...

    def without(self, member: int) -> BlendMethod:
        """A method to fit on a pool that lacks the member; its strengths are those found here."""
        ...


class MethodClass(Protocol):
    """What the class of a method says before there is a fit."""

    takes_votes: bool  # whether members may say a class and no probabilities
    gives_probabilities: bool
    searches_by: tuple[str, ...]  # the metrics it can search by; none: any metric

    def __call__(self, **options: Any) -> BlendMethod: ...

    def options_for_members(
        self, options: Mapping[str, Any], kept: Sequence[int]
    ) -> dict[str, Any]:
        """The options for the members at some positions."""
        ...


_OWED_BY_A_CLASS = (
    *(
        "fit",
        "predict_proba",
        "learned",
        "state",
        "restore",
        "without",
        "options_for_members",
    ),
    *("takes_parts", "takes_votes", "needs_fit", "capacity", "zero_weight_is_absent"),
    *("gives_probabilities", "searches_by"),
)

BLEND_METHODS = Registry(
    "blend method",
    "ensembler.blend_methods",
    {
        "soft": "ensembler.blending.methods.voting:SoftVote",
        "hard": "ensembler.blending.methods.voting:HardVote",
        "geometric": "ensembler.blending.methods.means:GeometricMean",
        "power": "ensembler.blending.methods.means:PowerMean",
        "median": "ensembler.blending.methods.means:Median",
        "trimmed_mean": "ensembler.blending.methods.means:TrimmedMean",
        "rank": "ensembler.blending.methods.means:RankMean",
        "weights": "ensembler.blending.methods.voting:WeightedVote",
        "single": "ensembler.blending.methods.voting:BestMember",
        "greedy": "ensembler.blending.methods.greedy:GreedySelection",
        "simplex": "ensembler.blending.methods.simplex:SimplexWeights",
        "loglinear": "ensembler.blending.methods.loglinear:LogLinearPool",
        "stack": "ensembler.blending.methods.stacking:ShrunkStack",
        "hill_climb": "ensembler.blending.methods.hill_climbing:HillClimbing",
    },
)


def method_class(name: str) -> MethodClass:
    """The class of the blend method called `name`, or of the user's own at `module:name`.

    Code of the user's own is imported here: whoever calls this with a name from a record makes sure
    that the recipe or the command names it too. RequestError for a class that lacks what a method
    owes.
    """
    found: Any = (
        load_own(name, "blend method") if is_own(name) else BLEND_METHODS.load(name)
    )
    missing = [owed for owed in _OWED_BY_A_CLASS if not hasattr(found, owed)]
    if missing:
        raise RequestError(
            f"blend method {name!r} has no {', '.join(missing)}; a class that inherits "
            "ensembler.blending.methods.base.Blender needs only fit and predict_proba"
        )
    return cast(MethodClass, found)


def create_blend(name: str, **options: Any) -> BlendMethod:
    """Make the blend method called `name` (or `module:name`) with its options.

    Raises UnknownNameError for an unknown method, RequestError for an option it does not have.
    """
    factory = method_class(name)
    known = option_names(name)
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else "it has none"
            raise RequestError(
                f"{option!r} is not an option of the blend method {name!r}; {hint}"
            )
    return factory(**options)


def option_names(name: str) -> list[str]:
    """The options of the blend method called `name`."""
    factory: Any = method_class(name)
    return list(inspect.signature(factory).parameters)


def accepts(name: str, option: str) -> bool:
    """Whether the blend method called `name` has the option."""
    return option in option_names(name)


def check_stack(stack: Stack, y: Targets | None = None, *, inputs: str = "probs") -> Stack:
    """Check a stack where it enters: three axes, finite, within 0..1 for probabilities.

    Labels fit. Returns it. The sums of rows are not looked at: the store did that.
    """
    stack = check_shape(stack, y)
    for member in stack:
        check_values(member, inputs)
    return stack


def check_shape(stack: Stack, y: Targets | None = None) -> Stack:
    """The part of `check_stack` that reads no value of the stack.

    It checks its axes and type, and the labels.
    """
    given: Any = stack
    stack = cast(Stack, given if isinstance(given, StackPart) else np.asarray(given))
    if stack.ndim != 3 or 0 in stack.shape:
        raise RequestError(
            f"a stack is [members, samples, classes], given shape {list(stack.shape)}"
        )
    if not np.issubdtype(stack.dtype, np.floating):
        raise RequestError(f"a stack holds floating-point numbers, given {stack.dtype}")
    if y is not None:
        _check_labels(stack, np.asarray(y))
    return stack


def check_values(member: Probs, inputs: str = "probs") -> None:
    """The other part, for one member: what is read next from it is in the processor's cache."""
    low, high = float(member.min()), float(member.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RequestError("the stack holds NaN or infinite values")
    if inputs == "probs" and (low < 0 or high > 1 + 1e-3):
        raise RequestError(
            f"the stack holds {low if low < 0 else high:g}, outside 0..1; say inputs='logits' if "
            "these are logits"
        )


def _check_labels(stack: Stack, y: Targets) -> None:
    if y.shape != (stack.shape[1],):
        raise RequestError(f"{list(y.shape)} labels for {stack.shape[1]} samples")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= stack.shape[2]:
        raise RequestError(f"labels are class indices from 0 to {stack.shape[2] - 1}")
