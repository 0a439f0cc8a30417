"""How many labels are wrong, and which: confident learning, and a model of how labels go wrong.

Confident learning (Northcutt et al., 2021) counts rows that are given one class while another one
reaches its own threshold, the mean probability of that class among the rows that are given it. It
takes hard images for wrong labels. The noise model tells the two apart: a given label was drawn
from the true one by a matrix of rates, and where probabilities of another sharpness explain the
labels better, uncertainty is the image's, not the label's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Targets, some_rows
from ensembler.logits import log_probs, sigmoid, softmax

_FLOOR = 1e-12
# How strongly rates of pairs are drawn towards one rate of all (in rows, as a share of those of a
# class): to count wrong labels, and to rank them, where a pair that is hard to tell apart must not
# come first as a whole (docs/labels.md).
TO_COUNT, TO_RANK = 0.3, 1.0
_MOST_STEPS = 60
_STEPS_OF_SHARPNESS = (0.85, 0.95, 1.0, 1.05, 1.15)
_SETTLED = 1e-3  # relative change of the number of wrong rows
_SEARCH_ROWS = 10_000  # enough to choose a sharpness on
_TWO_SIDED = 1.96


@dataclass(frozen=True)
class ConfidentCounts:
    """What confident learning counts.

    `joint` `[given, true]` are rows, scaled to the rows of each given class; `flagged` `[rows]`
    says which rows reach the threshold of another class than the one they are given.
    """

    joint: NDArray[np.float64]
    flagged: NDArray[np.bool_]

    @property
    def wrong(self) -> float:
        """How many rows are given another class than the one they are counted for."""
        return float(self.joint.sum() - np.trace(self.joint))


def count_confident(probs: Probs, given: Targets) -> ConfidentCounts:
    """Count the rows `[rows, classes]` that are confidently of each class, by the class given."""
    n_classes = probs.shape[1]
    sizes = np.bincount(given, minlength=n_classes)
    of_given = probs[np.arange(len(given)), given]
    sums = np.bincount(given, weights=of_given, minlength=n_classes)
    # A class that no row is given has no threshold, and nothing reaches it.
    thresholds = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    reached = np.where(probs >= thresholds, probs, -1.0)
    likely = reached.argmax(axis=1)
    counts = reached.max(axis=1) >= 0
    joint = np.zeros((n_classes, n_classes))
    np.add.at(joint, (given[counts], likely[counts]), 1)
    uncounted = joint.sum(axis=1) == 0
    joint[uncounted, uncounted] = 1
    joint *= (sizes / joint.sum(axis=1))[:, None]
    return ConfidentCounts(joint, counts & (likely != given))


@dataclass(frozen=True)
class LabelNoise:
    """The noise model of some rows.

    `truth` `[rows, classes]` is the probability of each class being the true one, `rates`
    `[true, given]` how labels come about, `sharpness` the power that probabilities are raised to.
    """

    truth: NDArray[np.float64]
    rates: NDArray[np.float64]
    sharpness: float
    given: Targets

    @property
    def wrong(self) -> NDArray[np.float64]:
        """The probability `[rows]` that the given label is wrong.

        Summed over the other classes, so that a tiny one is not lost to rounding.
        """
        others = self.truth.copy()
        others[np.arange(len(self.given)), self.given] = 0.0
        return others.sum(axis=1)

    @property
    def log_odds(self) -> NDArray[np.float64]:
        """The same as log odds `[rows]`, which order also those that are as good as certain."""
        right = self.truth[np.arange(len(self.given)), self.given]
        return np.log(np.maximum(self.wrong, 1e-300)) - np.log(np.maximum(right, 1e-300))

    @property
    def suggested(self) -> Targets:
        """The most probable class `[rows]` other than the given one."""
        others = self.truth.copy()
        others[np.arange(len(self.given)), self.given] = -1.0
        return np.asarray(others.argmax(axis=1), np.int64)

    @property
    def expected(self) -> float:
        """How many rows are expected to be wrong."""
        return float(self.wrong.sum())

    @property
    def deviation(self) -> float:
        """The standard deviation of that number, the model being right."""
        return float(np.sqrt((self.wrong * (1 - self.wrong)).sum()))


def fit_noise(probs: Probs, given: Targets, prior: float = TO_COUNT) -> LabelNoise:
    """Fit the noise model to cross-fitted probabilities `[rows, classes]` and given labels.

    Expectation maximisation: true labels from rates, rates from true labels. Rates of single pairs
    are drawn towards one rate of all, the more so the larger `prior`; where it is infinite there is
    only that one.
    """
    logs = log_probs(probs, _FLOOR)
    n_classes = probs.shape[1]
    strength = prior * len(given) / n_classes
    rates, sharpness = _one_rate(0.05, n_classes), 1.2
    searched = some_rows(len(given), _SEARCH_ROWS)
    expected = np.inf
    noise = LabelNoise(softmax(logs), rates, sharpness, given)
    for step in range(_MOST_STEPS):
        if step % 3 == 0:
            sharpness = _sharpest(logs[searched], given[searched], rates, sharpness)
        truth = softmax(sharpness * logs) * rates.T[given]
        truth /= truth.sum(axis=1, keepdims=True)
        noise = LabelNoise(truth, rates, sharpness, given)
        rates = _rates(truth, given, strength)
        before, expected = expected, noise.expected
        if step > 6 and abs(expected - before) <= _SETTLED * max(expected, 1.0):
            break
    return noise


def _one_rate(rate: float, n_classes: int) -> NDArray[np.float64]:
    """Rates `[true, given]` where any other class is as likely as the next."""
    rates = np.full((n_classes, n_classes), rate / max(n_classes - 1, 1))
    np.fill_diagonal(rates, 1 - rate)
    return rates


def _rates(
    truth: NDArray[np.float64],
    given: Targets,
    strength: float,
) -> NDArray[np.float64]:
    """Rates `[true, given]` that explain which true labels were given which."""
    n_classes = truth.shape[1]
    counts = np.zeros((n_classes, n_classes))
    for label in range(n_classes):
        counts[:, label] = truth[given == label].sum(axis=0)
    wrong_share = 1 - float(np.trace(counts)) / len(given)
    shared = _one_rate(max(wrong_share, 1e-6), n_classes)
    if np.isinf(strength):
        return shared
    counts += strength * shared
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _sharpest(
    logs: NDArray[np.float64], given: Targets, rates: NDArray[np.float64], now: float
) -> float:
    """The sharpness near `now` that explains the given labels best."""
    candidates = [now * factor for factor in _STEPS_OF_SHARPNESS]
    of_given = rates.T[given]
    fits = [
        float(
            np.log(np.maximum((softmax(power * logs) * of_given).sum(axis=1), 1e-300)).sum()
        )
        for power in candidates
    ]
    return candidates[int(np.argmax(fits))]


def with_copies(
    noise: LabelNoise, probs: Probs, copies: Sequence[Sequence[int]]
) -> LabelNoise:
    """The noise model where sets of rows show one image, and so have one true label.

    What the members say of the copies counts once, and each label that a copy was given counts.
    """
    logs = noise.sharpness * log_probs(probs, _FLOOR)
    log_rates = np.log(np.maximum(noise.rates, _FLOOR))
    truth = noise.truth.copy()
    for rows in copies:
        same = list(rows)
        evidence = logs[same].mean(axis=0) + log_rates.T[noise.given[same]].sum(axis=0)
        truth[same] = softmax(evidence)
    return replace(noise, truth=truth)


def with_expected(noise: LabelNoise, expected: float) -> LabelNoise:
    """The noise model with all log odds moved alike, so that `expected` rows are wrong.

    The order of rows stays.
    """
    odds = noise.log_odds
    low, high = -60.0, 60.0
    for _ in range(60):
        shift = (low + high) / 2
        if float(sigmoid(odds + shift).sum()) > expected:
            high = shift
        else:
            low = shift
    wrong = sigmoid(odds + low)
    rows = np.arange(len(noise.given))
    others = noise.truth.copy()
    others[rows, noise.given] = 0.0
    totals = others.sum(axis=1)
    truth = others * (wrong / np.maximum(totals, 1e-300))[:, None]
    truth[rows, noise.given] = sigmoid(-odds - low)
    return replace(noise, truth=truth)


@dataclass(frozen=True)
class WrongRows:
    """How many rows are expected to be wrong, and between what."""

    expected: float
    low: float
    high: float


def count_wrong(noise: LabelNoise, probs: Probs, confident: ConfidentCounts) -> WrongRows:
    """How many labels are wrong.

    Whether a confident answer is right cannot be told without the truth. The interval reaches half
    the way to one rate for all pairs, which takes what two classes share for hard images, and half
    the way to confident learning, which takes it for wrong labels; to both 1.96 deviations are
    added.
    """
    expected = noise.expected
    one_rate = fit_noise(probs, noise.given, prior=np.inf).expected
    margin = _TWO_SIDED * noise.deviation
    low = min(expected, (expected + one_rate) / 2) - margin
    high = max(expected, (expected + confident.wrong) / 2) + margin
    return WrongRows(expected, max(0.0, low), min(float(len(probs)), high))
