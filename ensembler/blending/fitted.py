"""A fitted blend: it predicts new samples and is kept as a state.

It predicts from the probabilities of its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.calibration.label_thresholds import move_to_half
from ensembler.blending.candidate import Candidate
from ensembler.blending.pool import Probs, fold_stacks
from ensembler.blending.registry import BlendMethod
from ensembler.blending.state import State
from ensembler.blending.yes_or_no import one_column, two_columns

Tests = Sequence[NDArray[np.floating]]  # for each member [folds, samples, classes]


@dataclass(frozen=True)
class FittedBlend:
    """A fitted method, and what comes before and after it.

    `candidate` made the `method`. `by_fold`: the members' checkpoints of one fold are blended with
    each other and the folds averaged then, if the members have equally many; otherwise each
    member's folds are averaged first. Of a multi-label target there are `labels`, which became rows
    of their own, and perhaps `thresholds` `[labels]`.
    """

    members: tuple[str, ...]
    candidate: Candidate
    method: BlendMethod
    by_fold: bool
    labels: int | None = None
    thresholds: NDArray[np.float64] | None = None

    @property
    def idle(self) -> tuple[str, ...]:
        """The members of weight zero, if the method does without them."""
        if not self.method.zero_weight_is_absent:
            return ()
        weights = zip(self.members, self.method.weights_, strict=True)
        return tuple(name for name, weight in weights if weight == 0)

    def predict(self, tests: Tests) -> NDArray[np.float32]:
        """Probabilities `[samples, classes]` of new samples, from those of the members.

        `tests` are in the order of the members.
        """
        if self.labels is None:
            return self._blended(tests)
        return self.decided(self._blended([two_columns(test) for test in tests]))

    def decided(self, rows: Probs) -> NDArray[np.float32]:
        """Blended rows of yes and no as probabilities `[samples, labels]`, after the thresholds."""
        assert self.labels is not None
        probs = one_column(rows, self.labels)
        if self.thresholds is not None:
            probs = move_to_half(probs, self.thresholds)
        return np.asarray(probs, np.float32)

    def _blended(self, tests: Tests) -> NDArray[np.float32]:
        _, samples, classes = tests[0].shape
        if samples == 0:
            return np.empty((0, classes), np.float32)
        by_fold = self.by_fold and len({len(test) for test in tests}) == 1
        stacks = fold_stacks(tests, by_fold=by_fold)
        folds = [
            np.asarray(self.method.predict_proba(stack), np.float64) for stack in stacks
        ]
        return np.asarray(sum(folds) / len(folds), np.float32)

    def state(self) -> State:
        """Everything that `from_state` needs; NotKeptError where the method cannot say it."""
        about = State.of(
            {
                "members": self.members,
                "candidate": self.candidate.to_json(),
                "by_fold": self.by_fold,
                "labels": self.labels,
                "thresholds": self.thresholds,
            }
        )
        return about.with_part("method", self.method.state())

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The blend whose `state()` it is."""
        known = state.everything
        candidate = Candidate.from_json(known["candidate"])
        return cls(
            members=tuple(known["members"]),
            candidate=candidate,
            method=candidate.make().restore(state.part("method")),
            by_fold=known["by_fold"],
            labels=known["labels"],
            thresholds=known["thresholds"],
        )
