"""Warnings about members before they are blended: leaks, copies, and members that help nobody.

No cross-fitting can see a member whose out-of-fold predictions were made by networks that knew the
rows. What it cannot hide: wherever it contradicts the others, it is right. An honest member that
strong is as strong on test rows, and shows it there: it doubts them no more, and its folds'
checkpoints agree with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool, some_rows
from ensembler.logits import FLOOR
from ensembler.metrics import score

# Measured by benchmarks/leak_guard.py on members of small pools, half of them with a leak.
# The share of rows right among those that contradict the others: its lower bound.
ALWAYS_RIGHT = 0.7
SURELY_RIGHT = 0.75
LEAK_RATIO = 1.6  # doubt on test rows over doubt out of fold, beyond the pool's
LEAK_GAP = (
    0.05  # accuracy out of fold beyond what the member expects of itself on test rows
)
# Errors on test rows that its own checkpoints must make, over its errors out of fold.
LEAK_CONFLICT = 3.0
FEWEST_TEST_ROWS = 20


LEAKS = ("suspected_leak", "possible_leak")  # codes of findings


@dataclass(frozen=True)
class PoolFinding:
    """One finding about a member (None = about the pool)."""

    code: str
    member: str | None
    message: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"code": self.code, "member": self.member, "message": self.message}


def look_at(pool: Pool) -> list[PoolFinding]:
    """All warnings about a pool, suspected leaks first."""
    losses = np.array([score("log_loss", probs, pool.y) for probs in pool.oof])
    return [
        *_leaks(pool),
        *_weak(pool, losses),
        *_duplicates(pool, losses),
        *_other_folds(pool),
        *_pool_size(pool),
    ]


def suspected(warnings: Sequence[PoolFinding]) -> list[str]:
    """Names of the members that look leaked."""
    return [
        w.member for w in warnings if w.code == "suspected_leak" and w.member is not None
    ]


@dataclass(frozen=True)
class _Hits:
    """`hits` of `n` rows."""

    hits: int
    n: int

    def surely_exceed(self, share: float) -> bool:
        """Whether they speak for more than `share`, with a probability of 0.95 (Jeffreys)."""
        expected = (self.hits + 0.5) / (self.n + 1)
        if expected <= share:
            return False  # the bound is lower still; scipy.special takes long to import
        from scipy.special import betaincinv

        bound = betaincinv(self.hits + 0.5, self.n - self.hits + 0.5, 0.05)
        return bool(bound > share)


@dataclass(frozen=True)
class _Behaviour:
    """What a member does out of fold and on test rows; None where there is nothing to see it by.

    `right` counts where it is right of the rows where it contradicts the mean of the others,
    `doubt_ratio` is its doubt on test rows over that out of fold, `accuracy_gap` its accuracy
    beyond what it expects of itself on test rows, and `conflict_ratio` the errors that its
    checkpoints must make on test rows, for they contradict each other, over those out of fold.
    """

    right: _Hits | None
    doubt_ratio: float | None = None
    accuracy_gap: float | None = None
    conflict_ratio: float | None = None


def _leaks(pool: Pool) -> list[PoolFinding]:
    test = (
        pool.test
        if pool.test is not None and pool.test[0].shape[1] >= FEWEST_TEST_ROWS
        else None
    )
    total = np.zeros(pool.oof.shape[1:])
    for probs in pool.oof:
        total += probs
    members = [
        _behaviour(pool, probs, total, None if test is None else test[m])
        for m, probs in enumerate(pool.oof)
    ]
    # What the whole pool does differently on test rows is a shift of the rows and no leak.
    usual_doubt = _usual([member.doubt_ratio for member in members])
    usual_conflict = _usual([member.conflict_ratio for member in members])
    found = []
    for name, member in zip(pool.names, members, strict=True):
        finding = _judged(name, member, usual_doubt, usual_conflict)
        if finding is not None:
            found.append(finding)
    if test is None:
        message = (
            "no test predictions: leaks cannot be looked for, except in scores out of all "
            "proportion"
        )
        found.append(PoolFinding("leaks_unchecked", None, message))
    return found


def _usual(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(float(np.median(known)), 1.0) if len(known) > 2 else 1.0


def _behaviour(
    pool: Pool,
    probs: NDArray[np.floating],
    total: NDArray[np.float64],
    test: NDArray[np.floating] | None,
) -> _Behaviour:
    decided = probs.argmax(axis=1)
    is_right = decided == pool.y
    right = None
    if len(pool.names) > 1:
        contradicts = decided != (total - probs).argmax(axis=1)
        right = _Hits(int(is_right[contradicts].sum()), int(contradicts.sum()))
    if test is None:
        return _Behaviour(right)
    doubt_on_test = float(np.mean([_doubt(fold) for fold in test]))
    return _Behaviour(
        right,
        doubt_ratio=doubt_on_test / max(_doubt(probs), 1e-6),
        accuracy_gap=int(is_right.sum()) / len(is_right) - (1 - doubt_on_test),
        conflict_ratio=_conflict_ratio(test, is_right),
    )


def _doubt(probs: NDArray[np.floating]) -> float:
    """How far from certain predictions `[rows, classes]` are, on average."""
    return float(1 - probs.max(axis=1).astype(np.float64).mean())


def _conflict_ratio(
    test: NDArray[np.floating], is_right: NDArray[np.bool_]
) -> float | None:
    """Errors that checkpoints must make on `test` `[folds, rows, classes]`, over other ones."""
    if len(test) < 2:
        return None
    decided = test.argmax(axis=2)
    shares = [float((a != b).mean()) for a, b in combinations(decided, 2)]
    # Where two checkpoints decide differently, at least one of them is wrong.
    must_be_wrong = float(np.mean(shares)) / 2
    wrong = len(is_right) - int(is_right.sum())
    return must_be_wrong / ((wrong + 1) / (len(is_right) + 2))


def _judged(
    name: str, member: _Behaviour, usual_doubt: float, usual_conflict: float
) -> PoolFinding | None:
    signs = _signs(member, usual_doubt, usual_conflict)
    if member.right is None:
        return _possible(name, " and ".join(signs)) if signs else None
    if signs and member.right.surely_exceed(SURELY_RIGHT):
        message = (
            f"member {name!r} looks leaked: it is nearly always right where it contradicts the "
            f"others, yet {' and '.join(signs)}; its out-of-fold predictions may come from "
            f"networks that saw the rows. auto leaves it out; --trust {name} uses it"
        )
        return PoolFinding("suspected_leak", name, message)
    if member.right.surely_exceed(ALWAYS_RIGHT):
        return _possible(name, "it is nearly always right where it contradicts the others")
    return None


def _signs(member: _Behaviour, usual_doubt: float, usual_conflict: float) -> list[str]:
    """What speaks for networks that saw the rows, in words."""
    ratio, gap, conflict = member.doubt_ratio, member.accuracy_gap, member.conflict_ratio
    signs = []
    is_doubtful = ratio is not None and ratio > LEAK_RATIO * usual_doubt
    if is_doubtful and gap is not None and gap > LEAK_GAP:
        signs.append("it is far less confident on test rows than out of fold")
    if conflict is not None and conflict > LEAK_CONFLICT * usual_conflict:
        signs.append(
            "its folds contradict each other on test rows more often than it errs out of fold"
        )
    return signs


def _possible(name: str, sign: str) -> PoolFinding:
    message = (
        f"member {name!r} is much better than the others, or leaked: {sign}. Check that its "
        "out-of-fold predictions come from networks that did not see the rows; --members blends "
        "without it"
    )
    return PoolFinding("possible_leak", name, message)


def _weak(pool: Pool, losses: NDArray[np.float64]) -> list[PoolFinding]:
    y, prior = _label_by_label(pool, pool.y), _loss_of_shares(pool)
    found = []
    for name, rows, loss in zip(pool.names, pool.oof, losses, strict=True):
        probs = rows if pool.rows_each == 1 else _label_by_label(pool, rows[:, 1])
        is_constant = float(np.ptp(probs, axis=0).max()) < 1e-4
        if is_constant:
            message = f"member {name!r} predicts the same for every row"
            found.append(PoolFinding("constant_member", name, message))
        # Votes have no log loss worth the name.
        elif name not in pool.votes_only and loss > prior:
            accuracy = float((rows.argmax(axis=1) == pool.y).mean())
            is_inverted = _is_inverted(probs, y)
            found.append(
                _worse_than_prior(name, loss, prior, accuracy, is_inverted=is_inverted)
            )
    return found


def _worse_than_prior(
    name: str, loss: float, prior: float, accuracy: float, *, is_inverted: bool
) -> PoolFinding:
    if is_inverted:
        message = (
            f"member {name!r} is right in {accuracy:.1%} of rows, well below chance: its classes "
            "may be in another order or its probabilities inverted"
        )
        return PoolFinding("inverted_member", name, message)
    message = (
        f"member {name!r} has a log loss of {loss:.3f}, worse than always predicting the class "
        f"shares ({prior:.3f}); calibrating or leaving it out may help"
    )
    return PoolFinding("worse_than_prior", name, message)


def _label_by_label(pool: Pool, values: NDArray[Any]) -> NDArray[Any]:
    """Values `[rows]` as `[samples, labels]` where each label has a row, else as they are."""
    return values if pool.rows_each == 1 else values.reshape(pool.n_samples, pool.rows_each)


def _loss_of_shares(pool: Pool) -> float:
    """The log loss of always saying the shares of the classes, or of each label."""
    y = _label_by_label(pool, pool.y)
    if y.ndim == 2:
        return score("log_loss", np.broadcast_to(y.mean(axis=0), y.shape), y)
    shares = np.bincount(y, minlength=len(pool.classes)) / len(y)
    return float(-np.log(np.clip(shares[y], FLOOR, None)).mean())


def _is_inverted(probs: NDArray[np.floating], y: NDArray[np.integer]) -> bool:
    auc = score("roc_auc_ovr", probs, y)
    return bool(np.isfinite(auc) and auc < 0.4 and len(y) >= 50)


def _duplicates(pool: Pool, losses: NDArray[np.float64]) -> list[PoolFinding]:
    """Members whose predictions are the same as an earlier member's to three digits."""
    sample = pool.oof[:, some_rows(len(pool.y), 2000)].reshape(len(pool.names), -1)
    found: list[PoolFinding] = []
    kept: list[int] = []
    for m, name in enumerate(pool.names):
        twin = _twin(m, kept, sample, losses)
        if twin is None:
            kept.append(m)
            continue
        message = (
            f"member {name!r} predicts the same as {pool.names[twin]!r}; it adds nothing"
        )
        found.append(PoolFinding("duplicate_member", name, message))
    return found


