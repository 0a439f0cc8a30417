"""The kinds of targets: `SINGLE_LABEL`, one label per sample, or `MULTI_LABEL`, any number.

Whatever depends on the kind is a method here, on plain arrays and on cells of `samples.csv`, so
that no other module has to ask which kind it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ensembler import logits as logit
from ensembler.targets import label_sets
from ensembler.targets.label_sets import SetFormat

Labels = NDArray[np.int64]
"""Of a single-label target the class of each row `[rows]`, -1 = unknown.

Of a multi-label target 1 where a row has a label, else 0 `[rows, classes]`, -1 all along an unknown
row.
"""


class TargetKind(ABC):
    """What a label is, whatever the names of the classes are."""

    name: str
    says: str  # what a row has, in messages
    main_decision_metric: str  # the score of decisions that says most in one number
    is_multi_label: bool  # whether a row may have several labels at once, or none

    def __reduce__(self) -> str:
        """Kinds are compared by identity: a copy, even from another process, is the kind itself."""
        return self.name.upper()

    # --- cells of samples.csv

    @abstractmethod
    def names_in(self, texts: Iterable[object]) -> set[str]:
        """All labels that occur in cells."""

    @abstractmethod
    def has_any(self, texts: Iterable[object], names: Iterable[str]) -> NDArray[np.bool_]:
        """Which rows `[rows]` have one of the labels `names`."""

    @abstractmethod
    def encode(self, texts: Sequence[object], classes: Sequence[str]) -> Labels:
        """Cells as labels; raise KeyError for a label that is not among the classes."""

    @abstractmethod
    def strata(self, texts: Sequence[object], at_least: int) -> list[str | None]:
        """What each row is stratified by: its label, or the rarest of several.

        Of several, strata with fewer rows than asked join the largest.
        """

    @abstractmethod
    def strata_codes(
        self, texts: Sequence[object], classes: Sequence[str]
    ) -> NDArray[np.int64]:
        """What each row is stratified by `[rows]` as a number; -1 = unknown."""

    @abstractmethod
    def one_by_one(self, texts: Sequence[object]) -> list[object]:
        """Of each row its label, or a list of its labels; None where they are unknown."""

    # --- labels

    @abstractmethod
    def unknown(self, rows: int, n_classes: int) -> Labels:
        """Labels of rows of which nothing is known."""

    @abstractmethod
    def n_columns(self, n_classes: int) -> int:
        """How many columns labels have `[rows, columns]`: one, or one for each class."""

    @abstractmethod
    def from_columns(self, columns: Labels) -> Labels:
        """Labels of what was split off `[rows, columns]`."""

    # --- probabilities

    @abstractmethod
    def probs(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities `[..., classes]` of logits: their softmax, or the sigmoid of each label."""

    @abstractmethod
    def logits(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Logits `[..., classes]` of probabilities, finite for zeros, too."""

    @abstractmethod
    def logits_of_mean(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """Logits of the mean over the first axis of the probabilities of `logits`."""

    @abstractmethod
    def mean(self, total: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Probabilities `[rows, classes]` of a sum of `count` of them.

        A row of one label sums to 1.
        """

    @abstractmethod
    def decide(self, probs: NDArray[np.floating]) -> Labels:
        """The answers: the most probable class `[rows]`, or 1 from 0.5 `[rows, classes]`."""

    @abstractmethod
    def moved(
        self, before: NDArray[np.floating], after: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """How much probability moved in each row, from 0 to 1 `[rows]`."""

    @abstractmethod
    def decides_otherwise(
        self, before: NDArray[np.floating], after: NDArray[np.floating]
    ) -> NDArray[np.bool_]:
        """Whether a row's answer is another one `[rows]`."""

    @abstractmethod
    def votes(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """The same as 0 and 1 `[rows, classes]`."""

    @abstractmethod
    def most_confident(
        self, probs: NDArray[np.floating], groups: NDArray[np.integer], n_groups: int
    ) -> NDArray[np.float64]:
        """By group `[groups, classes]` its most confident row, or label by label its largest value.

        The first of rows that are equally confident counts.
        """

    @abstractmethod
    def least(self, probs: NDArray[np.floating]) -> float:
        """The smallest probability of any answer, that a label is absent being one."""

    @abstractmethod
    def answers(self, n_classes: int) -> int:
        """Among how many answers the probability of one is shared: all classes, or yes and no."""


class SingleLabel(TargetKind):
    """A row has one label."""

    name = "single_label"
    says = "one label"
    main_decision_metric = "accuracy"
    is_multi_label = False

    def names_in(self, texts: Iterable[object]) -> set[str]:
        """The names in the cells that are not empty."""
        return {text for text in texts if isinstance(text, str)}

    def has_any(self, texts: Iterable[object], names: Iterable[str]) -> NDArray[np.bool_]:
        """Which cells hold one of the names."""
        wanted = set(names)
        return np.array([text in wanted for text in texts], dtype=bool)

    def encode(self, texts: Sequence[object], classes: Sequence[str]) -> Labels:
        """The position of each cell's name among the classes."""
        position = {name: i for i, name in enumerate(classes)}
        found = [position[text] if isinstance(text, str) else -1 for text in texts]
        return np.array(found, dtype=np.int64)

    def strata(self, texts: Sequence[object], at_least: int) -> list[str | None]:  # noqa: ARG002 each class is a stratum
        """The labels themselves."""
        return [text if isinstance(text, str) else None for text in texts]

    def one_by_one(self, texts: Sequence[object]) -> list[object]:
        """The labels themselves."""
        return list(texts)

    def strata_codes(
        self, texts: Sequence[object], classes: Sequence[str]
    ) -> NDArray[np.int64]:
        """The position of each label among the classes."""
        return self.encode(texts, classes)

    def unknown(self, rows: int, n_classes: int) -> Labels:  # noqa: ARG002 one column, whatever the classes
        """-1 `[rows]`."""
        return np.full(rows, -1, dtype=np.int64)

    def n_columns(self, n_classes: int) -> int:  # noqa: ARG002 one column, whatever the classes
        """One."""
        return 1

    def from_columns(self, columns: Labels) -> Labels:
        """The one column."""
        return columns[:, 0]

    def probs(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Their softmax."""
        return logit.softmax(logits)

    def logits(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Their logarithms."""
        return logit.log_probs(probs)

    def logits_of_mean(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """The logarithm of the mean of the softmax."""
        return logit.log_mean_probs(logits)

    def mean(self, total: NDArray[np.float64], count: int) -> NDArray[np.float64]:  # noqa: ARG002 the sum says it
        """Rows that sum to 1."""
        mean: NDArray[np.float64] = total / total.sum(axis=-1, keepdims=True)
        return mean

    def decide(self, probs: NDArray[np.floating]) -> Labels:
        """The most probable class."""
        return probs.argmax(axis=1)

    def moved(
        self, before: NDArray[np.floating], after: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """What one class lost and another won."""
        change: NDArray[np.floating] = np.abs(after - before).sum(axis=1) / 2
        return change

    def decides_otherwise(
        self, before: NDArray[np.floating], after: NDArray[np.floating]
    ) -> NDArray[np.bool_]:
        """Whether another class is the most probable."""
        return np.asarray(self.decide(before) != self.decide(after))

    def votes(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """1 for the most probable class."""
        votes: NDArray[np.float64] = np.eye(probs.shape[1])[self.decide(probs)]
        return votes

    def most_confident(
        self, probs: NDArray[np.floating], groups: NDArray[np.integer], n_groups: int
    ) -> NDArray[np.float64]:
        """The row with the largest probability."""
        out = np.zeros((n_groups, probs.shape[1]))
        # Written in rising confidence, the first of equals last, so that it is what stays.
        order = np.lexsort((-np.arange(len(groups)), probs.max(axis=1)))
        out[groups[order]] = probs[order]
        return out

    def least(self, probs: NDArray[np.floating]) -> float:
        """The smallest probability of a class."""
        return float(probs.min())

    def answers(self, n_classes: int) -> int:
        """All classes."""
        return n_classes


class MultiLabel(TargetKind):
    """A row has any number of labels at once, each a question of its own."""

    name = "multi_label"
    says = "several labels at once"
    main_decision_metric = "f1_macro"
    is_multi_label = True

    def names_in(self, texts: Iterable[object]) -> set[str]:
        """The labels of all sets."""
        return label_sets.labels_in(texts)

    def has_any(self, texts: Iterable[object], names: Iterable[str]) -> NDArray[np.bool_]:
        """Which sets hold one of the names."""
        wanted = set(names)
        sets = (label_sets.read_set(text) or () for text in texts)
        return np.array([not wanted.isdisjoint(labels) for labels in sets], dtype=bool)

    def encode(self, texts: Sequence[object], classes: Sequence[str]) -> Labels:
        """Which of the classes each set holds."""
        return label_sets.indicators(texts, classes)

    def strata(self, texts: Sequence[object], at_least: int) -> list[str | None]:
        """The rarest label of each set."""
        return label_sets.strata(texts, at_least)

    def one_by_one(self, texts: Sequence[object]) -> list[object]:
        """The labels of each set."""
        return [label_sets.read_set(text) for text in texts]

    def strata_codes(
        self,
        texts: Sequence[object],
        classes: Sequence[str],  # noqa: ARG002 the empty set is a stratum, too
    ) -> NDArray[np.int64]:
        """The rarest label of each set, numbered in the order in which they come."""
        strata = label_sets.strata(texts, 1)
        code_of = {name: i for i, name in enumerate(dict.fromkeys(filter(None, strata)))}
        return np.array(
            [-1 if name is None else code_of[name] for name in strata], np.int64
        )

    def unknown(self, rows: int, n_classes: int) -> Labels:
        """-1 `[rows, classes]`."""
        return np.full((rows, n_classes), -1, dtype=np.int64)

    def n_columns(self, n_classes: int) -> int:
        """One for each class."""
        return n_classes

    def from_columns(self, columns: Labels) -> Labels:
        """All columns."""
        return columns

    def probs(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """The sigmoid of each label."""
        return logit.sigmoid(logits)

    def logits(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """The log-odds of each label."""
        return logit.log_odds(probs)

    def logits_of_mean(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """The log-odds of the mean of the sigmoids."""
        return logit.log_odds_of_mean(logits)

    def mean(self, total: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """The mean of each label."""
        mean: NDArray[np.float64] = total / count
        return mean

    def decide(self, probs: NDArray[np.floating]) -> Labels:
        """Every label that is more probable than not."""
        return (probs >= 0.5).astype(np.int64)

    def moved(
        self, before: NDArray[np.floating], after: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """What the labels won or lost, on average of them."""
        change: NDArray[np.floating] = np.abs(after - before).mean(axis=1)
        return change

    def decides_otherwise(
        self, before: NDArray[np.floating], after: NDArray[np.floating]
    ) -> NDArray[np.bool_]:
        """Whether any label is another one."""
        return np.asarray((self.decide(before) != self.decide(after)).any(axis=1))

    def votes(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """1 for every label that is more probable than not."""
        return (probs >= 0.5).astype(np.float64)

    def most_confident(
        self, probs: NDArray[np.floating], groups: NDArray[np.integer], n_groups: int
    ) -> NDArray[np.float64]:
        """The largest value of each label."""
        out = np.zeros((n_groups, probs.shape[1]))
        np.maximum.at(out, groups, probs)
        return out

    def least(self, probs: NDArray[np.floating]) -> float:
        """The smallest probability that a label is there, or is not."""
        return min(float(probs.min()), 1 - float(probs.max()))

    def answers(self, n_classes: int) -> int:  # noqa: ARG002 yes and no, however many labels
        """Yes and no."""
        return 2


SINGLE_LABEL = SingleLabel()
MULTI_LABEL = MultiLabel()


def kind_of(labels: NDArray[np.integer]) -> TargetKind:
    """The kind that labels of this shape are of: `[rows]`, or `[rows, classes]` of 0 and 1."""
    return MULTI_LABEL if labels.ndim == 2 else SINGLE_LABEL


def kind_written_as(form: SetFormat | None) -> TargetKind:
    """The kind of a target whose cells the user's tables write as `form` says."""
    return SINGLE_LABEL if form is None else MULTI_LABEL
