"""Whether test rows have other shares of classes than train rows, by predictions alone.

Two estimates that need no label: the likeliest shares by EM (Saerens et al., 2002), and those that
explain the predicted classes by what is confused out of fold (black-box shift; Lipton et al.,
2018). Whether predictions gain by shares that are estimated so is tried on out-of-fold rows, drawn
to have the shares that were found. Nothing of a run is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ensembler.blending.judging.intervals import Units
from ensembler.errors import RequestError
from ensembler.evaluation.predicted import Predicted, open_predictors, predicted_by
from ensembler.predictions.store import RunStore
from ensembler.targets.kinds import SINGLE_LABEL, kind_of

_STEPS, _SETTLED = 500, 1e-7
_DRAWS = 200
_LEAST = 1e-12


@dataclass(frozen=True)
class PriorShift:
    """Shares of classes `[classes]` in train rows, and as estimated in test rows.

    `em` and `bbse` are the estimates, `low` and `high` the 95 % interval of `em` over draws of
    test rows. `gain` is how much lower the log loss is with probabilities for estimated shares, on
    out-of-fold rows drawn to have those of `em`, with its interval; the shares are estimated on
    each draw anew.
    """

    name: str
    target: str
    classes: tuple[str, ...]
    train: NDArray[np.float64]
    em: NDArray[np.float64]
    bbse: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_test: int
    gain: float
    gain_low: float
    gain_high: float

    @property
    def pays(self) -> bool:
        """Whether the gain is clearly one."""
        return self.gain_low > 0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        shares = [
            {
                "class": name,
                "train": float(self.train[n]),
                "em": float(self.em[n]),
                "low": float(self.low[n]),
                "high": float(self.high[n]),
                "bbse": float(self.bbse[n]),
            }
            for n, name in enumerate(self.classes)
        ]
        return {
            "name": self.name,
            "target": self.target,
            "n_test": self.n_test,
            "shares": shares,
            "gain": {"value": self.gain, "low": self.gain_low, "high": self.gain_high},
            "pays": self.pays,
        }


def estimate_shift(
    store: RunStore, *, members: Sequence[str] | None = None, target: str | None = None
) -> PriorShift:
    """The shift of the submitted blend's test rows, or of the first member named.

    RequestError without test rows, or for a target with several labels at once.
    """
    predictors = open_predictors(store, members)
    wanted = target or store.samples.first_target(predictors.targets)
    found = [
        one
        for one in predicted_by(store, predictors, wanted or predictors.targets[0])
        if one.split == "oof"
    ]
    oof = next((one for one in found if one.submitted), found[0] if found else None)
    if oof is None or kind_of(oof.y) is not SINGLE_LABEL:
        raise RequestError(
            "shares of classes are estimated of a target with one label a row"
        )
    test = _test_probs(store, oof)
    if not len(test):
        raise RequestError(
            f"run {store.name!r} has no test rows whose shares could be estimated"
        )
    return shift_of(oof, test, store.samples.groups())


def _test_probs(store: RunStore, oof: Predicted) -> NDArray[np.float64]:
    """The probabilities of all test rows that are submitted, of the same member or blend."""
    if oof.kind == "blend":
        probs = np.asarray(store.blend(oof.name).test)
    else:
        member = store.member(oof.name).for_target(oof.target)
        probs = np.asarray(member.test(oof.classes)).mean(axis=0)
    rows = store.samples.to_submit
    return np.asarray(probs[rows], np.float64)


def shift_of(
    oof: Predicted, test: NDArray[np.float64], groups: NDArray[np.int64] | None
) -> PriorShift:
    """The same from out-of-fold rows and the probabilities `[rows, classes]` of test rows."""
    n_classes = len(oof.classes)
    probs, y = np.asarray(oof.probs, np.float64), oof.y
    train = np.bincount(y, minlength=n_classes) / len(y)
    em = likeliest_shares(test, train)
    draws = [
        likeliest_shares(test[rows], train)
        for rows in Units.of(len(test), None).drawn(np.random.default_rng(0), _DRAWS // 2)
    ]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    own = None if groups is None else groups[oof.rows]
    gains = _gains(probs, y, train, em, Units.of(len(y), own))
    gain_low, gain_high = np.quantile(gains, [0.025, 0.975])
    return PriorShift(
        oof.name,
        oof.target,
        oof.classes,
        train,
        em,
        explained_shares(probs, y, test),
        low,
        high,
        len(test),
        float(np.mean(gains)),
        float(gain_low),
        float(gain_high),
    )


def likeliest_shares(
    probs: NDArray[np.float64], train: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares `[classes]` under which rows are likeliest, by EM from those of the train rows."""
    shares = train.copy()
    for _ in range(_STEPS):
        adjusted = with_shares(probs, train, shares)
        new = adjusted.mean(axis=0)
        change = float(np.abs(new - shares).max())
        shares = new
        if change < _SETTLED:
            break
    return shares


def with_shares(
    probs: NDArray[np.float64], train: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` for rows that have other shares than the train rows."""
    ratio = np.divide(shares, train, out=np.ones_like(shares), where=train > 0)
    adjusted = np.maximum(probs, _LEAST) * np.maximum(ratio, _LEAST)
    return np.asarray(adjusted / adjusted.sum(axis=1, keepdims=True))


def explained_shares(
    probs: NDArray[np.float64], y: NDArray[np.int64], test: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares `[classes]` that explain the mean of test probabilities by those of each class.

    They are the non-negative ones of least squares: a matrix of confusions may be near singular.
    """
    n_classes = probs.shape[1]
    of_class = np.eye(n_classes)
    for label in np.unique(y):
        of_class[:, label] = probs[y == label].mean(axis=0)
    found, _ = nnls(of_class, test.mean(axis=0))
    total = found.sum()
    return np.asarray(found / total if total > 0 else np.full(n_classes, 1 / n_classes))


def _gains(
    probs: NDArray[np.float64],
    y: NDArray[np.int64],
    train: NDArray[np.float64],
    shares: NDArray[np.float64],
    units: Units,
) -> NDArray[np.float64]:
    """Gains in log loss of draws of rows that have the given shares, units drawn whole first."""
    rng = np.random.default_rng(0)
    ratio = np.divide(shares, train, out=np.zeros_like(shares), where=train > 0)
    gains = []
    for rows in units.drawn(rng, _DRAWS):
        chances = ratio[y[rows]]
        if chances.sum() <= 0:
            continue
        drawn = rng.choice(rows, len(y), p=chances / chances.sum())
        estimated = likeliest_shares(probs[drawn], train)
        adjusted = with_shares(probs[drawn], train, estimated)
        gains.append(_log_loss(probs[drawn], y[drawn]) - _log_loss(adjusted, y[drawn]))
    return np.array(gains or [0.0])


def _log_loss(probs: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    return float(-np.log(np.maximum(probs[np.arange(len(y)), y], _LEAST)).mean())
