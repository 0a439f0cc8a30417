"""Class by class: precision, recall and F1 with intervals, and which is taken for which."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.shares import share_intervals
from ensembler.evaluation.by_class import ClassRow, Confusion, class_rows
from ensembler.evaluation.predicted import (
    Predicted,
    predicted_by_blend,
    predicted_by_member,
)
from ensembler.metrics.confusion import count_confusion
from ensembler.report.facts import RunFacts, TargetFacts
from ensembler.report.members import heading_of
from ensembler.reporting.page import Block, Chart, Section, grid, section
from ensembler.reporting.svg import Interval, Line, intervals, lines, matrix
from ensembler.reporting.tables import Cell, Table, number

_PAIRS = 30  # of the most frequent errors
_IN_CHART = 60  # classes whose F1 is drawn, the worst of more


def classes_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """How each class is told, which are taken for which, and by whom which is told best."""
    rows = _rows_of_shown(facts, target)
    table = Table(
        f"Classes of {target.name}, {target.shown.label}, out of fold",
        ("class", "rows", "precision", "recall", "f1", "95 % interval of f1"),
        tuple(_cells(row) for row in rows),
        notes=(_units(facts),),
        digits=3,
    )
    blocks: list[Block | None] = [grid(table), _f1_chart(rows)]
    if not target.is_multi_label:
        blocks += _confusion(target)
    blocks.append(_by_member(target))
    return section(f"classes{suffix}", f"Classes{heading_of(facts, target)}", blocks)


def _units(facts: RunFacts) -> str:
    units = "whole groups" if facts.has_groups else "rows"
    return f"Intervals are those of {units}; with few rows they are wide."


def _cells(row: ClassRow) -> tuple[Cell, ...]:
    interval = f"{number(row.low, 3)} to {number(row.high, 3)}"
    return (row.class_name, row.n, row.precision, row.recall, row.f1, interval)


def _rows_of_shown(facts: RunFacts, target: TargetFacts) -> list[ClassRow]:
    """A row for each class, of what is looked at in detail."""
    digest, store = target.shown, facts.store
    if not target.is_multi_label:
        predicted = _as_predicted(target)
        return class_rows(predicted, digest.decided, _units_of(facts, digest.rows))
    if digest.kind == "blend":
        found = predicted_by_blend(store, store.blend(digest.name))
    else:
        member = store.member(digest.name).for_target(target.name)
        found = predicted_by_member(store, member, "mean", None, holdout=False)
    predicted = next(found)
    decided = store.kind(target.name).decide(predicted.probs)
    return class_rows(predicted, decided, _units_of(facts, predicted.rows))


def _as_predicted(target: TargetFacts) -> Predicted:
    """What is shown as the rows that are counted, for which decisions are enough."""
    digest = target.shown
    return Predicted(
        digest.kind,
        digest.name,
        target.name,
        target.classes,
        "oof",
        digest.rows,
        np.empty((0, 0)),
        target.y[digest.rows],
    )


def _units_of(facts: RunFacts, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if facts.groups is None:
        return None
    return np.unique(facts.groups[rows], return_inverse=True)[1]


def _f1_chart(rows: list[ClassRow]) -> Chart:
    worst = sorted(rows, key=lambda row: (np.nan_to_num(row.f1, nan=2.0), row.class_name))
    shown = [Interval(row.class_name, row.f1, row.low, row.high) for row in worst]
    which = "the worst first" if len(rows) <= _IN_CHART else f"the worst {_IN_CHART}"
    caption = f"F1 of each class with its 95 % interval, {which}."
    return Chart(intervals("F1 by class", "F1", shown[:_IN_CHART]), caption)


def _confusion(target: TargetFacts) -> list[Block | None]:
    digest, classes = target.shown, target.classes
    counts = count_confusion(digest.decided, target.y[digest.rows], len(classes))
    there = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    confusion = Confusion(digest.kind, digest.name, target.name, "oof", classes, counts)
    pairs = tuple(confusion.worst_pairs(_PAIRS))
    errors = Table(
        f"Most frequent errors of {digest.label}",
        ("true class", "taken for", "rows", "of the class"),
        pairs,
        digits=3,
    )
    chart = Chart(
        matrix("Confusion matrix", classes, classes, counts / there, counts),
        "Confusion matrix: a row for each true class, a column for each class given, shaded by the "
        "share of the true class.",
    )
    return [chart, grid(errors)]


def _by_member(target: TargetFacts) -> Chart | None:
    """The F1 of every class by every member."""
    if len(target.members) < 2:
        return None
    f1 = np.stack([digest.f1 for digest in target.members])
    names = [digest.name for digest in target.members]
    caption = "F1 of each class by member: rows are members, columns classes."
    return Chart(matrix("F1 by member and class", names, target.classes, f1, f1), caption)


def calibration_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """Whether what is said with confidence p is right in a share p of cases."""
    shown = target.shown
    digests = [shown, *[digest for digest in target.members if digest is not shown][:3]]
    curves = []
    for digest in digests:
        bins = _bins(digest.confidence, digest.right)
        curves.append(Line(digest.label, [b[1] for b in bins], [b[2] for b in bins]))
    chart = Chart(
        lines("Reliability", "confidence", "share right", curves, diagonal=True),
        "Reliability out of fold: on the dashed line, predictions are right as often as they say. "
        "Below it they are too sure of themselves.",
        tuple(curve.name for curve in curves),
    )
    rows: list[tuple[Cell, ...]] = []
    bins = _bins(shown.confidence, shown.right)
    interval = share_intervals(
        np.array([b[2] * b[0] for b in bins]), np.array([float(b[0]) for b in bins])
    )
    for (n, confidence, right), low, high in zip(
        bins, interval.low, interval.high, strict=True
    ):
        said = f"{number(low, 3)} to {number(high, 3)}"
        rows.append((f"{confidence:.3f}", n, right, said))
    table = Table(
        f"Reliability of {shown.label}",
        ("mean confidence", "rows", "share right", "95 % interval"),
        tuple(rows),
        digits=3,
    )
    blocks = [chart, _before_and_after(target), grid(table)]
    return section(
        f"calibration{suffix}", f"Calibration{heading_of(facts, target)}", blocks
    )


def _bins(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], n_bins: int = 10
) -> list[tuple[int, float, float]]:
    """Rows, mean confidence and share right of each bin of confidence that is not empty."""
    bin_of = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    found = []
    for b in np.unique(bin_of):
        inside = bin_of == b
        n = int(inside.sum())
        found.append((n, float(confidence[inside].mean()), float(right[inside].mean())))
    return found


def _before_and_after(target: TargetFacts) -> Chart | None:
    """The blend's reliability before and after its calibration, where it says both."""
    kept = {} if target.record is None else target.record.details.reliability
    if len(kept) < 2:
        return None
    curves = []
    for name, bins in kept.items():
        x = [b.confidence if b.confidence is not None else np.nan for b in bins]
        y = [b.accuracy if b.accuracy is not None else np.nan for b in bins]
        curves.append(Line(name, x, y))
    svg = lines(
        "Reliability before and after", "confidence", "share right", curves, diagonal=True
    )
    caption = "The blend before and after its calibration."
    return Chart(svg, caption, tuple(curve.name for curve in curves))
