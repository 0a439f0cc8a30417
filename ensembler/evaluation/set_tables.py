"""What `ens evaluate --conformal` and `--shift` show, as tables."""

from __future__ import annotations

from ensembler.evaluation.conformal import Conformal, SetRow
from ensembler.evaluation.prior_shift import PriorShift
from ensembler.reporting.tables import Cell, Table, number

_SPLITS = {"oof": "out of fold", "holdout": "holdout"}


def sets_table(found: Conformal) -> Table:
    """One row for the sets of each member and blend on each part of the rows."""
    interval = "95 % interval"
    sizes = ("classes a set", "one class")
    columns = ("name", "rows of", "covered", interval, *sizes, "least covered class")
    rows = tuple(_cells(row) for row in found.rows)
    notes = (
        "Out of fold no row's set comes of a threshold that its own group has set.",
        f"{found.method} is calibrated for all classes together: single ones may be covered less.",
    )
    return Table(
        f"sets for a coverage of {found.coverage:g}", columns, rows, notes, digits=3
    )


def _cells(row: SetRow) -> tuple[Cell, ...]:
    interval = f"{number(row.low, 3)} to {number(row.high, 3)}"
    name, (n, covered) = min(row.per_class.items(), key=lambda item: item[1][1])
    least = f"{name} {number(covered, 3)} of {n}"
    split = _SPLITS[row.split]
    return (row.name, split, row.covered, interval, row.size, row.single, least)


def shift_table(found: PriorShift) -> Table:
    """The shares of classes in train rows, and those estimated of test rows."""
    columns = ("class", "train rows", "test rows by EM", "95 % interval", "by confusions")
    rows = []
    for n, name in enumerate(found.classes):
        interval = f"{number(found.low[n], 3)} to {number(found.high[n], 3)}"
        cells = (float(found.train[n]), float(found.em[n]), interval, float(found.bbse[n]))
        rows.append((name, *cells))
    gain = f"{found.gain:+.4f} ({found.gain_low:+.4f} to {found.gain_high:+.4f})"
    verdict = "a gain" if found.pays else "no clear gain"
    notes = (
        f"By predictions of {found.name} for {found.n_test} test rows.",
        "Probabilities for estimated shares, on out-of-fold rows drawn to have those by EM: log "
        f"loss lower by {gain}, {verdict}.",
    )
    title = f"{found.target}: shares of classes"
    return Table(title, columns, tuple(rows), notes, digits=3)
