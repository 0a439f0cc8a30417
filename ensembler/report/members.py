"""Members and blends side by side, what each member adds, how they learned and how they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import Units, of_means, t_quantile
from ensembler.evaluation.digest import SCORES, Digest
from ensembler.predictions.explanation import Worth
from ensembler.predictions.members import MemberRecord
from ensembler.report.answer import words
from ensembler.report.facts import RunFacts, TargetFacts, position_of
from ensembler.reporting.page import Block, Chart, Section, grid, section
from ensembler.reporting.svg import Interval, Line, intervals, lines, matrix
from ensembler.reporting.tables import Cell, Table

_IN_CHART = 40  # members whose intervals are drawn
_CURVES = 100
_FEW = 8  # members whose learning is drawn one by one
_ROWS = 20_000  # on which members are compared pair by pair


def members_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """The table of all members and blends, and their log losses with intervals."""
    table = Table(
        f"Members and blends of {target.name}, out of fold",
        _columns(target),
        tuple(_row(facts, target, digest) for digest in target.digests),
        notes=("A blend's scores are cross-fitted. Click a column to sort.",),
        best=tuple(i for i, d in enumerate(target.digests) if d is target.shown),
    )
    blocks = [grid(table), _loss_chart(facts, target)]
    return section(
        f"members{suffix}", f"Members and blends{heading_of(facts, target)}", blocks
    )


def heading_of(facts: RunFacts, target: TargetFacts) -> str:
    """What a heading adds where a run has several targets."""
    return f": {target.name}" if len(facts.targets) > 1 else ""


def _columns(target: TargetFacts) -> tuple[str, ...]:
    weight = ("weight", "worse without") if _worths(target) else ()
    return ("name", *map(words, SCORES), *weight, "train time", "rows", "backbone")


def _worths(target: TargetFacts) -> dict[str, Worth]:
    if target.record is None:
        return {}
    return {worth.member: worth for worth in target.record.details.members}


def _row(facts: RunFacts, target: TargetFacts, digest: Digest) -> tuple[Cell, ...]:
    scores = _scores(target, digest)
    worths = _worths(target)
    added: tuple[Cell, ...] = ()
    if worths:
        worth = worths.get(digest.name) if digest.kind == "member" else None
        added = (None, None) if worth is None else (worth.weight, worth.marginal)
    seconds, backbone = None, None
    if digest.kind == "member":
        record = facts.store.member(digest.name).record
        seconds = None if record.seconds is None else f"{record.seconds:.0f} s"
        backbone = str(record.options.get("backbone") or _origin(record))
    return (digest.label, *scores, *added, seconds, len(digest.rows), backbone)


def _origin(record: MemberRecord) -> str:
    if record.imported:
        return "imported"
    return "-" if not record.made_of else f"mean of {len(record.made_of)}"


def _scores(target: TargetFacts, digest: Digest) -> list[float | None]:
    """A digest's scores; of the blend shown those of its record, corrected for its choice."""
    said: dict[str, Any] = {}
    if digest is target.shown and target.record is not None:
        said = target.record.scores.get("cross_fitted") or {}
    return [said.get(name, digest.scores.get(name)) for name in SCORES]


def _loss_chart(facts: RunFacts, target: TargetFacts) -> Chart | None:
    ordered = sorted(target.digests, key=lambda digest: digest.scores["log_loss"])
    if len(ordered) < 2:
        return None
    rows = [_loss_interval(facts, target, digest) for digest in ordered[:_IN_CHART]]
    units = "whole groups" if facts.has_groups else "rows"
    caption = (
        f"Log loss out of fold with 95 % intervals over {units}; lower is better. These intervals "
        "are those of one score by itself: differences of two are surer than they look."
    )
    return Chart(intervals(f"Log loss of {target.name}", "log loss", rows), caption)


def _loss_interval(facts: RunFacts, target: TargetFacts, digest: Digest) -> Interval:
    groups = None if facts.groups is None else facts.groups[digest.rows]
    losses = digest.losses.astype(np.float64)
    found = of_means(losses[None], Units.of(len(losses), groups))
    reach = float(found.errors[0]) * t_quantile(found.freedom)
    mean = float(losses.mean())
    is_shown = digest is target.shown
    if not np.isfinite(reach):
        return Interval(digest.label, mean, np.nan, np.nan, is_shown)
    return Interval(digest.label, mean, mean - reach, mean + reach, is_shown)


def adds_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """What each member adds to the blend that is shown, and what else was compared."""
    record = target.record
    if record is None:
        return []
    worths = [worth for worth in record.details.members if worth.weight != 0]
    metric = record.details.searched_by or (record.gain.metric if record.gain else "score")
    adds = Table(
        f"What each member adds to blend {record.name}",
        ("member", "weight", f"{words(metric)} alone", "worse without"),
        tuple((w.member, w.weight, w.solo, w.marginal) for w in worths),
        notes=(
            "“Worse without”: what the blend loses on the fitted rows without the member.",
        ),
    )
    families = tuple(record.details.candidates.items())
    compared = Table(
        "Families of blends compared, cross-fitted", ("family", "score"), families
    )
    blocks = [grid(adds), grid(compared)]
    return section(
        f"adds{suffix}", f"What each member adds{heading_of(facts, target)}", blocks
    )


