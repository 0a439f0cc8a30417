"""`ens audit RUN --labels`: which labels of train rows are wrong, by out-of-fold predictions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.blending.judging.guards import look_at, suspected
from ensembler.blending.multi_label import yes_or_no
from ensembler.blending.pool import Pool
from ensembler.blends.pool import read_pool
from ensembler.evaluation.label_beliefs import believed, group_beliefs, labels_of_others
from ensembler.evaluation.label_noise import (
    TO_RANK,
    LabelNoise,
    WrongRows,
    count_confident,
    count_wrong,
    fit_noise,
    with_copies,
    with_expected,
)
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.tables import Table
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import write_set

_MOST_SHOWN = 20  # suspects in a table
_MOST_PAIRS = 10
# Below this many suspects are the members' own mistakes (docs/labels.md).
_WEAK = 0.7


@dataclass(frozen=True)
class Suspect:
    """A row whose label may be wrong.

    `confidence` is the probability that it is, `agreement` the share of members that answer
    `suggested`, `group_agreement` the share of the group's other rows that are labelled so (None:
    there are none), and `copies` the ids of rows that show the same image with another label.
    """

    id: str
    given: str
    suggested: str
    confidence: float
    rank: int
    agreement: float
    group_agreement: float | None = None
    copies: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As an entry of the object that `ens audit RUN --labels --json` prints."""
        return {**self.__dict__, "copies": list(self.copies)}


