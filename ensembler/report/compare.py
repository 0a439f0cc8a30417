"""`ens report RUN --compare RUN2`: paired differences, changed options, and rows that flipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import Gain, paired_gain
from ensembler.blends.origin import metric_of
from ensembler.errors import RequestError
from ensembler.evaluation.digest import Digest
from ensembler.evaluation.predicted import (
    Predicted,
    predicted_by_blend,
    predicted_by_member,
)
from ensembler.predictions.store import RunStore
from ensembler.report.answer import words
from ensembler.report.facts import RunFacts, TargetFacts
from ensembler.report.pictures import Gallery
from ensembler.reporting.page import Block, Section, Text, grid, section
from ensembler.reporting.tables import Cell, Table, number
from ensembler.targets.kinds import Labels

_LISTED = 60  # rows that flipped
_SHOWN = 18  # of each kind, as pictures
_METRICS = ("log_loss", "accuracy", "f1_macro")


def compare_sections(
    here: RunFacts, there: RunFacts, gallery: Gallery | None
) -> list[Section]:
    """How the submitted predictions of two runs differ, on the rows that both predict.

    RequestError when the runs have no row, or no label, in common.
    """
    mine, theirs = _label(here), _label(there)
    _check_same(here, there, mine, theirs)
    ours, others = _shown(here.store, mine), _shown(there.store, theirs)
    common = _common(here.store, there.store, ours, others)
    metrics = tuple(dict.fromkeys((_metric(here.store, mine), *_METRICS)))
    gains = [
        paired_gain(
            metric, common.here, there.store.name, common.there, common.y, common.groups
        )
        for metric in metrics
    ]
    name = f"{here.store.name} and {there.store.name}"
    blocks: list[Block | None] = [
        _in_words(here, there, gains[0], len(common.y)),
        grid(_gains_table(here, there, gains)),
        grid(_options_table(here, there)),
        *_flips(here, there, mine, common, gallery),
    ]
    return section("compare", f"Compared: {name}", blocks)


def _label(facts: RunFacts) -> TargetFacts:
    if facts.label is None:
        raise RequestError(f"run {facts.store.name!r} predicts nothing yet")
    return facts.label


def _check_same(
    here: RunFacts, there: RunFacts, mine: TargetFacts, theirs: TargetFacts
) -> None:
    if mine.name != theirs.name or set(mine.classes) != set(theirs.classes):
        raise RequestError(
            f"{here.store.name} predicts {mine.name} ({len(mine.classes)} classes), "
            f"{there.store.name} {theirs.name} ({len(theirs.classes)}): they cannot be compared"
        )


def _shown(store: RunStore, target: TargetFacts) -> Predicted:
    """The probabilities of what a run's page shows in detail."""
    digest: Digest = target.shown
    if digest.kind == "blend":
        return next(predicted_by_blend(store, store.blend(digest.name)))
    member = store.member(digest.name).for_target(target.name)
    return next(predicted_by_member(store, member, "mean", None, holdout=False))


@dataclass(frozen=True)
class _Common:
    """The labelled rows that two runs predict, in the order of the first."""

    ids: list[str]
    here: NDArray[np.floating]
    there: NDArray[np.floating]
    y: Labels
    groups: NDArray[np.int64] | None


def _common(here: RunStore, there: RunStore, ours: Predicted, others: Predicted) -> _Common:
    """Rows by id, classes by name; rows whose label differs are left out."""
    own_ids = here.samples.train["id"].to_numpy()[ours.rows].tolist()
    other_ids = there.samples.train["id"].to_numpy()[others.rows].tolist()
    position = {name: i for i, name in enumerate(other_ids)}
    mine = [i for i, name in enumerate(own_ids) if name in position]
    theirs = [position[own_ids[i]] for i in mine]
    order = [others.classes.index(name) for name in ours.classes]
    labels = others.y[theirs]
    labels = labels[:, order] if labels.ndim == 2 else _renamed(labels, order)
    same = ours.y[mine] == labels
    kept = same.all(axis=1) if same.ndim == 2 else same
    if not kept.any():
        raise RequestError(
            f"runs {here.name!r} and {there.name!r} have no labelled row in common"
        )
    rows = np.array(mine, np.int64)[kept]
    groups = here.samples.groups()
    return _Common(
        [own_ids[i] for i in rows.tolist()],
        np.asarray(ours.probs)[rows],
        np.asarray(others.probs)[np.array(theirs, np.int64)[kept]][:, order],
        ours.y[rows],
        None if groups is None else groups[ours.rows[rows]],
    )


