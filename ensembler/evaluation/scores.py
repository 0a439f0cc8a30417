"""The scores of a run, as plain values and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ensembler.reporting.tables import Table, html_of

Split = Literal["oof", "holdout"]
SHOWN = ("accuracy", "f1_macro", "log_loss", "ece")
_TITLES = {
    "oof": "out of fold (a blend's figures are cross-fitted)",
    "holdout": "holdout (never used for fitting)",
}


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one member or blend on one part of the rows."""

    kind: Literal["member", "blend"]
    name: str
    target: str
    split: Split
    n: int
    metrics: dict[str, float]
    submitted: bool = False
    view: str | None = None
    fitted: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values; keys that say nothing are left out."""
        optional = {"view": self.view, "fitted": self.fitted}
        content = {k: v for k, v in self.__dict__.items() if k not in optional}
        return content | {k: v for k, v in optional.items() if v is not None}


@dataclass(frozen=True)
class Evaluation:
    """All scores of a run.

    `optimistic` names members whose training was chosen by the rows they are scored on, `unscored`
    those whose test rows are predicted by other networks than are scored out of fold, `students`
    those that learned from networks which have seen the labels that they are scored by.
    """

    run: str
    classes: tuple[str, ...]
    rows: tuple[ScoreRow, ...] = field(default_factory=tuple)
    optimistic: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    students: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens evaluate --json` prints."""
        rows = [row.to_json() for row in self.rows]
        return {
            "run": self.run,
            "classes": list(self.classes),
            "rows": rows,
            "flattered": [*self.optimistic, *self.students],
            "unscored": list(self.unscored),
        }

    def tables(self, metrics: Sequence[str] = SHOWN) -> list[Table]:
        """A table of the out-of-fold scores and one of the holdout, where there are rows of it."""
        tables = []
        for split, title in _TITLES.items():
            rows = [row for row in self.rows if row.split == split]
            if rows:
                tables.append(_scores_table(f"{self.run}: {title}", rows, metrics))
        return tables

    def _repr_html_(self) -> str:
        return html_of(self.tables())


def _scores_table(title: str, rows: Sequence[ScoreRow], metrics: Sequence[str]) -> Table:
    names_target = len({row.target for row in rows}) > 1
    body = []
    for row in rows:
        scores = [row.metrics.get(metric) for metric in metrics]
        body.append((_label(row, names_target=names_target), *scores, row.n))
    first = "target / name" if names_target else "name"
    best = tuple(i for i, row in enumerate(rows) if row.submitted)
    return Table(title, (first, *metrics, "rows"), tuple(body), best=best)


def _label(row: ScoreRow, *, names_target: bool) -> str:
    label = f"{row.name} / {row.view}" if row.view else row.name
    if row.kind == "blend":
        label = f"blend {label}"
    if names_target:
        label = f"{row.target} / {label}"
    return f"{label} (submitted)" if row.submitted else label
