"""What to say about members before they are blended: leaks, copies, and members that do not deserve their place.

No cross-fitting can see a member whose out-of-fold predictions were made by networks that knew the
rows. What it cannot hide: wherever it contradicts the others, it is right. An honest member that
strong is as strong on test rows, and shows it there: it doubts them no more, and its folds'
checkpoints agree with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool, some_rows
from ensembler.metrics import score
from ensembler.metrics.probabilities import FLOOR

# Measured by benchmarks/leak_guard.py on members of small pools, half of them with a leak.
ALWAYS_RIGHT = (
    0.7  # the share of rows right among those that contradict the others: its lower bound
)
SURELY_RIGHT = 0.75
LEAK_RATIO = 1.6  # doubt on test rows over doubt out of fold, beyond the pool's
LEAK_GAP = (
    0.05  # by how much accuracy out of fold exceeds what the member expects of itself on test rows
)
LEAK_QUARREL = (
    3.0  # errors on test rows that its own checkpoints must make over its errors out of fold
)


@dataclass(frozen=True)
class Finding:
    """One finding about a member (None = about the pool)."""

    code: str
    member: str | None
    message: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"code": self.code, "member": self.member, "message": self.message}


def look_at(pool: Pool) -> list[Finding]:
    """All warnings about a pool, suspected leaks first."""
    losses = np.array([score("log_loss", probs, pool.y) for probs in pool.oof])
    return [
        *_leaks(pool),
        *_weak(pool, losses),
        *_duplicates(pool, losses),
        *_other_folds(pool),
        *_pool_size(pool),
    ]


def suspected(warnings: Sequence[Finding]) -> list[str]:
    """Names of the members that look leaked."""
    return [w.member for w in warnings if w.code == "suspected_leak" and w.member is not None]


@dataclass(frozen=True)
class _Behaviour:
    """What a member does out of fold and on test rows; None where there is nothing to see it by.

    `right` is the lower bound of how often it is right where it contradicts the mean of the others,
    `ratio` its doubt on test rows over that out of fold, `gap` its accuracy beyond what it expects
    of itself on test rows, and `quarrel` the errors that its checkpoints must make on test rows,
    for they contradict each other, over those out of fold.
    """

    right: float | None
    ratio: float | None
    gap: float | None
    quarrel: float | None


def _leaks(pool: Pool) -> list[Finding]:
    checked = pool.test is not None and pool.test[0].shape[1] >= 20
    found = []
    total = np.zeros(pool.oof.shape[1:])
    for probs in pool.oof:
        total += probs
    members = [
        _behaviour(pool, probs, total, pool.test[m] if checked and pool.test is not None else None)
        for m, probs in enumerate(pool.oof)
    ]
    # What the whole pool does differently on test rows is a shift of the rows and no leak.
    usual_ratio = _usual([member.ratio for member in members])
    usual_quarrel = _usual([member.quarrel for member in members])
    for name, member in zip(pool.names, members, strict=True):
        finding = _judged(name, member, usual_ratio, usual_quarrel)
        if finding is not None:
            found.append(finding)
    if not checked:
        found.append(
            Finding(
                "leaks_unchecked",
                None,
                "no test predictions: leaks cannot be looked for, except in scores out of all "
                "proportion",
            )
        )
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
    said = probs.argmax(axis=1)
    wrong = int((said != pool.y).sum())
    right = None
    if len(pool.names) > 1:
        contradicts = said != (total - probs).argmax(axis=1)
        n, hits = int(contradicts.sum()), int((said == pool.y)[contradicts].sum())
        right = _lower_bound(hits, n)
    if test is None:
        return _Behaviour(right, None, None, None)
    doubt = float(1 - probs.max(axis=1).astype(np.float64).mean())
    doubt_on_test = float(
        np.mean([1 - fold.max(axis=1).astype(np.float64).mean() for fold in test])
    )
    rows = len(pool.y)
    ratio = doubt_on_test / max(doubt, 1e-6)
    gap = (rows - wrong) / rows - (1 - doubt_on_test)
    quarrel = None
    if len(test) > 1:
        said_on_test = test.argmax(axis=2)
        pairs = [
            (said_on_test[i] != said_on_test[j]).mean() for i in range(len(test)) for j in range(i)
        ]
        # Where two checkpoints say different classes, at least one of them is wrong.
        quarrel = float(np.mean(pairs)) / 2 / ((wrong + 1) / (rows + 2))
    return _Behaviour(right, ratio, gap, quarrel)


def _lower_bound(hits: int, n: int) -> float:
    """The share that `hits` of `n` exceeds with a probability of 0.95 (Jeffreys)."""
    from scipy.special import betaincinv

    return float(betaincinv(hits + 0.5, n - hits + 0.5, 0.05))


def _judged(
    name: str, member: _Behaviour, usual_ratio: float, usual_quarrel: float
) -> Finding | None:
    quarrels = member.quarrel is not None and member.quarrel > LEAK_QUARREL * usual_quarrel
    ratio, gap = member.ratio, member.gap
    doubts = (
        ratio is not None
        and gap is not None
        and ratio > LEAK_RATIO * usual_ratio
        and gap > LEAK_GAP
    )
    signs = []
    if doubts:
        signs.append("it doubts test rows far more than its out-of-fold rows")
    if quarrels:
        signs.append(
            "its folds contradict each other on test rows more often than it errs out of fold"
        )
    if member.right is None:
        if not signs:
            return None
        return _possible(name, " and ".join(signs))
    if member.right > SURELY_RIGHT and signs:
        return Finding(
            "suspected_leak",
            name,
            f"member {name!r} looks leaked: it is nearly always right where it contradicts the "
            "others, yet "
            f"{' and '.join(signs)}; its out-of-fold predictions may come from networks that saw "
            "the rows. "
            f"auto leaves it out; --trust {name} uses it",
        )
    if member.right > ALWAYS_RIGHT:
        return _possible(name, "it is nearly always right where it contradicts the others")
    return None


def _possible(name: str, sign: str) -> Finding:
    return Finding(
        "possible_leak",
        name,
        f"member {name!r} is much better than the others, or leaked: {sign}. Check that its "
        "out-of-fold predictions "
        "come from networks that did not see the rows; --members blends without it",
    )


def _weak(pool: Pool, losses: NDArray[np.float64]) -> list[Finding]:
    y, prior = _label_by_label(pool, pool.y), _loss_of_shares(pool)
    found = []
    for name, rows, loss in zip(pool.names, pool.oof, losses, strict=True):
        probs = rows if pool.rows_each == 1 else _label_by_label(pool, rows[:, 1])
        spread = float(np.ptp(probs, axis=0).max())
        accuracy = float((rows.argmax(axis=1) == pool.y).mean())
        if spread < 1e-4:
            found.append(
                Finding("constant_member", name, f"member {name!r} says the same of every row")
            )
        elif name in pool.votes_only:
            continue  # votes have no log loss worth the name
        elif loss > prior and _is_inverted(probs, y):
            found.append(
                Finding(
                    "inverted_member",
                    name,
                    f"member {name!r} is right in {accuracy:.1%} of rows, well below chance: its "
                    "classes may be in "
                    "another order or its probabilities inverted",
                )
            )
        elif loss > prior:
            found.append(
                Finding(
                    "worse_than_prior",
                    name,
                    f"member {name!r} has a log loss of {loss:.3f}, worse than always saying the "
                    "class shares "
                    f"({prior:.3f}); calibrating or leaving it out may help",
                )
            )
    return found


def _label_by_label(pool: Pool, values: NDArray[Any]) -> NDArray[Any]:
    """Values of rows `[rows]` as `[samples, labels]` where several rows stand for one sample, else as they are."""
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


def _duplicates(pool: Pool, losses: NDArray[np.float64]) -> list[Finding]:
    """Members whose predictions are the same as an earlier member's to three digits."""
    sample = pool.oof[:, some_rows(len(pool.y), 2000)].reshape(len(pool.names), -1)
    found: list[Finding] = []
    kept: list[int] = []
    for m, name in enumerate(pool.names):
        # A copy has the same loss; only those are compared in full.
        near = [k for k in kept if abs(losses[k] - losses[m]) < 1e-3 * max(1.0, losses[k])]
        twin = next((k for k in near if float(np.abs(sample[k] - sample[m]).max()) < 2e-3), None)
        if twin is None:
            kept.append(m)
            continue
        first = pool.names[twin]
        found.append(
            Finding(
                "duplicate_member",
                name,
                f"member {name!r} predicts the same as {first!r}; it adds nothing",
            )
        )
    return found


def _other_folds(pool: Pool) -> list[Finding]:
    return [
        Finding(
            "other_folds",
            name,
            f"member {name!r} was trained on other folds than the run's; its rows are still out of "
            "fold, but a stack "
            "mixes checkpoints that saw different rows: prefer one set of folds",
        )
        for name in pool.other_folds
        if name in pool.names
    ]


def _pool_size(pool: Pool) -> list[Finding]:
    found = []
    rows, members = pool.n_samples, len(pool.names)
    if rows < max(50, 2 * members):
        found.append(
            Finding(
                "few_rows",
                None,
                f"{rows} rows for {members} members: every figure here is uncertain",
            )
        )
    for fold in np.unique(pool.folds[pool.folds >= 0]):
        lost = set(np.unique(pool.y).tolist()) - set(pool.y[pool.folds == fold].tolist())
        if lost:
            names = ", ".join(pool.classes[c] for c in sorted(lost)[:5])
            found.append(
                Finding("fold_lacks_class", None, f"fold {int(fold)} has no row of {names}")
            )
    return found
