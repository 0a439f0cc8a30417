"""The rows to look at: hardest, most disputed, and those whose label may be wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import StoreError
from ensembler.evaluation.digest import VERSION, keep
from ensembler.evaluation.label_errors import find_label_errors
from ensembler.predictions.records import Record, read_record
from ensembler.progress import QUIET, Progress
from ensembler.report.facts import RunFacts, TargetFacts, position_of
from ensembler.report.members import heading_of
from ensembler.report.pictures import Gallery
from ensembler.reporting.page import Block, Section, Text, grid, section
from ensembler.reporting.tables import Cell, Table

_LISTED = 40  # rows of a table
_SHOWN = 24  # pictures of a sheet
_MOST_BYTES = 40_000_000  # of probabilities that are read to judge labels
_MOST_MEMBERS = 12  # that judge them


def rows_sections(
    facts: RunFacts, gallery: Gallery | None, progress: Progress = QUIET
) -> list[Section]:
    """The rows of the label to look at, with their pictures where there are any."""
    target = facts.label
    if target is None:
        return []
    sections: list[Section] = []
    with facts.faults.noted("labels that may be wrong"):
        sections += _wrong_labels(facts, target, gallery, progress)
    with facts.faults.noted("hardest rows"):
        sections += _hardest(facts, target, gallery)
    with facts.faults.noted("disputed rows"):
        sections += _disputed(facts, target, gallery)
    return sections


def _hardest(
    facts: RunFacts, target: TargetFacts, gallery: Gallery | None
) -> list[Section]:
    digest = target.shown
    order = np.argsort(-digest.losses, kind="stable")[:_LISTED]
    order = order[~digest.right[order]]
    ids = _ids(facts, digest.rows[order])
    given = _labels(facts, target, digest.rows[order])
    said = _answers(target, digest.decided[order])
    losses = digest.losses[order].tolist()
    table = Table(
        f"Rows with the largest log loss, {digest.label}, out of fold",
        ("id", "label", "taken for", "log loss"),
        tuple(zip(ids, given, said, losses, strict=True)),
        digits=2,
    )
    lines = [_taken_for(*pair) for pair in zip(given, said, strict=True)]
    sheet = _sheet(gallery, "The hardest", ids, lines)
    blocks = [sheet, grid(table)]
    return section("hardest", f"Hardest rows{heading_of(facts, target)}", blocks)


def _taken_for(given: str, said: str | None) -> list[str]:
    return [given] if said is None else [given, f"taken for {said}"]


def _disputed(
    facts: RunFacts, target: TargetFacts, gallery: Gallery | None
) -> list[Section]:
    """Rows on which the members disagree most."""
    members = target.members
    if len(members) < 3:
        return []
    n_train = len(target.y)
    positions = np.stack([position_of(digest, n_train) for digest in members])
    rows = np.flatnonzero((positions >= 0).all(axis=0))
    if not len(rows):
        return []
    at = positions[:, rows]
    decided = np.stack([d.decided[where] for d, where in zip(members, at, strict=True)])
    answers, share = _answers_of_rows(decided)
    order = np.lexsort((share, -answers))[:_LISTED]
    order = order[answers[order] > 1]
    ids = _ids(facts, rows[order])
    given = _labels(facts, target, rows[order])
    cells: list[tuple[Cell, ...]] = [
        (name, label, int(answers[i]), float(share[i]))
        for name, label, i in zip(ids, given, order.tolist(), strict=True)
    ]
    table = Table(
        f"Rows on which {len(members)} members disagree most",
        ("id", "label", "different answers", "share of the most frequent"),
        tuple(cells),
        digits=2,
    )
    lines = [
        [label, f"{int(answers[i])} answers"] for label, i in zip(given, order, strict=True)
    ]
    sheet = _sheet(gallery, "The most disputed", ids, lines)
    blocks = [sheet, grid(table)]
    return section("disputed", f"Disputed rows{heading_of(facts, target)}", blocks)


def _answers_of_rows(
    decided: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of `decided` `[members, rows]`: how many answers a row has, and the share of the first."""
    ordered = np.sort(decided, axis=0)
    starts = np.ones(ordered.shape, bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    answers = starts.sum(axis=0)
    longest = np.zeros(ordered.shape[1], np.int64)
    length = np.zeros(ordered.shape[1], np.int64)
    for is_start in starts:
        length = np.where(is_start, 1, length + 1)
        longest = np.maximum(longest, length)
    return answers, longest / len(decided)


def _wrong_labels(
    facts: RunFacts, target: TargetFacts, gallery: Gallery | None, progress: Progress
) -> list[Section]:
    members = _judges(target)
    if not members:
        return []
    found = _judged(facts, target, members, progress)
    if not found.suspects:
        return []
    said = f"{found.verdict}, as {len(members)} members judge by out-of-fold predictions alone."
    how = f"`ens audit {facts.store.name} --labels --out fixes.csv` lists all of them."
    ids = [suspect.id for suspect in found.suspects]
    lines = [[suspect.given, f"rather {suspect.suggested}?"] for suspect in found.suspects]
    blocks: list[Block | None] = [
        Text((said, how)),
        _sheet(gallery, "The most suspect", ids, lines),
        grid(_suspects(found)),
    ]
    return section("labels", f"Labels that may be wrong{heading_of(facts, target)}", blocks)


class _Suspect(Record):
    """A row whose label may be wrong, as `LabelErrors` has it."""

    id: str
    given: str
    suggested: str
    confidence: float
    agreement: float


class _Judged(Record):
    """The first suspects, how many there are, and one sentence on how many labels are wrong."""

    verdict: str
    n_suspects: int
    suspects: tuple[_Suspect, ...]


def _judged(
    facts: RunFacts, target: TargetFacts, members: Sequence[str], progress: Progress
) -> _Judged:
    """What the members say of the labels; it takes a while, and is kept."""
    kept = _kept_at(facts, target, members)
    if kept is not None and kept.is_file():
        try:
            return read_record(kept, _Judged)
        except StoreError:
            progress.note(f"{kept} was altered; labels are judged again")
    found = find_label_errors(facts.store, members, target=target.name, progress=progress)
    suspects = tuple(
        _Suspect(
            id=s.id,
            given=s.given,
            suggested=s.suggested,
            confidence=s.confidence,
            agreement=s.agreement,
        )
        for s in found.labels[:_LISTED]
    )
    judged = _Judged(verdict=found.verdict, n_suspects=len(found.labels), suspects=suspects)
    if kept is not None:
        keep(kept, json.dumps(judged.to_json()).encode())
    return judged


def _kept_at(facts: RunFacts, target: TargetFacts, members: Sequence[str]) -> Path | None:
    """Where the judgement of these members' predictions is kept."""
    if facts.cache is None:
        return None
    store = facts.store
    sums = [dict(store.member(name).record.sha256) for name in members]
    made_of = [VERSION, store.samples_sha256, target.name, target.classes, members, sums]
    digest = hashlib.sha256(json.dumps(made_of, default=list).encode()).hexdigest()
    return facts.cache / f"labels-{digest[:32]}.json"


def _judges(target: TargetFacts) -> list[str]:
    """The members that judge labels: those of most weight, as many as fit into memory."""
    weights = {} if target.record is None else target.record.weights or {}
    names = [digest.name for digest in target.members]
    by_weight = sorted(names, key=lambda name: -weights.get(name, 0.0))
    a_member = len(target.y) * len(target.classes) * 4
    most = min(_MOST_MEMBERS, max(1, _MOST_BYTES // max(a_member, 1)))
    return by_weight[:most]


def _suspects(found: _Judged) -> Table:
    rows = tuple(
        (s.id, s.given, s.suggested, s.confidence, s.agreement) for s in found.suspects
    )
    columns = (
        "id",
        "given",
        "suggested",
        "probability that it is wrong",
        "members that say so",
    )
    title = f"The first {len(rows)} of {found.n_suspects} suspect labels"
    return Table(title, columns, rows, digits=2)


def _sheet(
    gallery: Gallery | None, title: str, ids: Sequence[str], lines: Sequence[Sequence[str]]
) -> Block | None:
    if gallery is None:
        return None
    return gallery.sheet(title, ids[:_SHOWN], lines[:_SHOWN])


def _ids(facts: RunFacts, rows: NDArray[np.int64]) -> list[str]:
    return [str(name) for name in facts.store.samples.train["id"].iloc[rows]]


def _labels(facts: RunFacts, target: TargetFacts, rows: NDArray[np.int64]) -> list[str]:
    return [str(label) for label in facts.store.samples.train[target.name].iloc[rows]]


def _answers(target: TargetFacts, decided: NDArray[np.int64]) -> list[str | None]:
    """The classes that were given; None for sets of labels, which a digest does not name."""
    if target.is_multi_label:
        return [None] * len(decided)
    return [target.classes[c] for c in decided.tolist()]
