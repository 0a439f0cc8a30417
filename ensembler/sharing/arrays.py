"""The arrays of a member of somebody else: fetched, checked, put into the run's order of rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import StoreError
from ensembler.files import sha256_of, write_aside
from ensembler.metrics import score_all
from ensembler.predictions.arrays import fill_array, open_array, release
from ensembler.predictions.members import Member, MemberRecord, array_file
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.store import RunStore
from ensembler.sharing.offers import Offer
from ensembler.sharing.splits import Fit, Rows
from ensembler.targets.kinds import SINGLE_LABEL
from ensembler.targets.label_sets import is_known

HEADER = 10_000  # bytes, more than any .npy needs
ROUNDING = 0.02  # by how much a row of probabilities may miss the sum 1
Shape = tuple[int, ...]


def files_of(record: MemberRecord, samples: SampleTable) -> dict[str, Shape]:
    """The arrays that a member of these rows has, by file name, with their shapes."""
    views, n_train, n_test = len(record.views), len(samples.train), len(samples.test)
    tasks: dict[str | None, int] = {
        task: len(classes) for task, classes in record.tasks.items()
    }
    found: dict[str, Shape] = {}
    for task, n_classes in (tasks or {None: len(record.classes)}).items():
        found[array_file("oof", task)] = (views, n_train, n_classes)
        found[array_file("test", task)] = (record.folds, views, n_test, n_classes)
    return found


def most_bytes(shape: Shape) -> int:
    """How large a file of that shape may be."""
    return math.prod(shape) * np.dtype(np.float32).itemsize + HEADER


def write_arrays(store: RunStore, offer: Offer, fit: Fit, folder: Path) -> dict[str, str]:
    """Fetch a member's arrays into `folder`, in the run's order of rows.

    Returns their sha256 by file name; StoreError names a file that is not what its record says.
    """
    samples = store.samples if offer.samples is None else offer.samples
    sums = {}
    for file, shape in files_of(offer.record, samples).items():
        rows = fit.train if file.startswith("oof.") else fit.test
        if rows is None:
            _write_unknown(folder / file, shape, len(store.samples.train))
            sums[file] = sha256_of(folder / file)
            continue
        blob = offer.files[file]
        fetched = folder / f"fetched-{file}"
        with write_aside(fetched, size=blob.size) as into:
            offer.fetch(file, blob, into)
        array = open_array(
            fetched, shape, sha256=blob.sha256, of=f"the record of {offer.name}"
        )
        if _is_in_order(rows, shape[-2]):
            fetched.replace(folder / file)
        else:
            _write_rows(folder / file, array, rows)
            fetched.unlink()
        sums[file] = sha256_of(folder / file)
    return sums


def _is_in_order(rows: Rows, n_rows: int) -> bool:
    return len(rows) == n_rows and bool((rows == np.arange(n_rows)).all())


def _write_rows(path: Path, array: NDArray[np.floating], rows: Rows) -> None:
    """Some rows of an array `[..., rows, classes]`, view by view."""
    shape = (*array.shape[:-2], len(rows), array.shape[-1])
    with fill_array(path, shape, array.dtype) as out:
        for piece in np.ndindex(shape[:-2]):
            out[piece] = array[piece][rows]
            release(array, out)


def _write_unknown(path: Path, shape: Shape, n_rows: int) -> None:
    """Predictions of rows that have none: NaN."""
    with fill_array(path, (*shape[:-2], n_rows, shape[-1]), np.float16) as out:
        out[:] = np.nan


def check_values(member: Member) -> None:
    """Raise StoreError for predictions that are not finite, or are no probabilities."""
    for target in member.targets:
        of_target = member.for_target(target)
        arrays = {"out-of-fold": of_target.oof_logits, "test": of_target.test_logits}
        for part, array in arrays.items():
            if member.record.kind != "logits":
                _check_probabilities(of_target, part, array)


def _check_probabilities(member: Member, part: str, array: NDArray[np.floating]) -> None:
    sums_to_one = member.record.kind_of_target is SINGLE_LABEL
    for piece in np.ndindex(array.shape[:-2]):
        rows = np.asarray(array[piece], np.float64)
        rows = rows[~np.isnan(rows).all(axis=1)]
        is_outside = ((rows < 0) | (rows > 1 + 1e-3)).any()
        is_off = sums_to_one and (np.abs(rows.sum(axis=1) - 1) > ROUNDING).any()
        if is_outside or is_off:
            raise StoreError(
                f"its {part} predictions are called probabilities and are none"
            )


def scores_of(store: RunStore, member: Member) -> dict[str, Any]:
    """The scores of a member's predictions, computed here: nobody's word is taken for them."""
    found: dict[str, dict[str, Any]] = {"oof": {}, "holdout": {}}
    for split, of_split in found.items():
        for target in member.targets:
            of_split[target] = _score(store, member.for_target(target), split)
    if member.record.tasks:
        return found
    return {split: of_split[member.record.target] for split, of_split in found.items()}


def _score(store: RunStore, member: Member, split: str) -> dict[str, float] | None:
    target, classes = member.record.target, member.record.classes
    if split == "oof":
        labels, probs = store.labels(target, "train", classes), member.oof(classes)
    else:
        labels = store.labels(target, "test", classes)
        probs = member.test(classes).mean(axis=0)
    known = is_known(labels) & np.isfinite(probs).all(axis=1)
    return score_all(probs[known], labels[known]) if known.any() else None
