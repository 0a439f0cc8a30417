"""What `ens ablate` and `ens tune` show, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ensembler.evaluation.tables import gains_table
from ensembler.reporting.tables import Cell, Table, duration

if TYPE_CHECKING:
    from ensembler.experiments.ablate import Ablation
    from ensembler.experiments.tuner import TuneResult


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


def search_tables(result: TuneResult) -> list[Table]:
    """The trials with the values they had, and how much each value mattered."""
    return [trials_table(result), *importance_tables(result)]


def trials_table(result: TuneResult) -> Table:
    """Each trial, in its order: parallel coordinates, as a table."""
    keys = list(dict.fromkeys(key for found in result.trials for key in found.trial.params))
    rows: list[tuple[Cell, ...]] = []
    best: list[int] = []
    for found in result.trials:
        trial = found.trial
        if trial.number == result.best:
            best.append(len(rows))
        values = [_shown(trial.params[key]) if key in trial.params else "" for key in keys]
        rows.append(
            (
                str(trial.number),
                trial.state,
                "" if trial.value is None else trial.value,
                *values,
                found.folds_done,
                duration(trial.seconds),
            )
        )
    columns = ("trial", "state", result.objective, *keys, "folds", "seconds")
    title = f"{result.run}: study {result.study}"
    failed = [
        f"trial {f.trial.number}: {f.trial.reason}"
        for f in result.trials
        if f.trial.state == "failed"
    ]
    return Table(title, columns, tuple(rows), best=tuple(best), notes=tuple(failed))


def importance_tables(result: TuneResult) -> list[Table]:
    """How much of the differences between trials each key explains, by two ways to say so."""
    if not result.importances:
        return []
    evaluators = list(result.importances)
    keys = list(result.importances[evaluators[0]])
    rows: list[tuple[Cell, ...]] = [
        (key, *(result.importances[name].get(key, "") for name in evaluators))
        for key in keys
    ]
    names = {"ped_anova": "PED-ANOVA", "fanova": "fANOVA"}
    columns = ("importance", *(names[name] for name in evaluators))
    return [Table("What mattered", columns, tuple(rows))]


def _shown(value: object) -> Cell:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)
