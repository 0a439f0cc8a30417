"""Corrections of labels that a recipe takes from a file: relabelled, left out or down-weighted.

`ens audit RUN --labels --out fixes.csv` writes such a file, and a person edits it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.data.faults import MOST_NAMED, Remark
from ensembler.data.labels import TRAIN_PREFIX
from ensembler.data.parts import SourcePart
from ensembler.data.spec import Correcting, CorrectionsSpec, DataSpec
from ensembler.data.tables import need_column, read_table
from ensembler.errors import DataError, nearest
from ensembler.targets.label_sets import read_set, write_set

_ACTIONS: tuple[Correcting, ...] = ("relabel", "drop", "weight")
_DONE = {
    "relabel": "relabelled",
    "drop": "left out",
    "weight": "down-weighted",
}


@dataclass(frozen=True)
class Correction:
    """What is done with one row: `label` is what it is labelled afterwards."""

    id: str
    target: str
    given: str
    label: str
    action: Correcting


def correct_labels(
    part: SourcePart, data: DataSpec, *, tolerant: bool = False
) -> tuple[SourcePart, tuple[Correction, ...]]:
    """The train part with the corrections of the recipe, and each that changed something.

    A row of the file has an `id`, the label that is `given` and the one that is `suggested`; where
    there are such columns also a `confidence`, a `target` (default: the first one) and an `action`
    that differs from the recipe's. DataError for a sample that is not there (with `tolerant` it is
    passed over), or whose label is neither of the two: the file was made for other data.
    """
    spec = data.correcting
    if spec is None:
        return part, ()
    wanted = _read(Path(spec.file), spec, data)
    _check_labels(wanted, part.table, spec, data)
    edited = _Edited(part.table.copy(), spec)
    for correction in wanted:
        if edited.concerns(correction, tolerant=tolerant):
            edited.make(correction)
    remarks = (*part.remarks, *_remarks(spec, edited.done))
    part = replace(part, table=edited.table, remarks=remarks)
    kept = ~part.table["id"].isin(edited.dropped)
    return part.choose(np.flatnonzero(kept).tolist()), tuple(edited.done)


@dataclass
class _Edited:
    """A table that is being corrected, what was done, and the ids to leave out."""

    table: pd.DataFrame
    spec: CorrectionsSpec
    done: list[Correction] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.position = {name: i for i, name in enumerate(self.table["id"])}

    def concerns(self, correction: Correction, *, tolerant: bool) -> bool:
        """Whether a correction changes a row; not where the table was corrected itself."""
        row = self.position.get(correction.id)
        if row is None and tolerant:
            return False
        if row is None:
            raise DataError(
                f"{self.spec.file}: no train row has the id {correction.id!r}; "
                f"{nearest(correction.id, self.position, most=3)}"
            )
        now = self.table.loc[row, correction.target]
        if now == correction.label and correction.action == "relabel":
            return False
        if now != correction.given:
            raise DataError(
                f"{self.spec.file}: {correction.id!r} is labelled {now!r}, given there as "
                f"{correction.given!r}; the file was made for other data: run "
                "`ens audit RUN --labels` again"
            )
        return True

    def make(self, correction: Correction) -> None:
        """Make a correction."""
        row = self.position[correction.id]
        if correction.action == "relabel":
            columns = _columns_of(correction.target, self.table)
            self.table.loc[row, columns] = correction.label
        elif correction.action == "drop":
            self.dropped.add(correction.id)
        else:
            self._weigh_less(row)
        self.done.append(correction)

    def _weigh_less(self, row: int) -> None:
        if "weight" not in self.table:
            self.table["weight"] = 1.0
        weights = self.table["weight"].to_numpy(np.float64, copy=True)
        weights[row] *= self.spec.weight
        self.table["weight"] = weights


def _columns_of(target: str, table: pd.DataFrame) -> list[str]:
    """The columns that hold the labels of a target: those scored, and those to train on."""
    return [name for name in (target, f"{TRAIN_PREFIX}{target}") if name in table]


def _check_labels(
    wanted: list[Correction], table: pd.DataFrame, spec: CorrectionsSpec, data: DataSpec
) -> None:
    """Raise DataError for a suggested label that no row has: a slip would be a new class."""
    known = {name: data.kind(name).names_in(table[name]) for name in data.target_names}
    for correction in wanted:
        if correction.action != "relabel":
            continue
        target = correction.target
        named = data.kind(target).names_in([correction.label])
        strange = sorted(
            named - known[target] - set(data.target_specs[target].classes or ())
        )
        if strange:
            raise DataError(
                f"{spec.file}: {correction.id!r}: no row of {target} is labelled {strange[0]!r}; "
                f"{nearest(strange[0], sorted(known[target]))}"
            )


def _read(path: Path, spec: CorrectionsSpec, data: DataSpec) -> list[Correction]:
    """The corrections of a file that are confident enough, in its order."""
    table = read_table(path, DataSpec(source=spec.file))
    for column in ("id", "given", "suggested"):
        need_column(table, column, "data.corrections", path)
    table = table.apply(lambda cells: cells.str.strip())
    if spec.min_confidence > 0:
        need_column(table, "confidence", "data.corrections.min_confidence", path)
    found = []
    for number, row in enumerate(table.to_dict("records"), start=2):
        place = f"{path} row {number}"
        if _confidence(str(row.get("confidence", "1")), place) < spec.min_confidence:
            continue
        found.append(
            _correction({str(k): str(v) for k, v in row.items()}, spec, data, place)
        )
    times = Counter((correction.id, correction.target) for correction in found)
    twice = [pair for pair, n in times.items() if n > 1]
    if twice:
        raise DataError(f"{path}: {twice[0][0]!r} is corrected in several rows; keep one")
    return found


def _confidence(text: str, place: str) -> float:
    value = pd.to_numeric(text or "1", errors="coerce")
    if not 0 <= value <= 1:
        raise DataError(f"{place}: confidence is {text!r}, expected a number from 0 to 1")
    return float(value)


def _correction(
    row: dict[str, str], spec: CorrectionsSpec, data: DataSpec, place: str
) -> Correction:
    action = row.get("action") or spec.action
    if action not in _ACTIONS:
        raise DataError(f"{place}: action is {action!r}; {nearest(action, _ACTIONS)}")
    target = row.get("target") or data.target_names[0]
    if target not in data.target_names:
        raise DataError(
            f"{place}: {target!r} is no target that is read; "
            f"{nearest(target, data.target_names)}"
        )
    given, label = (_as_read(row[key], target, data) for key in ("given", "suggested"))
    if not given:
        raise DataError(f"{place}: given is empty, expected the label that the row has")
    if action == "relabel" and not label:
        raise DataError(
            f"{place}: suggested is empty; name the right label, delete the row, or leave the "
            "sample out with drop in a column action"
        )
    return Correction(row["id"], target, given, label, action)


def _as_read(cell: str, target: str, data: DataSpec) -> str:
    """A cell as the labels of its target are kept: sets have their labels sorted."""
    if target not in data.set_formats:
        return cell
    labels = read_set(cell)
    return "" if labels is None else write_set(labels)


def _remarks(spec: CorrectionsSpec, done: list[Correction]) -> list[Remark]:
    """What was corrected, in a line for each thing that was done."""
    remarks = []
    for action in _ACTIONS:
        ids = [correction.id for correction in done if correction.action == action]
        if not ids:
            continue
        shown = ", ".join(ids[:MOST_NAMED])
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        message = (
            f"{Path(spec.file).name}: {len(ids)} rows {_DONE[action]}: {shown}{more}; "
            "scores are those of the corrected labels"
        )
        remarks.append(Remark("corrected", message))
    return remarks


def corrections_csv(done: tuple[Correction, ...]) -> bytes:
    """Corrections as the file that a run keeps of them."""
    table = pd.DataFrame([correction.__dict__ for correction in done])
    return table.to_csv(index=False, lineterminator="\n").encode()
