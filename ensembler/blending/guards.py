"""What to say about members before they are blended: leaks, copies, and members that do not deserve their place.

No cross-fitting can see a member whose out-of-fold predictions were made by networks that knew the rows. Two signs can:
such a member is far more confident out of fold than on test rows, and more often right than it expects to be.
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

# Honest members measured with one fold's checkpoint on test rows: doubt on test over doubt out of fold 0.98 to 1.11;
# a leaked one 2.97 even with averaged predictions. The pool's median takes out a shift that all members share.
LEAK_RATIO = 1.6
LEAK_GAP = 0.03  # by how much accuracy out of fold exceeds what the member expects of itself on test rows


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


def _leaks(pool: Pool) -> list[Finding]:
    if pool.test is None or pool.test[0].shape[1] < 20:
        return []
    ratios, gaps = [], []
    for probs, test in zip(pool.oof, pool.test, strict=True):
        doubt_oof = float(1 - probs.max(axis=1).astype(np.float64).mean())
        by_fold = [float(1 - fold.max(axis=1).astype(np.float64).mean()) for fold in test]
        doubt_test = float(np.mean(by_fold))
        ratios.append(doubt_test / max(doubt_oof, 1e-6))
        accuracy = float((probs.argmax(axis=1) == pool.y).mean())
        gaps.append(accuracy - (1 - doubt_test))
    usual = float(np.median(ratios)) if len(ratios) > 2 else 1.0
    found = []
    for name, ratio, gap in zip(pool.names, ratios, gaps, strict=True):
        if ratio > LEAK_RATIO * max(usual, 1.0) and gap > LEAK_GAP:
            found.append(
                Finding(
                    "suspected_leak",
                    name,
                    f"member {name!r} looks leaked: it doubts test rows {ratio:.1f} times as much as its out-of-fold "
                    f"rows (the pool's median is {usual:.1f}); its out-of-fold predictions may come from networks that "
                    f"saw the rows. auto leaves it out; --trust {name} uses it",
                )
            )
    return found


def _weak(pool: Pool, losses: NDArray[np.float64]) -> list[Finding]:
    y, prior = _label_by_label(pool, pool.y), _loss_of_shares(pool)
    found = []
    for name, rows, loss in zip(pool.names, pool.oof, losses, strict=True):
        probs = rows if pool.rows_each == 1 else _label_by_label(pool, rows[:, 1])
        spread = float(np.ptp(probs, axis=0).max())
        accuracy = float((rows.argmax(axis=1) == pool.y).mean())
        if spread < 1e-4:
            found.append(Finding("constant_member", name, f"member {name!r} says the same of every row"))
        elif name in pool.votes_only:
            continue  # votes have no log loss worth the name
        elif loss > prior and _is_inverted(probs, y):
            found.append(
                Finding(
                    "inverted_member",
                    name,
                    f"member {name!r} is right in {accuracy:.1%} of rows, well below chance: its classes may be in "
                    "another order or its probabilities inverted",
                )
            )
        elif loss > prior:
            found.append(
                Finding(
                    "worse_than_prior",
                    name,
                    f"member {name!r} has a log loss of {loss:.3f}, worse than always saying the class shares "
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
            Finding("duplicate_member", name, f"member {name!r} predicts the same as {first!r}; it adds nothing")
        )
    return found


def _other_folds(pool: Pool) -> list[Finding]:
    return [
        Finding(
            "other_folds",
            name,
            f"member {name!r} was trained on other folds than the run's; its rows are still out of fold, but a stack "
            "mixes checkpoints that saw different rows: prefer one set of folds",
        )
        for name in pool.other_folds
        if name in pool.names
    ]


def _pool_size(pool: Pool) -> list[Finding]:
    found = []
    rows, members = pool.n_samples, len(pool.names)
    if rows < max(50, 2 * members):
        found.append(Finding("few_rows", None, f"{rows} rows for {members} members: every figure here is uncertain"))
    for fold in np.unique(pool.folds[pool.folds >= 0]):
        lost = set(np.unique(pool.y).tolist()) - set(pool.y[pool.folds == fold].tolist())
        if lost:
            names = ", ".join(pool.classes[c] for c in sorted(lost)[:5])
            found.append(Finding("fold_lacks_class", None, f"fold {int(fold)} has no row of {names}"))
    return found
