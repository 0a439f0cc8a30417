"""Ensemble selection with replacement (Caruana et al., 2004).

Each round adds the member that helps most. Weights are picks / rounds, and the best prefix of the
picks is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.base import Blender, check_time_limit, check_whole
from ensembler.blending.methods.confusion import ConfusionSearch
from ensembler.blending.methods.stopping import search
from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.methods.voting import linear_pool
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_stack
from ensembler.machine.threads import one_thread
from ensembler.metrics import check_metric, score
from ensembler.stop import Stop

# Ratios multiplied before one logarithm is taken: each is at least 1, and four fit a float32.
_BLOCK = 4
_BATCH = 8  # candidates looked at together
_DOUBT = 2e-6  # gains nearer than this are compared again in float64


@dataclass(frozen=True)
class Pick:
    """One round: the member it added and the score after it (a loss for log loss)."""

    member: int
    value: float


@dataclass
class GreedySelection(Blender):
    """Greedy selection for any metric.

    Log loss is searched lazily and exactly: an old gain bounds the new one from above. Functions of
    the confusion matrix look only at rows that some candidate can still change. Other metrics are
    evaluated plainly. Ties go to members already used, then to the better log loss, then to the
    first. `max_members` bounds the number of different members. A search of more than `time_limit`
    seconds, or one that Ctrl-C meets, ends with the rounds it has (`stopped_early_`).
    """

    capacity = "linear"
    zero_weight_is_absent = True

    metric: str = "log_loss"
    rounds: int = 100
    max_members: int | None = None
    time_limit: float | None = None
    weights_: Any = field(default=None, init=False, repr=False)
    picks_: list[Pick] = field(default_factory=list, init=False, repr=False)
    stopped_early_: bool = field(default=False, init=False, repr=False)

    @property
    def takes_parts(self) -> bool:
        """Whether the fit can read member after member.

        A search for a metric other than log loss jumps between rows.
        """
        return self.metric == "log_loss"

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Select members; RequestError for options that make no sense."""
        check_metric(self.metric)
        check_whole("rounds", self.rounds, least=1)
        if self.max_members is not None:
            check_whole("max_members", self.max_members, least=1)
        check_time_limit(self.time_limit)
        stack, y = self._enter_shape(stack, y)
        with one_thread():
            if self.metric == "log_loss":
                self._select_for_log_loss(true_class_column(stack, y))
                better = np.argmin
            else:
                self._select_by_score(check_stack(stack, y), y)
                better = (
                    np.argmax if check_metric(self.metric).greater_is_better else np.argmin
                )
        kept = 1 + int(better([pick.value for pick in self.picks_]))
        counts = np.bincount(
            [pick.member for pick in self.picks_[:kept]], minlength=len(stack)
        )
        self.weights_ = counts / kept
        return self

    def learned(self) -> dict[str, Any]:
        """The members in the order in which they were added, each with the score after it."""
        return {"trajectory": [[pick.member, pick.value] for pick in self.picks_]}

    def _select_for_log_loss(self, q: NDArray[np.float32]) -> None:
        """Picks over `q` `[members, rows]`, the probabilities of the true class.

        Adding candidate j to the running sum S gains mean log(1 + q_j / S), which can only fall as
        S grows (the objective is monotone submodular), so the gain of an earlier round is an upper
        bound.
        """
        losses = np.array([-np.log(probs).mean(dtype=np.float64) for probs in q])
        total = np.zeros(q.shape[1], np.float64)
        bounds = np.full(len(q), np.inf)
        picks: list[Pick] = []
        used: set[int] = set()

        def add_one(step: int) -> bool:
            allowed = (
                None if self.max_members is None or len(used) < self.max_members else used
            )
            best = (
                int(losses.argmin())
                if step == 0
                else _best_gain(q, total, bounds, used, losses, allowed)
            )
            np.add(total, q[best], out=total)
            used.add(best)
            picks.append(Pick(best, float(-np.log(total).mean() + np.log(step + 1))))
            return True

        self.stopped_early_ = search(add_one, self.rounds, Stop(self.time_limit))
        self.picks_ = picks

    def _select_by_score(self, stack: Stack, y: Targets) -> None:
        losses = -np.log(true_class_column(stack, y)).mean(axis=1, dtype=np.float64)
        metric = check_metric(self.metric)
        scores: Any = _PlainSearch(stack, y, self.metric)
        if metric.from_confusion is not None:
            scores = ConfusionSearch(stack, y, metric.from_confusion)
        sign = metric.sign
        picks: list[Pick] = []
        used: set[int] = set()

        def add_one(_: int) -> bool:
            # where there is no score, none is worse
            values = np.nan_to_num(sign * scores.values(), nan=-np.inf)
            candidates = np.arange(len(stack))
            if self.max_members is not None and len(used) >= self.max_members:
                candidates = np.array(sorted(used))
            top = values[candidates].max()
            tied = [int(j) for j in candidates if values[j] >= top - 1e-12]
            best = min(tied, key=lambda j: (j not in used, losses[j], j))
            scores.add(best)
            used.add(best)
            picks.append(Pick(best, float(sign * values[best])))
            return True

        self.stopped_early_ = search(add_one, self.rounds, Stop(self.time_limit))
        self.picks_ = picks

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return linear_pool(self._known(stack), self.weights_)


def _best_gain(
    q: NDArray[np.float32],
    total: NDArray[np.float64],
    bounds: NDArray[np.float64],
    used: set[int],
    losses: NDArray[np.float64],
    allowed: set[int] | None,
) -> int:
    inverse = (1.0 / total).astype(np.float32)
    order = np.argsort(-bounds, kind="stable")
    if allowed is not None:
        order = order[np.isin(order, list(allowed))]
    fresh = np.full(len(q), -np.inf)
    best = -np.inf
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        if bounds[batch[0]] < best - _DOUBT:
            break
        for j in batch:
            if bounds[j] >= best - _DOUBT:
                fresh[j] = bounds[j] = _gain(q[j], inverse)
                best = max(best, fresh[j])
    near = np.flatnonzero(fresh >= best - _DOUBT)
    if len(near) == 1:
        return int(near[0])
    exact = {int(j): float(np.log1p(q[j] / total).mean()) for j in near}
    top = max(exact.values())
    tied = [j for j, gain in exact.items() if gain >= top - 1e-12]
    return min(tied, key=lambda j: (j not in used, losses[j], j))


def _gain(q: NDArray[np.float32], inverse: NDArray[np.float32]) -> float:
    ratio = q * inverse
    ratio += 1
    whole = len(ratio) - len(ratio) % _BLOCK
    # Hard zeros are floored at 1e-7, so a ratio is at most 1e7 and the product of four below 1e28.
    product = ratio[:whole].reshape(_BLOCK, -1)
    product = (product[0] * product[1]) * (product[2] * product[3])
    rest = np.log(ratio[whole:]).sum(dtype=np.float64)
    return float((np.log(product).sum(dtype=np.float64) + rest) / len(q))


class _PlainSearch:
    """Scores every candidate by computing the metric on its running mean."""

    def __init__(self, stack: Stack, y: Targets, metric: str) -> None:
        self.stack, self.y, self.metric = stack, y, metric
        self.total = np.zeros(stack.shape[1:], np.float64)

    def values(self) -> NDArray[np.float64]:
        """The score after adding each member `[members]`."""
        found = []
        for probs in self.stack:
            mean = self.total + probs
            found.append(score(self.metric, mean / mean.sum(axis=1, keepdims=True), self.y))
        return np.array(found)

    def add(self, member: int) -> None:
        """Add a member to the running sum."""
        self.total += self.stack[member]