# --- learning


def learning_section(facts: RunFacts) -> list[Section]:
    """The losses of every epoch, by member."""
    there = facts.store.complete_members
    names = [member.name for member in facts.members if member.name in there]
    records = [facts.store.member(name).record for name in names]
    curves = [_curve(record, "loss") for record in records][:_CURVES]
    trained = [curve for curve in curves if curve is not None and len(curve.x) > 1]
    judged = [_curve(record, "valid_loss") for record in records][:_CURVES]
    validated = [curve for curve in judged if curve is not None and len(curve.x) > 1]
    blocks = [
        _learning_chart("Training loss", trained),
        _learning_chart("Validation loss", validated),
    ]
    return section("learning", "Learning curves", blocks)


def _curve(record: MemberRecord, key: str) -> Line | None:
    """The mean over folds of what every epoch noted under `key`."""
    folds = [fold for fold in record.history if isinstance(fold, (list, tuple))]
    by_epoch: dict[int, list[float]] = {}
    for fold in folds:
        for epoch in fold:
            value = epoch.get(key) if isinstance(epoch, dict) else None
            if isinstance(value, (int, float)):
                by_epoch.setdefault(int(epoch.get("epoch") or 0), []).append(float(value))
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    means = [float(np.mean(by_epoch[epoch])) for epoch in epochs]
    return Line(record.name, [float(epoch) for epoch in epochs], means)


def _learning_chart(what: str, curves: Sequence[Line]) -> Chart | None:
    if not curves:
        return None
    legend = tuple(curve.name for curve in curves) if len(curves) <= _FEW else ()
    more = "" if legend else " Point at a line to see whose it is."
    caption = f"{what} by epoch, the mean of a member's folds.{more}"
    return Chart(lines(what, "epoch", "loss", curves), caption, legend)


# --- diversity


def diversity_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """Which members decide alike, and which err together."""
    if len(target.members) < 2:
        return []
    names = [digest.name for digest in target.members]
    decided, wrong = _on_common_rows(target)
    if not decided.shape[1]:
        return []
    apart = _disagreement(decided)
    order = _alike(apart)
    ordered = [names[i] for i in order]
    apart = apart[np.ix_(order, order)]
    together = _error_correlation(wrong)[np.ix_(order, order)]
    scale = max(float(apart.max()), 1e-9)
    blocks: list[Block | None] = [
        Chart(
            matrix("Disagreement of members", ordered, ordered, apart / scale, apart),
            "Disagreement: the share of rows that two members decide differently. Members that "
            "stand together are alike; a blend lives from those that are good and apart.",
        ),
        Chart(
            matrix(
                "Error correlation", ordered, ordered, np.clip(together, 0, 1), together
            ),
            "Error correlation: near 1 two members err on the same rows.",
        ),
    ]
    return section(f"diversity{suffix}", f"Diversity{heading_of(facts, target)}", blocks)


def _on_common_rows(target: TargetFacts) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What each member decides, and whether it is wrong `[members, rows]`, on the rows of all."""
    n_train = len(target.y)
    positions = np.stack([position_of(digest, n_train) for digest in target.members])
    common = np.flatnonzero((positions >= 0).all(axis=0))
    if len(common) > _ROWS:
        common = np.sort(np.random.default_rng(0).choice(common, _ROWS, replace=False))
    at = positions[:, common]
    decided = [d.decided[where] for d, where in zip(target.members, at, strict=True)]
    wrong = [~d.right[where] for d, where in zip(target.members, at, strict=True)]
    return np.stack(decided), np.stack(wrong)


def _disagreement(decided: NDArray[np.int64]) -> NDArray[np.float64]:
    n_members = len(decided)
    apart = np.zeros((n_members, n_members))
    for i in range(n_members):
        for j in range(i):
            apart[i, j] = apart[j, i] = (decided[i] != decided[j]).mean()
    return apart


def _error_correlation(wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    centred = wrong - wrong.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).sum(axis=1))
    scale = np.outer(deviation, deviation)
    found = centred @ centred.T / np.where(scale > 0, scale, 1)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def _alike(apart: NDArray[np.float64]) -> list[int]:
    """An order in which like stands by like."""
    if len(apart) < 3:
        return list(range(len(apart)))
    from scipy.cluster.hierarchy import leaves_list, linkage

    above = apart[np.triu_indices(len(apart), 1)]
    return [int(i) for i in leaves_list(linkage(above, "average"))]


def views_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """The scores of each view alone."""
    rows: list[tuple[Cell, ...]] = []
    for digest in target.members:
        for view, scores in digest.views.items():
            rows.append((f"{digest.name} / {view}", scores["accuracy"], scores["log_loss"]))
        if digest.views:
            both = digest.scores["accuracy"], digest.scores["log_loss"]
            rows.append((f"{digest.name} / all together", *both))
    table = Table(
        f"Views of {target.name}, out of fold",
        ("member / view", "accuracy", "log loss"),
        tuple(rows),
    )
    return section(f"views{suffix}", f"Views{heading_of(facts, target)}", [grid(table)])