@dataclass(frozen=True)
class LabelErrors:
    """The suspects among `n` rows, the most suspect first, and how many labels are wrong.

    `first_target` is the one that a recipe's corrections are of when they name none, `composition`
    how the run's label is composed.
    """

    run: str
    target: str
    n: int
    members: tuple[str, ...]
    labels: tuple[Suspect, ...]
    wrong: WrongRows
    warnings: tuple[str, ...] = ()
    first_target: str = "label"
    composition: Composition | None = None

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens audit RUN --labels --json` prints."""
        return {
            "run": self.run,
            "target": self.target,
            "n": self.n,
            "members": list(self.members),
            "labels": [suspect.to_json() for suspect in self.labels],
            "expected_wrong": self.wrong.expected,
            "low": self.wrong.low,
            "high": self.wrong.high,
            "warnings": list(self.warnings),
        }

    def corrections(self) -> bytes:
        """The suspects as a CSV that a person edits and a recipe takes as `data.corrections`.

        Of a composed class the tasks that differ are named, for these are what a recipe reads.
        """
        rows = list(chain.from_iterable(map(self._rows_of, self.labels)))
        columns = ["id", "given", "suggested", "confidence", "target"]
        table = pd.DataFrame(rows, columns=columns)
        if (table["target"] == self.first_target).all():
            table = table.drop(columns="target")
        return table.to_csv(index=False, lineterminator="\n").encode()

    def _rows_of(self, suspect: Suspect) -> list[tuple[str, str, str, float, str]]:
        confidence = round(suspect.confidence, 4)
        composed = self.composition
        if composed is None or composed.name != self.target:
            return [(suspect.id, suspect.given, suspect.suggested, confidence, self.target)]
        parts_of = dict(zip(composed.classes, composed.parts, strict=True))
        given, suggested = parts_of[suspect.given], parts_of[suspect.suggested]
        return [
            (suspect.id, before, after, confidence, task)
            for task, before, after in zip(composed.tasks, given, suggested, strict=True)
            if before != after
        ]

    @property
    def verdict(self) -> str:
        """One sentence on how many labels are wrong."""
        wrong = self.wrong
        return (
            f"{wrong.expected:.0f} of {self.n} labels are expected to be wrong "
            f"({wrong.low:.0f} to {wrong.high:.0f}); {len(self.labels)} are listed"
        )

    def tables(self) -> list[Table]:
        """The first suspects, and which classes are taken for each other."""
        return [self._suspects_table(), self._pairs_table()] if self.labels else []

    def _suspects_table(self) -> Table:
        rows = [
            (
                suspect.id,
                suspect.given,
                suspect.suggested,
                suspect.confidence,
                suspect.agreement,
                suspect.group_agreement,
                len(suspect.copies) or None,
            )
            for suspect in self.labels[:_MOST_SHOWN]
        ]
        columns = ("id", "given", "suggested", "wrong", "members", "group", "copies")
        notes = (
            "wrong: the probability that the label is; members and group: the share that says as "
            "suggested.",
        )
        title = f"{self.run}: suspect labels of {self.target}"
        return Table(title, columns, tuple(rows), notes=notes, digits=2)

    def _pairs_table(self) -> Table:
        wrong_of: dict[tuple[str, str], float] = {}
        for suspect in self.labels:
            pair = suspect.given, suspect.suggested
            wrong_of[pair] = wrong_of.get(pair, 0.0) + suspect.confidence
        most = sorted(wrong_of.items(), key=lambda item: -item[1])[:_MOST_PAIRS]
        rows = [(*pair, wrong) for pair, wrong in most]
        columns = ("given", "suggested", "expected wrong")
        return Table("pairs of classes", columns, tuple(rows), digits=1)


def find_label_errors(
    store: RunStore,
    members: Sequence[str] | None = None,
    *,
    target: str | None = None,
    copies: Collection[Collection[str]] = (),
    progress: Progress = QUIET,
) -> LabelErrors:
    """Rank the train rows of a run by how likely their label is wrong.

    Only out-of-fold predictions are used, of all members of the pool or of those named. `copies`
    are sets of ids whose images show the same.
    """
    read = read_pool(store, members, target=target, common_rows=True)
    pool, warnings = _without_leaks(read.pool)
    warnings += _weakness_of(pool)
    all_ids = store.samples.train["id"].tolist()
    ids = tuple(all_ids[i] for i in read.rows.tolist())
    rows = Rows(ids, pool, _positions_of(copies, ids))
    judged = Judged.of(rows, progress)
    return LabelErrors(
        run=store.name,
        target=read.target,
        n=len(ids),
        members=pool.names,
        labels=judged.suspects(),
        wrong=judged.wrong,
        warnings=warnings,
        first_target=_first_read(store),
        composition=store.composition,
    )


def _first_read(store: RunStore) -> str:
    """The first target that is read from the data: a composed class is made of others."""
    composed = store.composition
    read = [
        name for name in store.samples.targets if composed is None or name != composed.name
    ]
    return read[0]


def _without_leaks(pool: Pool) -> tuple[Pool, tuple[str, ...]]:
    """The pool without members that seem to have trained on their out-of-fold rows.

    Such a member takes every wrong label for right.
    """
    looked_at = yes_or_no(pool) if pool.y.ndim == 2 else pool
    leaked = suspected(look_at(looked_at))
    kept = [name for name in pool.names if name not in leaked]
    if not leaked or not kept:
        return pool, ()
    warnings = [
        f"member {name!r} seems to have trained on its out-of-fold rows, and is left out"
        for name in leaked
    ]
    return pool.choose(kept), tuple(warnings)


def _positions_of(
    copies: Collection[Collection[str]], ids: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Sets of ids as sets of positions among `ids`; a set needs two of them."""
    position = {name: i for i, name in enumerate(ids)}
    sets = [sorted(position[name] for name in same if name in position) for same in copies]
    return tuple(sorted(tuple(same) for same in sets if len(same) > 1))


@dataclass(frozen=True)
class Rows:
    """The rows that are judged; `copies` are sets of positions that show one image.

    Of a multi-label target each label of a row is judged, as yes or no: a row then has a cell for
    every label, else one.
    """

    ids: tuple[str, ...]
    pool: Pool
    copies: tuple[tuple[int, ...], ...] = ()

    @property
    def n_cells(self) -> int:
        """How many answers of a row are judged."""
        return self.pool.y.shape[1] if self.pool.y.ndim == 2 else 1

    @cached_property
    def cells(self) -> Pool:
        """The pool with a row for each cell."""
        return yes_or_no(self.pool) if self.pool.y.ndim == 2 else self.pool

    @cached_property
    def groups_of_cells(self) -> NDArray[np.int64] | None:
        """What is a group `[cells]`: one cell of the rows of a group; None without groups."""
        if self.pool.groups is None:
            return None
        cell = np.arange(self.n_cells)
        return np.asarray(
            (self.pool.groups[:, None] * self.n_cells + cell).ravel(), np.int64
        )

    @property
    def copies_of_cells(self) -> list[list[int]]:
        """The sets of copies as sets of cells."""
        sets = []
        for same in self.copies:
            first = np.array(same) * self.n_cells
            sets += [(first + cell).tolist() for cell in range(self.n_cells)]
        return sets

    def text(self, answers: NDArray[np.int64]) -> str:
        """The answers `[cells]` of one row as `samples.csv` writes them."""
        if self.pool.y.ndim == 1:
            return self.pool.classes[int(answers[0])]
        return write_set(self.pool.classes[i] for i in np.flatnonzero(answers))


@dataclass(frozen=True)
class Judged:
    """Rows and what is believed of their labels; `noise` is that of their cells."""

    rows: Rows
    noise: LabelNoise
    wrong: WrongRows
    n_flagged: int

    @classmethod
    def of(cls, rows: Rows, progress: Progress) -> Judged:
        """Judge rows by members, groups and copies."""
        cells = rows.cells
        of_groups = None
        if rows.groups_of_cells is not None:
            of_groups = group_beliefs(cells.y, rows.groups_of_cells, len(cells.classes))
        probs = believed(cells, of_groups, progress)
        confident = count_confident(probs, cells.y)
        of_cells = count_wrong(fit_noise(probs, cells.y), probs, confident)
        noise = with_expected(fit_noise(probs, cells.y, TO_RANK), of_cells.expected)
        noise = with_copies(noise, probs, rows.copies_of_cells)
        shape = (len(rows.ids), rows.n_cells)
        expected = float(_any(noise.wrong.reshape(shape)).sum())
        # Copies, and several wrong labels of one row, change the number of rows, not the doubt.
        factor = expected / max(of_cells.expected, 1e-9)
        low, high = of_cells.low * factor, of_cells.high * factor
        wrong = WrongRows(expected, low, min(high, len(rows.ids)))
        flagged = confident.flagged.reshape(shape).any(axis=1)
        return cls(rows, noise, wrong, int(flagged.sum()))

    def suspects(self) -> tuple[Suspect, ...]:
        """The suspects, the most suspect first.

        As many as confident learning flags, and at least twice as many as are expected to be wrong.
        """
        n_rows = len(self.rows.ids)
        n_listed = min(n_rows, max(math.ceil(2 * self.wrong.expected), self.n_flagged))
        odds = self.noise.log_odds.reshape(n_rows, -1)
        worst = odds.argmax(axis=1)
        by_rank = np.lexsort((np.array(self.rows.ids), -odds.max(axis=1)))[:n_listed]
        confidence = _any(self.noise.wrong.reshape(n_rows, -1))
        suspects = []
        for rank, row in enumerate(by_rank.tolist(), start=1):
            given, suggested = self._answers(row, int(worst[row]))
            cell = row * self.rows.n_cells + int(worst[row])
            suspects.append(
                Suspect(
                    id=self.rows.ids[row],
                    given=self.rows.text(given),
                    suggested=self.rows.text(suggested),
                    confidence=float(confidence[row]),
                    rank=rank,
                    agreement=float(self._agreement[cell]),
                    group_agreement=self._group_agreement(cell),
                    copies=self._copies_otherwise.get(row, ()),
                )
            )
        return tuple(suspects)

    def _answers(self, row: int, worst: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The given and the suggested answers `[cells]` of a row, whose cell `worst` is suspect."""
        cells = slice(row * self.rows.n_cells, (row + 1) * self.rows.n_cells)
        given = self.noise.given[cells]
        is_wrong = self.noise.wrong[cells] > 0.5
        is_wrong[worst] = True
        return given, np.where(is_wrong, self._suggested[cells], given)

    @cached_property
    def _suggested(self) -> NDArray[np.int64]:
        return self.noise.suggested

    @cached_property
    def _agreement(self) -> NDArray[np.float64]:
        """The share of members `[cells]` that answer as suggested."""
        total = np.zeros(len(self.noise.given))
        for probs in self.rows.cells.oof:
            total += probs.argmax(axis=1) == self._suggested
        return total / len(self.rows.pool.names)

    @cached_property
    def _labels_of_others(self) -> NDArray[np.float64] | None:
        groups = self.rows.groups_of_cells
        if groups is None:
            return None
        return labels_of_others(self.noise.given, groups, len(self.rows.cells.classes))

    def _group_agreement(self, cell: int) -> float | None:
        """The share of the other rows of a cell's group that are labelled as suggested."""
        if self._labels_of_others is None:
            return None
        others = self._labels_of_others[cell]
        return float(others[self._suggested[cell]] / others.sum()) if others.any() else None

    @cached_property
    def _copies_otherwise(self) -> dict[int, tuple[str, ...]]:
        """The ids of rows that show the same image and have another label, by row."""
        given = self.noise.given.reshape(len(self.rows.ids), -1)
        found = {}
        for same in self.rows.copies:
            for row in same:
                others = [o for o in same if (given[o] != given[row]).any()]
                found[row] = tuple(self.rows.ids[o] for o in others)
        return found


def _any(wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability `[rows]` that any of the cells `[rows, cells]` is wrong."""
    return np.asarray(1 - np.prod(1 - wrong, axis=1))


def _weakness_of(pool: Pool) -> tuple[str, ...]:
    """A warning of members whose own mistakes hide those of the labels."""
    if pool.y.ndim == 2:
        return ()
    share = float(np.mean(np.mean(pool.oof, axis=0).argmax(axis=1) == pool.y))
    if share >= _WEAK:
        return ()
    return (
        f"the members together name the given class in {share:.0%} of the rows; many suspects of "
        "members as weak as that are their own mistakes, and the number that is expected to be "
        "wrong is too high: look at each before you correct it",
    )
