"""Whether a member of somebody else may be taken into a run, before any of its files is read."""

from __future__ import annotations

import re

from ensembler.errors import MissingFileError
from ensembler.predictions.members import MemberRecord
from ensembler.predictions.store import RunStore
from ensembler.sharing.arrays import files_of, most_bytes
from ensembler.sharing.offers import Offer
from ensembler.sharing.splits import Fit, fit_of, fit_on_test_rows, rows_in_order

MOST_VIEWS = 1000
_VIEW = re.compile(r"[\w.:+@/-]{1,200}")


def reason_against(store: RunStore, offer: Offer) -> str | None:
    """What of a member's record does not fit the run; None when all does."""
    return (
        _of_targets(store, offer.record)
        or _of_views(offer.record)
        or _of_data(store, offer)
        or _of_files(store, offer)
    )


def fitting(store: RunStore, offer: Offer, *, holdout_only: bool) -> Fit:
    """Where the run's rows are among the member's; with the reason where they are not."""
    if offer.samples is None:
        if offer.record.fold_column not in store.samples.table:
            return Fit(reason=f"the run has no column {offer.record.fold_column!r}")
        return rows_in_order(store.samples)
    fit = fit_of(store.samples, offer.samples, offer.record)
    if fit.reason is None or not holdout_only:
        return fit
    if not len(store.samples.test):
        return Fit(reason=f"{fit.reason}, and the run has no test rows to take alone")
    return fit_on_test_rows(store.samples, offer.samples, offer.record)


def _of_targets(store: RunStore, record: MemberRecord) -> str | None:
    classes = dict(record.tasks) or {record.target: record.classes}
    for target, names in classes.items():
        if target not in store.samples.targets:
            return f"it predicts {target!r}; the run has {', '.join(store.samples.targets)}"
        known = _classes_of(store, target)
        if known is not None and (set(known) != set(names) or len(known) != len(names)):
            odd = sorted(set(known) ^ set(names)) or ["a name twice"]
            return f"it has other classes of {target!r} than the run: {', '.join(odd[:5])}"
        has_sets = target in record.multi_label
        if has_sets != (store.set_format(target) is not None):
            return f"rows have several labels of {target!r} in one of the two, and one in the other"
    if record.tasks and record.target not in record.tasks:
        return f"its target {record.target!r} is none of its tasks"
    return None


def _classes_of(store: RunStore, target: str) -> tuple[str, ...] | None:
    try:
        return store.classes(target)
    except MissingFileError:
        return None  # the run's first member says what they are


def _of_views(record: MemberRecord) -> str | None:
    views = record.views
    if len(set(views)) != len(views) or len(views) > MOST_VIEWS:
        return f"it has {len(views)} views, some of one name or more than {MOST_VIEWS}"
    odd = [view for view in views if _VIEW.fullmatch(view) is None]
    return f"it has a view called {odd[0][:200]!r}" if odd else None


def _of_data(store: RunStore, offer: Offer) -> str | None:
    known = (store.lock.data, offer.data)
    if offer.samples is None and None not in known and known[0] != known[1]:
        return (
            "it was trained on other data: its weights of samples, or its labels to train on, "
            "differ from those of the run"
        )
    return None


def _of_files(store: RunStore, offer: Offer) -> str | None:
    samples = store.samples if offer.samples is None else offer.samples
    for file, shape in files_of(offer.record, samples).items():
        blob = offer.files.get(file)
        if blob is None:
            return f"its record names no file {file}"
        most = most_bytes(shape)
        if blob.size > most:
            return f"its {file} has {blob.size} bytes, expected at most {most} for {list(shape)}"
    return None
