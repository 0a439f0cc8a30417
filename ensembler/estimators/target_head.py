"""The heads of one target: one for a label of its own, one for each of several labels at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from ensembler.blending.state import State
from ensembler.errors import NotKeptError, RequestError, TrainingError
from ensembler.estimators.linear import Layers
from ensembler.estimators.own import OwnEstimator
from ensembler.estimators.problem import FittedHead, Head, Problem
from ensembler.estimators.registry import HEADS
from ensembler.own_code import is_own
from ensembler.registry import load_place

LEAST = float(
    np.log(1e-6)
)  # the logarithm of the probability of a class without train rows


def new_head(name: str, arguments: Mapping[str, Any]) -> Head:
    """A head by its name, or by `module:Class` of the user's own."""
    if is_own(name):
        return OwnEstimator(name, **arguments)
    head: Head = HEADS.load(name)(**arguments)
    return head


@dataclass(frozen=True)
class ClassHead:
    """A fitted head over `n_classes`, of which only those in `present` had train rows."""

    fitted: FittedHead | None
    present: NDArray[np.int64]
    n_classes: int

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits `[rows, classes]`."""
        out = np.full((len(x), self.n_classes), LEAST, np.float32)
        if self.fitted is None:  # a single class
            out[:, self.present] = 0.0
            return out
        found = self.fitted.logits(x)
        if len(self.present) == self.n_classes:
            return found
        out[:, self.present] = log_softmax(found.astype(np.float64), axis=1)
        return out

    @property
    def layers(self) -> Layers | None:
        """The same as layers; None where it has none, or a class had no train rows."""
        if len(self.present) < self.n_classes or not isinstance(self.fitted, Layers):
            return None
        return self.fitted

    @property
    def state(self) -> State:
        """All it has learned."""
        named = "" if self.fitted is None else place_of(self.fitted)
        own = State({"present": self.present}, {"n_classes": self.n_classes, "head": named})
        return own if self.fitted is None else own.with_part("fitted", self.fitted.state)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` was taken of."""
        place = str(state.values["head"])
        fitted = None
        if place:
            if place not in KEPT:
                raise RequestError(
                    f"a kept head is a {place!r}, which this version does not know"
                )
            kind = load_place(KEPT[place], "fitted head")
            fitted = kind.from_state(state.part("fitted"))
        return cls(fitted, state.arrays["present"], int(state.values["n_classes"]))


KEPT = {
    "layers": "ensembler.estimators.linear:Layers",
    "neighbours": "ensembler.estimators.neighbours:Remembered",
    "lightgbm": "ensembler.estimators.boosting:Boosted",
    "trees": "ensembler.estimators.trees:GrownTrees",
    "estimator": "ensembler.estimators.own:Estimated",
}


def place_of(fitted: FittedHead) -> str:
    """What a kept head is called; what a file names is never imported, but one of these."""
    kind = type(fitted)
    place = f"{kind.__module__}:{kind.__qualname__}"
    for name, known in KEPT.items():
        if known == place:
            return name
    raise NotKeptError(f"{place} is of a kind that is not kept")


@dataclass(frozen=True)
class TargetHead:
    """What is fitted for one target, `[rows, features]` -> logits `[rows, classes]`."""

    heads: tuple[ClassHead, ...]
    is_set: (
        bool  # several labels at once: a head for each, whose logit is that of a sigmoid
    )

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 `[rows, classes]`."""
        if not self.is_set:
            return self.heads[0].logits(x)
        both = [head.logits(x) for head in self.heads]
        return np.stack([of_label[:, 1] - of_label[:, 0] for of_label in both], axis=1)

    @property
    def layers(self) -> Layers | None:
        """The same as layers, for a network or a graph; None where a head has none."""
        found = [head.layers for head in self.heads]
        if any(one is None for one in found):
            return None
        known = [one for one in found if one is not None]
        if not self.is_set:
            return known[0]
        if any(len(one.matrices) > 1 for one in known):
            return None
        matrices = [one.matrices[0] for one in known]
        biases = [one.biases[0] for one in known]
        matrix = np.stack([m[:, 1] - m[:, 0] for m in matrices], axis=1)
        return Layers((matrix,), (np.array([b[1] - b[0] for b in biases], np.float32),))

    @property
    def state(self) -> State:
        """All it has learned; NotKeptError where a part of it cannot be kept."""
        whole = State({}, {"heads": len(self.heads), "is_set": self.is_set})
        for n, head in enumerate(self.heads):
            whole = whole.with_part(f"head{n}", head.state)
        return whole

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` was taken of."""
        numbers = range(int(state.values["heads"]))
        heads = (ClassHead.from_state(state.part(f"head{n}")) for n in numbers)
        return cls(tuple(heads), bool(state.values["is_set"]))


def fit_classes(head: Head, problem: Problem) -> ClassHead:
    """Fit a head on the classes that have rows; TrainingError where no row has a label."""
    known = problem.of_rows(np.flatnonzero(problem.y >= 0))
    if not len(known.y):
        raise TrainingError("no train row has a label")
    present, codes = np.unique(known.y, return_inverse=True)
    if len(present) == 1:
        return ClassHead(None, present, problem.n_classes)
    of_present = replace(known, y=codes.astype(np.int64), n_classes=len(present))
    fitted = head.fit(of_present)
    if not np.isfinite(fitted.logits(of_present.x[:256])).all():
        raise TrainingError("the head's logits are not finite")
    return ClassHead(fitted, present.astype(np.int64), problem.n_classes)


def joined_logits(
    heads: Mapping[str, TargetHead], targets: Sequence[str], x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logits `[rows, classes]` of features `[rows, features]`, those of the targets in order."""
    return np.concatenate([heads[target].logits(x) for target in targets], axis=1)
