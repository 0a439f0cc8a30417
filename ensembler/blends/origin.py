"""Where a blend's submission comes from: its score, its members' files, what is fitted."""

from __future__ import annotations

import numpy as np

from ensembler.blending.judging.absolute import score_interval
from ensembler.blends.apply import blends_within, members_below
from ensembler.blends.current import Checksums
from ensembler.blends.pool import BLEND_PREFIX
from ensembler.errors import StoreError
from ensembler.metrics import score
from ensembler.metrics.renamed import first_name, with_names_of_today
from ensembler.own_code import is_loaded, is_own
from ensembler.predictions.blends import BLEND_RECORD, STATE, Blend
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.submitted import Origin
from ensembler.reporting.versions import MadeOf, ScoreRecord
from ensembler.targets.label_sets import is_known

DEFAULT_METRIC = "log_loss"


def origin_of_blend(store: RunStore, name: str, progress: Progress = QUIET) -> Origin:
    """What a submission of this blend is made of, and everything that makes it again."""
    blend = store.blend(name)
    record = blend.record
    made_of = MadeOf(
        blend=name,
        method=record.method,
        members=record.members,
        weights=record.weights,
        scores={kind: record.scores.get(kind) for kind in ("cross_fitted", "holdout")},
    )
    unscored = tuple(
        member
        for member in members_below(store, name)
        if member in store.complete_members and store.member(member).record.refit_of
    )
    if unscored:
        made_of = made_of.model_copy(update={"unscored": unscored})
    try:
        found = cross_fitted_score(store, blend)
    except StoreError as error:
        progress.warn(f"{error}; the submission is kept without a score")
        found = None
    return Origin(made_of, found, _sources(store, name), _files(store, name, progress))


def metric_of(blend: Blend) -> str:
    """The metric that a blend was made for."""
    said = with_names_of_today(blend.record.spec or {})
    return str(said.get("metric") or DEFAULT_METRIC)


def cross_fitted_score(store: RunStore, blend: Blend) -> ScoreRecord | None:
    """A blend's cross-fitted score in its metric with the interval; None without labelled rows.

    In a metric by code that only the blend's record names, it is the recorded score alone.
    """
    record, metric = blend.record, metric_of(blend)
    scores = record.scores.get("cross_fitted") or {}
    said = scores.get(metric, scores.get(first_name(metric)))
    if is_own(metric) and not is_loaded(metric):
        return None if said is None else ScoreRecord(metric=metric, value=said)
    labels = store.labels(record.target, "train", record.classes)
    oof = np.asarray(blend.oof)
    rows = np.flatnonzero(np.isfinite(oof).all(axis=1) & is_known(labels))
    if not len(rows):
        return None
    groups = store.samples.groups()
    groups = None if groups is None else groups[rows]
    found = score_interval(metric, oof[rows], labels[rows], groups)
    if said is not None:
        # with what the choice of the blend adds to its score by chance taken off
        found = found.moved(said - score(metric, oof[rows], labels[rows]))
    return ScoreRecord(metric=metric, value=found.value, low=found.low, high=found.high)


def _sources(store: RunStore, name: str) -> dict[str, str]:
    """The sha256 of the samples, and of the members' test predictions, by path below the run.

    They are those of the files that the blend was made of, whatever is there now.
    """
    found = {"samples.csv": store.samples_sha256}
    for inner in blends_within(store, name):
        record = store.blend(inner).record
        members = [m for m in record.members if not m.startswith(BLEND_PREFIX)]
        for member in members:
            sums = _test_sums(store, member, record.made_from.get(member))
            found |= {f"members/{member}/{file}": sum_ for file, sum_ in sums.items()}
    return found


def _test_sums(store: RunStore, member: str, made_from: Checksums | None) -> dict[str, str]:
    """The sha256 of a member's test predictions: as a blend took them, else as they are."""
    if member in store.complete_members:
        now = store.member(member).record.sha256
    else:
        now = dict.fromkeys(("oof.npy", "test.npy"), "")
    arrays = sorted(file for file in now if file.startswith(("oof.", "test.")))
    then = now if made_from is None else dict(zip(arrays, made_from, strict=False))
    tests = {file: then[file] for file in arrays if file.startswith("test.")}
    return {file: sum_ for file, sum_ in tests.items() if sum_}


def _files(store: RunStore, name: str, progress: Progress) -> dict[str, bytes]:
    """The recipe, and each blend inside as it was fitted, by path below the run."""
    recipe = (store.recipe_path, store.recipe_lock_path)
    found = {path.name: path.read_bytes() for path in recipe if path.is_file()}
    for inner in blends_within(store, name):
        folder = f"blends/{inner}"
        blend = store.blend(inner)
        found[f"{folder}/{BLEND_RECORD}"] = (blend.folder / BLEND_RECORD).read_bytes()
        try:
            state = blend.state
        except StoreError as error:
            progress.warn(f"{error}; the submission is kept as a file alone")
            continue
        if state is not None:
            found[f"{folder}/{STATE}"] = state
    return found