def _twin(
    m: int, kept: Sequence[int], sample: NDArray[np.floating], losses: NDArray[np.float64]
) -> int | None:
    """The first of the members `kept` that predicts the same as member `m`."""
    for k in kept:
        # A copy has the same loss; only those are compared in full.
        is_near = abs(losses[k] - losses[m]) < 1e-3 * max(1.0, losses[k])
        if is_near and float(np.abs(sample[k] - sample[m]).max()) < 2e-3:
            return k
    return None


def _other_folds(pool: Pool) -> list[PoolFinding]:
    return [
        PoolFinding(
            "other_folds",
            name,
            f"member {name!r} was trained on other folds than the run's; its rows are still out of "
            "fold, but a stack mixes checkpoints that saw different rows: prefer one set of folds",
        )
        for name in pool.other_folds
        if name in pool.names
    ]


def _pool_size(pool: Pool) -> list[PoolFinding]:
    found = []
    rows, members = pool.n_samples, len(pool.names)
    if rows < max(50, 2 * members):
        message = f"{rows} rows for {members} members: every figure here is uncertain"
        found.append(PoolFinding("few_rows", None, message))
    classes = set(np.unique(pool.y).tolist())
    for fold in np.unique(pool.folds[pool.folds >= 0]):
        lost = sorted(classes - set(pool.y[pool.folds == fold].tolist()))
        if lost:
            names = ", ".join(pool.classes[c] for c in lost[:5])
            message = f"fold {int(fold)} has no row of {names}"
            found.append(PoolFinding("fold_lacks_class", None, message))
    return found
