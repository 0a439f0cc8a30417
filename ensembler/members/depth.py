"""Breadth or depth: how many members with how many epochs, for `epochs: auto` under a deadline.

An ensemble of unfinished networks loses to one finished network. So members are added only while
all of them, over all folds, get the epochs after which a network is about finished; a single member
that does not get them has fewer folds rather, and time that is left goes to further folds in full.
The rule is simulated on learning curves (benchmarks/planner.py), where half or three quarters of
these epochs were not enough; it was not measured on whole runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Optimizer steps after which a network is about finished, and the fewest and most epochs of it.
SCRATCH_STEPS, PRETRAINED_STEPS = 1500, 300
SCRATCH_EPOCHS, PRETRAINED_EPOCHS = (10, 100), (3, 20)
ENOUGH = 1.0  # of these epochs: with fewer a network is unfinished


@dataclass(frozen=True)
class Candidate:
    """A member whose epochs are to be chosen.

    `target` are the epochs after which it is about finished, `epoch` the seconds of one, `around`
    those of a fold beside its epochs, `folds` how many it lacks.
    """

    name: str
    target: int
    epoch: float
    around: float
    folds: int

    def seconds(self, epochs: float, folds: int) -> float:
        """What so many folds with so many epochs cost."""
        return min(folds, self.folds) * (epochs * self.epoch + self.around)


def target_epochs(steps: int, *, pretrained: bool) -> int:
    """After how many epochs of so many steps a network is about finished."""
    wanted = PRETRAINED_STEPS if pretrained else SCRATCH_STEPS
    least, most = PRETRAINED_EPOCHS if pretrained else SCRATCH_EPOCHS
    return min(most, max(least, math.ceil(wanted / max(1, steps))))


def choose_depth(
    candidates: Sequence[Candidate],
    seconds: float,
    enough: float = ENOUGH,
    longest: float = math.inf,
) -> dict[str, int]:
    """Epochs, by name, of as many `candidates` (in their order) as get enough in `seconds`.

    Enough is a share of the target, of which all get the same. What is left goes to members that
    get their whole target in one fold. Where not even the first gets enough over all its folds, it
    alone is planned, with enough for as many folds as there is time for, and with whatever one fold
    can get where that is none. No fold takes more than `longest` seconds: several processes have
    more of them together than any one fold.
    """
    if not candidates:
        return {}
    all_folds = max(candidate.folds for candidate in candidates)
    for n in range(len(candidates), 0, -1):
        share = _share(candidates[:n], all_folds, seconds, longest)
        if share >= enough:
            planned = candidates[:n]
            left = seconds - sum(
                c.seconds(math.floor(share * c.target), c.folds) for c in planned
            )
            further = _one_fold_more(candidates[n:], left, longest)
            return _epochs(planned, share) | _epochs(further, 1.0)
    first = candidates[:1]
    for folds in range(all_folds - 1, 0, -1):
        share = _share(first, folds, seconds, longest)
        if share >= enough:
            return _epochs(first, share)
    return _epochs(first, _share(first, 1, seconds, longest))


def _one_fold_more(
    candidates: Sequence[Candidate], seconds: float, longest: float
) -> list[Candidate]:
    """The candidates of which one fold with its whole target ends in `seconds`, one by one."""
    found = []
    for candidate in candidates:
        one = candidate.seconds(candidate.target, 1)
        if one <= min(seconds, longest):
            found.append(candidate)
            seconds -= one
    return found


def _share(
    candidates: Sequence[Candidate], folds: int, seconds: float, longest: float
) -> float:
    """The share of their targets that candidates get in `seconds`, from 0 to 1."""
    around = sum(c.seconds(0, folds) for c in candidates)
    trained = sum(c.seconds(c.target, folds) for c in candidates) - around
    if trained <= 0:
        return 1.0
    of_a_fold = [_share_of_a_fold(c, longest) for c in candidates]
    return min(1.0, max(0.0, min((seconds - around) / trained, *of_a_fold)))


def _share_of_a_fold(candidate: Candidate, longest: float) -> float:
    """The share of its target that one fold of a candidate gets in `longest` seconds."""
    trained = candidate.target * candidate.epoch
    return (longest - candidate.around) / trained if trained > 0 else math.inf


def _epochs(candidates: Sequence[Candidate], share: float) -> dict[str, int]:
    return {c.name: max(1, math.floor(share * c.target)) for c in candidates}
