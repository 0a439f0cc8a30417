"""What `ens ablate` shows, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ensembler.evaluation.tables import gains_table
from ensembler.reporting.tables import Cell, Table, duration

if TYPE_CHECKING:
    from ensembler.experiments.ablate import Ablation


def ablation_tables(ablation: Ablation) -> list[Table]:
    """The variants' scores, and their gains over the first one."""
    rows: list[tuple[Cell, ...]] = []
    for variant in ablation.variants:
        scores = [variant.scores[metric] for metric in ablation.metrics]
        rows.append((variant.name, *scores, duration(variant.seconds)))
    of = f"{ablation.target}, {ablation.n} rows out of fold, {ablation.folds} folds"
    columns = ("variant", *ablation.metrics, "training")
    scores_table = Table(f"{ablation.run}: {of}", columns, tuple(rows))
    return [scores_table, _gains_table(ablation)]


def _gains_table(ablation: Ablation) -> Table:
    first, *others = ablation.variants
    gains = []
    for variant in others:
        gains += [(variant.name, gain) for gain in (variant.gains or {}).values()]
    table = gains_table(first.name, gains, ablation.n_groups)
    return replace(table, notes=(*table.notes, *_seed_notes(ablation.seeds)))


def _seed_notes(seeds: int) -> list[str]:
    if seeds == 1:
        return [
            "One seed each: the intervals do not count how seeds differ; --seeds 3 counts it in."
        ]
    if seeds < 5:
        few = {2: "two", 3: "three"}.get(seeds, str(seeds))
        return [
            f"{few.capitalize()} seeds say little of how seeds differ: the intervals are wider for "
            "it."
        ]
    return []
