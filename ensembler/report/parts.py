"""Scores of folds and groups, and which of them are odd."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import Units, t_quantile, variances_of_means
from ensembler.evaluation.digest import Digest
from ensembler.report.facts import RunFacts, TargetFacts
from ensembler.report.members import heading_of
from ensembler.reporting.page import Block, Section, Text, grid, section
from ensembler.reporting.tables import Cell, Table, number

_GROUPS = 40  # the worst that are listed
_FEWEST = 5  # rows of a group that is listed


def parts_section(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    """Each fold beside the others, and the groups with most to lose."""
    blocks: list[Block | None] = [*_folds(facts, target), _groups(facts, target)]
    heading = "Folds and groups" if facts.has_groups else "Folds"
    return section(f"parts{suffix}", f"{heading}{heading_of(facts, target)}", blocks)


def _folds(facts: RunFacts, target: TargetFacts) -> list[Block | None]:
    digest = target.shown
    fold_of = facts.store.samples.folds()[digest.rows]
    folds = np.unique(fold_of[fold_of >= 0])
    rows: list[tuple[Cell, ...]] = []
    odd = []
    for fold in folds.tolist():
        inside = fold_of == fold
        z, reach = _apart(facts, digest, inside, len(folds))
        remark = ""
        if len(folds) > 1 and abs(z) > reach:
            remark = (
                "odd: harder than the others" if z > 0 else "odd: easier than the others"
            )
            odd.append(_odd_sentence(digest, fold, inside))
        accuracy = float(digest.right[inside].mean())
        loss = float(digest.losses[inside].mean())
        rows.append((str(fold), int(inside.sum()), accuracy, loss, remark))
    table = Table(
        f"Folds of {target.name}, {digest.label}",
        ("fold", "rows", "accuracy", "log loss", ""),
        tuple(rows),
    )
    said = Text(tuple(odd), "bad") if odd else None
    return [said, grid(table)]


def _odd_sentence(digest: Digest, fold: int, inside: NDArray[np.bool_]) -> str:
    here, there = digest.losses[inside].mean(), digest.losses[~inside].mean()
    return (
        f"Fold {fold} is odd: its log loss is {number(float(here))} where the other folds have "
        f"{number(float(there))}, more than rows drawn by chance differ. Look at what is in it."
    )


def _apart(
    facts: RunFacts, digest: Digest, inside: NDArray[np.bool_], n_folds: int
) -> tuple[float, float]:
    """By how many standard errors a fold's log loss differs from the rest, and how many are odd.

    The latter holds for all folds together (Bonferroni).
    """
    if not inside.any() or inside.all():
        return 0.0, np.inf
    here, there = _mean_loss(facts, digest, inside), _mean_loss(facts, digest, ~inside)
    error = np.sqrt(here.variance + there.variance)
    if not np.isfinite(error) or error == 0:
        return 0.0, np.inf
    level = 1 - 0.05 / n_folds
    reach = t_quantile(min(here.freedom, there.freedom), level)
    return (here.mean - there.mean) / error, reach


class _MeanLoss(NamedTuple):
    """A mean log loss, its squared standard error and the degrees of freedom of that."""

    mean: float
    variance: float
    freedom: float


def _mean_loss(facts: RunFacts, digest: Digest, part: NDArray[np.bool_]) -> _MeanLoss:
    losses = digest.losses[part].astype(np.float64)
    groups = None if facts.groups is None else facts.groups[digest.rows][part]
    units = Units.of(len(losses), groups)
    variance = float(variances_of_means(losses[None], units)[0])
    return _MeanLoss(float(losses.mean()), variance, units.freedom)


def _groups(facts: RunFacts, target: TargetFacts) -> Block | None:
    """The groups whose log loss costs most."""
    digest = target.shown
    if facts.groups is None:
        return None
    names = facts.store.samples.train["group"].astype(str).to_numpy()
    group_of = facts.groups[digest.rows]
    sizes = np.bincount(group_of)
    losses = np.bincount(group_of, weights=digest.losses)
    right = np.bincount(group_of, weights=digest.right)
    listed = np.flatnonzero(sizes >= min(_FEWEST, sizes.max()))
    order = listed[np.argsort(-(losses[listed] / sizes[listed]), kind="stable")][:_GROUPS]
    first_row = {int(g): i for i, g in reversed(list(enumerate(facts.groups.tolist())))}
    rows: list[tuple[Cell, ...]] = []
    for group in order.tolist():
        n = int(sizes[group])
        name = str(names[first_row[group]])
        rows.append((name, n, float(right[group] / n), float(losses[group] / n)))
    table = Table(
        f"Groups that are hardest, of {len(listed)} with {_FEWEST} rows or more",
        ("group", "rows", "accuracy", "log loss"),
        tuple(rows),
    )
    return grid(table)
