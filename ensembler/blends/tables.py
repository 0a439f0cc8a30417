"""What `ens blend` shows of a blend, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ensembler.blending.result import BlendResult
from ensembler.predictions.explanation import BlendExplanation, GainRecord, ReliabilityBin
from ensembler.reporting.tables import Cell, Table, number

MOST_IDLE = 3  # members of weight zero that have a row each; more of them become one line
MOST_ROUNDS = 30  # of a search that are shown
_SCORES = ("cross_fitted", "fitted", "holdout")


def blend_tables(run: str, result: BlendResult, n_rows: int) -> list[Table]:
    """The members of a blend, if it has any, and below them its three scores with its gains."""
    return [*_member_tables(run, result), _scores_table(result, n_rows)]


def _member_tables(run: str, result: BlendResult) -> list[Table]:
    worths = result.details.members
    if not worths:
        return []
    idle, notes = [worth.member for worth in worths if worth.weight == 0], []
    if len(idle) > MOST_IDLE:
        named = ", ".join(idle[:MOST_IDLE])
        notes.append(f"{len(idle)} members have weight zero: {named}, ...")
        worths = tuple(worth for worth in worths if worth.weight != 0)
    rows = [(worth.member, worth.weight, worth.solo, worth.marginal) for worth in worths]
    metric = result.details.searched_by or (
        result.gain["metric"] if result.gain else "score"
    )
    columns = ("member", "weight", f"{metric} alone", "worse without")
    return [Table(title_of(run, result), columns, tuple(rows), notes=tuple(notes))]


def title_of(run: str, result: BlendResult) -> str:
    """What a blend is called above its tables."""
    return f"{run}: blend {result.name} ({result.details.chosen or result.method})"


def _scores_table(result: BlendResult, n_rows: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for metric in result.scores["cross_fitted"] or {}:
        scores = [(result.scores.get(which) or {}).get(metric) for which in _SCORES]
        rows.append((metric, *scores))
    title = f"scores of {result.name} on {n_rows} rows"
    return Table(title, ("metric", *_SCORES), tuple(rows), notes=tuple(_gain_notes(result)))


def _gain_notes(result: BlendResult) -> list[str]:
    notes = []
    if result.gain is not None:
        own = " with thresholds of its own" if result.details.thresholds else ""
        notes.append(_gain_note(GainRecord.model_validate(result.gain), own))
    return notes + [_gain_note(gain) for gain in result.details.gains]


def _gain_note(gain: GainRecord, own: str = "") -> str:
    interval = f"({number(gain.low)} to {number(gain.high)})"
    what = f"gain over {gain.over}{own} in {gain.metric}: {number(gain.value)} {interval}"
    if gain.high is not None and gain.high < 0:
        return f"{what}; worse, beyond noise"
    return what if _is_beyond_noise(gain) else f"{what}; no gain beyond noise"


def _is_beyond_noise(gain: GainRecord) -> bool:
    if gain.beyond_noise is not None:
        return gain.beyond_noise
    return gain.low is not None and gain.low > 0


def explanation_tables(result: BlendResult) -> list[Table]:
    """What was compared, the picks of a search, and how far confidences can be trusted."""
    details = result.details
    tables = []
    if details.candidates:
        families = tuple(details.candidates.items())
        tables.append(
            Table("families compared, cross-fitted", ("family", "score"), families)
        )
    tables += _strength_tables("ridge", details.ridge_scores)
    tables += _strength_tables("shrinkage", details.shrinkage_scores)
    if details.trajectory:
        tables.append(_rounds_table(details, result.members))
    if details.frontier:
        tables.append(_cost_table(details))
    return [*tables, *(_reliability_table(*item) for item in details.reliability.items())]


def _strength_tables(name: str, tried: Mapping[float, float | None]) -> list[Table]:
    rows = [(f"{strength:.3g}", value) for strength, value in tried.items()]
    title = f"{name} tried, cross-fitted log loss"
    return [Table(title, (name, "log loss"), tuple(rows), digits=5)] if rows else []


def _rounds_table(details: BlendExplanation, members: Sequence[str]) -> Table:
    rounds = enumerate(details.trajectory[:MOST_ROUNDS], start=1)
    rows = [(str(i), members[member], value) for i, (member, value) in rounds]
    return Table("rounds of the search", ("round", "added", "score"), tuple(rows))


def _cost_table(details: BlendExplanation) -> Table:
    rows = [
        (", ".join(point.members), f"{point.seconds:.3g}", point.log_loss)
        for point in details.frontier
    ]
    title = "score against inference time (log loss of the best linear pool, fitted rows)"
    return Table(title, ("members", "s a sample", "log loss"), tuple(rows))


def _reliability_table(name: str, bins: Sequence[ReliabilityBin]) -> Table:
    rows = [(f"{b.low:.1f} to {b.high:.1f}", b.n, b.confidence, b.accuracy) for b in bins]
    columns = ("confidence", "rows", "mean confidence", "accuracy")
    return Table(f"reliability of {name}", columns, tuple(rows))
