"""Prediction sets that hold the true class of a given share of images: conformal prediction.

A threshold on the classes' cumulated probabilities is taken from rows whose label is known (APS;
Romano et al., 2020), with a penalty on long sets for `raps` (Angelopoulos et al., 2021). What is
reported is cross-fitted: a row's set never comes of a threshold that its own group has set. No
chance decides, so that sets are a little larger than they have to be, never smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import Units, of_means, t_quantile
from ensembler.errors import RequestError, UnknownNameError
from ensembler.evaluation.predicted import Predicted, open_predictors, predicted_by
from ensembler.evaluation.scores import Split
from ensembler.predictions.store import RunStore
from ensembler.targets.kinds import SINGLE_LABEL, kind_of

Method = Literal["aps", "raps"]
PARTS = 5
_FREE, _PENALTY = (
    2,
    0.05,
)  # of raps: classes without a penalty, and that of each further one
_LEAST_ROWS = 20


@dataclass(frozen=True)
class SetRow:
    """The sets of one member or blend on one part of the rows.

    `covered` is the share of sets that hold the true class, `low` to `high` its 95 % interval;
    `size` the mean number of classes in a set, `single` the share of sets with one class.
    `per_class` has rows and coverage of each class that occurs.
    """

    kind: Literal["member", "blend"]
    name: str
    target: str
    split: Split
    n: int
    covered: float
    low: float
    high: float
    size: float
    single: float
    per_class: dict[str, tuple[int, float]]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        per_class = [
            {"class": name, "n": n, "covered": covered}
            for name, (n, covered) in self.per_class.items()
        ]
        return {**self.__dict__, "per_class": per_class}


@dataclass(frozen=True)
class Conformal:
    """Sets for a wanted coverage, out of fold (cross-fitted) and on held-out rows."""

    coverage: float
    method: Method
    rows: tuple[SetRow, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "coverage": self.coverage,
            "method": self.method,
            "rows": [row.to_json() for row in self.rows],
        }


def check_conformal(coverage: float, method: str) -> Method:
    """Return the name of a method, or raise RequestError for what no set can be made by."""
    if not 0.5 <= coverage < 1:
        raise RequestError(
            f"--conformal {coverage:g}: the wanted coverage is a share from 0.5 to below 1, such "
            "as 0.9"
        )
    known: dict[str, Method] = {"aps": "aps", "raps": "raps"}
    if method not in known:
        raise UnknownNameError("--conformal-method", method, known)
    return known[method]


def evaluate_sets(
    store: RunStore,
    coverage: float,
    method: Method = "raps",
    *,
    members: Sequence[str] | None = None,
    target: str | None = None,
) -> Conformal:
    """Sets of every member and blend of targets with one label a row.

    RequestError where there are too few rows for the wanted coverage, or no such target.
    """
    predictors = open_predictors(store, members)
    rows: list[SetRow] = []
    groups = store.samples.groups()
    for name in predictors.asked_targets(target):
        of_oof: Predicted | None = None
        for predicted in predicted_by(store, predictors, name):
            if kind_of(predicted.y) is not SINGLE_LABEL:
                continue
            if predicted.split == "oof":
                of_oof = predicted
                rows.append(_cross_fitted(predicted, groups, coverage, method))
            elif of_oof is not None and of_oof.name == predicted.name:
                rows.append(_held_out(of_oof, predicted, coverage, method))
    if not rows:
        raise RequestError(
            f"run {store.name!r} has no target with one label a row to make sets of"
        )
    return Conformal(coverage, method, tuple(rows))


def ranked_scores(probs: NDArray[np.floating], method: Method) -> NDArray[np.float64]:
    """How late each class comes into a row's set, `[rows, classes]`.

    It is the probability of all more probable classes, with a penalty for its rank: the most
    probable class comes first, and a row that it is nearly sure of has no other.
    """
    given = np.asarray(probs, np.float64)
    order = np.argsort(-given, axis=1, kind="stable")
    ordered = np.take_along_axis(given, order, axis=1)
    summed = np.cumsum(ordered, axis=1) - ordered
    if method == "raps":
        ranks = np.arange(1, given.shape[1] + 1)
        summed = summed + _PENALTY * np.maximum(ranks - _FREE, 0)
    scores = np.empty_like(summed)
    np.put_along_axis(scores, order, summed, axis=1)
    return scores


def threshold(scores: NDArray[np.float64], coverage: float) -> float:
    """The score up to which classes are in a set, from those `[rows]` of true classes."""
    rank = math.ceil((len(scores) + 1) * coverage)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


def sets_of(scores: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    """Which classes `[rows, classes]` are in each set; the most probable always is."""
    return np.asarray(scores <= max(limit, 0.0))


def _cross_fitted(
    predicted: Predicted, groups: NDArray[np.int64] | None, coverage: float, method: Method
) -> SetRow:
    y, scores = predicted.y, ranked_scores(predicted.probs, method)
    of_true = scores[np.arange(len(y)), y]
    own = None if groups is None else groups[predicted.rows]
    units = Units.of(len(y), own)
    if len(y) < _LEAST_ROWS or len(units.sizes) < PARTS:
        raise RequestError(
            f"{predicted.name!r} has {len(y)} labelled rows in {len(units.sizes)} groups, which "
            "are too few for sets with a known coverage"
        )
    inside = np.zeros(scores.shape, bool)
    for part in _parts(units):
        inside[part] = sets_of(scores[part], threshold(of_true[~part], coverage))
    return _row(predicted, inside, units)


def _parts(units: Units) -> Iterator[NDArray[np.bool_]]:
    """Which rows `[rows]` each part has, whole units together."""
    part = np.arange(len(units.sizes)) % PARTS
    part = np.random.default_rng(0).permutation(part)[units.of_row]
    for number in range(PARTS):
        yield part == number


def _held_out(
    oof: Predicted, held_out: Predicted, coverage: float, method: Method
) -> SetRow:
    of_true = ranked_scores(oof.probs, method)[np.arange(len(oof.y)), oof.y]
    scores = ranked_scores(held_out.probs, method)
    inside = sets_of(scores, threshold(of_true, coverage))
    return _row(held_out, inside, Units.of(len(scores), None))


def _row(predicted: Predicted, inside: NDArray[np.bool_], units: Units) -> SetRow:
    y, sizes = predicted.y, inside.sum(axis=1)
    covered = inside[np.arange(len(y)), y].astype(np.float64)
    uncertain = of_means(covered[None], units)
    reach = t_quantile(uncertain.freedom) * float(uncertain.errors[0])
    share = float(covered.mean())
    per_class = {
        name: (int((y == n).sum()), float(covered[y == n].mean()))
        for n, name in enumerate(predicted.classes)
        if (y == n).any()
    }
    return SetRow(
        predicted.kind,
        predicted.name,
        predicted.target,
        predicted.split,
        len(y),
        share,
        max(0.0, share - reach),
        min(1.0, share + reach),
        float(sizes.mean()),
        float((sizes == 1).mean()),
        per_class,
    )
