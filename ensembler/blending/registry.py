"""The catalogue of blend methods, and the door through which a stack enters one."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, Self, cast

import numpy as np

from ensembler.blending.pool import Probs, Stack, StackPart, Targets
from ensembler.errors import RequestError, nearest
from ensembler.registry import Registry


class BlendMethod(Protocol):
    """Learns on out-of-fold predictions how to turn a stack into one prediction.

    The constructor only stores its arguments; `weights_` is float64 `[members]` after `fit`, or
    None where the method has no weight for each member.
    """

    @property
    def weights_(self) -> Any:
        """Weights `[members]`, or None."""
        ...

    def fit(self, stack: Stack, y: Targets) -> Self: ...

    def predict_proba(self, stack: Stack) -> Probs: ...


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


def create_blend(name: str, **options: Any) -> BlendMethod:
    """Make the blend method called `name` with its options.

    Raises UnknownNameError for an unknown method, RequestError for an option it does not have.
    """
    factory = BLEND_METHODS.load(name)
    known = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else "it has none"
            raise RequestError(f"{option!r} is not an option of the blend method {name!r}; {hint}")
    method: BlendMethod = factory(**options)
    return method


def accepts(name: str, option: str) -> bool:
    """Whether the blend method called `name` has the option."""
    return option in inspect.signature(BLEND_METHODS.load(name)).parameters


def check_stack(stack: Stack, y: Targets | None = None, *, inputs: str = "probs") -> Stack:
    """Check a stack where it enters: three axes, finite, within 0..1 for probabilities.

    Labels fit. Returns it. The sums of rows are not looked at: the store did that.
    """
    stack = check_shape(stack, y)
    for member in stack:
        check_values(member, inputs)
    return stack


def check_shape(stack: Stack, y: Targets | None = None) -> Stack:
    """The part of `check_stack` that reads no value of the stack: its axes and type, and the labels."""
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