def _renamed(labels: Labels, order: list[int]) -> Labels:
    """Labels of one order of classes in another."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[labels]


def _metric(store: RunStore, target: TargetFacts) -> str:
    if target.record is None:
        return "log_loss"
    metric = metric_of(store.blend(target.record.name))
    return metric if metric in _METRICS else "log_loss"


def _in_words(here: RunFacts, there: RunFacts, gain: Gain, n: int) -> Text:
    verdicts = {"better": "better", "worse": "worse", "noise": "no better beyond noise"}
    said = (
        f"{here.store.name} is {verdicts[gain.verdict]} than {there.store.name}: the difference in "
        f"{words(gain.metric)} is {number(gain.value)} (95 % interval {number(gain.low)} to "
        f"{number(gain.high)}), paired on {n:,} rows; positive is better."
    )
    return Text((said,), "answer")


def _gains_table(here: RunFacts, there: RunFacts, gains: list[Gain]) -> Table:
    rows = tuple(
        (
            words(gain.metric),
            number(gain.value),
            f"{number(gain.low)} to {number(gain.high)}",
            gain.verdict,
        )
        for gain in gains
    )
    title = f"{here.store.name} over {there.store.name}, paired, out of fold"
    return Table(title, ("score", "difference", "95 % interval", "verdict"), rows)


def _options_table(here: RunFacts, there: RunFacts) -> Table:
    """The keys of the two recipes whose values differ."""
    mine, theirs = _flat(here.store.lock.recipe), _flat(there.store.lock.recipe)
    keys = [key for key in dict.fromkeys([*mine, *theirs]) if key != "name"]
    rows = tuple(
        (key, mine.get(key, "-"), theirs.get(key, "-"))
        for key in keys
        if mine.get(key) != theirs.get(key)
    )
    columns = ("option", here.store.name, there.store.name)
    return Table("Options that differ", columns, rows)


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _flips(
    here: RunFacts,
    there: RunFacts,
    target: TargetFacts,
    common: _Common,
    gallery: Gallery | None,
) -> list[Block | None]:
    """Rows that one run gets right and the other wrong."""
    kind = here.store.kind(target.name)
    encoding = here.store.target(target.name)
    mine, theirs = kind.decide(common.here), kind.decide(common.there)
    right, other_right = _are_right(mine, common.y), _are_right(theirs, common.y)
    written = encoding.write(common.here), encoding.write(common.there)
    names = here.store.name, there.store.name
    blocks: list[Block | None] = []
    parts = ((names[0], right & ~other_right), (names[1], other_right & ~right))
    labels = dict(
        zip(
            here.store.samples.train["id"].tolist(),
            here.store.samples.train[target.name].astype(str).tolist(),
            strict=True,
        )
    )
    for name, flipped in parts:
        where = np.flatnonzero(flipped)
        shift = np.abs(common.here[where] - common.there[where]).sum(axis=1)
        order = where[np.argsort(-shift, kind="stable")]
        rows: list[tuple[Cell, ...]] = [
            (common.ids[i], labels[common.ids[i]], written[0][i], written[1][i])
            for i in order.tolist()
        ]
        title = f"Right in {name} alone: {len(rows):,} of {len(common.y):,} rows"
        if gallery is not None:
            ids = [str(row[0]) for row in rows[:_SHOWN]]
            lines = [[str(cell) for cell in row[1:]] for row in rows[:_SHOWN]]
            blocks.append(gallery.sheet(title, ids, lines))
        table = Table(title, ("id", "label", *names), tuple(rows[:_LISTED]))
        blocks.append(grid(table))
    return blocks


def _are_right(decided: Labels, y: Labels) -> NDArray[np.bool_]:
    same = decided == y
    return same.all(axis=1) if same.ndim == 2 else same
