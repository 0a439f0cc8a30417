"""`ens pack`: the ensemble of a run in one file that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.archive import SUFFIX, write_archive
from ensembler.bundle.check import reference_probs
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.networks import Networks
from ensembler.bundle.of_run import ensemble_of_run
from ensembler.bundle.open import open_bundle
from ensembler.bundle.records import BundleRecord, Precision, Reference
from ensembler.bundle.reference import draw_reference
from ensembler.errors import RequestError, StoreError, UnknownNameError
from ensembler.outputs import check_output
from ensembler.own_code import is_own
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress

_IMAGES = "reference/images.npy"


@dataclass(frozen=True)
class PackedRun:
    """A bundle that was written.

    `max_difference` is the largest difference of a probability between the run and its bundle.
    """

    bundle: Path
    bytes: int
    members: tuple[str, ...]
    checkpoints: int
    blend: str
    max_difference: float


def pack_run(
    store: RunStore,
    out: Path | None = None,
    *,
    blend: str | None = None,
    precision: Precision = "float32",
    device: str = "auto",
    progress: Progress = QUIET,
) -> PackedRun:
    """Write a blend of a run (the submitted one) with all that it needs into one file.

    Without `out` that is `<run>.ens` in the current folder. Raises RequestError in one line for
    what cannot be kept: code of the user's own, members that were imported, a blend whose fitted
    state is not there.
    """
    path = out or Path(f"{store.name}{SUFFIX}")
    if path.suffix != SUFFIX:
        raise RequestError(f"{path}: the name of a bundle ends in {SUFFIX}")
    check_output(path)
    ensemble = ensemble_of_run(store, blend)
    _check_kept(ensemble)
    path.parent.mkdir(parents=True, exist_ok=True)
    return _write(ensemble, path, precision, device, progress)


def _check_kept(ensemble: Ensemble) -> None:
    """Raise RequestError for what a bundle cannot hold."""
    for place, kind in used_code(ensemble).items():
        raise RequestError(
            f"{ensemble.where}: {kind} {place!r} is code of your own, which a bundle does not "
            f"hold unless it is given: --with-code {place.partition(':')[0]}.py"
        )


def used_code(ensemble: Ensemble) -> dict[str, str]:
    """Every `module:name` that the ensemble needs to predict, and what it is used as."""
    found: dict[str, str] = {}
    for member in ensemble.networks:
        if member.backbone in ensemble.record.code:
            found[member.backbone] = "backbone"
        for step in member.input.prepare:
            name = step if isinstance(step, str) else next(iter(step), "")
            if is_own(name):
                found[name] = "prepare step"
        for view in member.views:
            if isinstance(view, str) and is_own(view):
                found[view.partition("@")[0]] = "view"
    return found


def _write(
    ensemble: Ensemble,
    path: Path,
    precision: Precision,
    device: str,
    progress: Progress,
) -> PackedRun:
    images = draw_reference()
    as_in_run = reference_probs(Networks(ensemble, device, "eager", progress), images)
    smaller = with_precision(ensemble, precision)
    probs = as_in_run
    if precision != "float32":
        probs = reference_probs(Networks(smaller, device, "eager", progress), images)
    names = {answer: f"reference/{answer}.npy" for answer in ensemble.record.answers}
    record = smaller.record.model_copy(
        update={
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "precision": precision,
            "code": used_code(ensemble),
            "reference": Reference(images=_IMAGES, probs=names),
        }
    )
    contents = _contents(smaller, record)
    contents[_IMAGES] = partial(_npy, images)
    for answer, entry in names.items():
        contents[entry] = partial(_npy, probs[answer])
    written = write_archive(path, record, contents, check=_opens)
    gap = max(float(np.abs(probs[a] - as_in_run[a]).max()) for a in record.answers)
    return PackedRun(
        bundle=path,
        bytes=path.stat().st_size,
        members=tuple(m.name for m in ensemble.members.values() if m.merging),
        checkpoints=sum(len(member.checkpoints) for member in ensemble.networks),
        blend=written.answers[0],
        max_difference=gap,
    )


def _contents(ensemble: Ensemble, record: BundleRecord) -> dict[str, Callable[[], bytes]]:
    states = [blend.state for blend in record.blends.values() if blend.state is not None]
    entries = [entry for member in ensemble.networks for entry in member.checkpoints]
    return {entry: partial(ensemble.read, entry) for entry in [*states, *entries]}


def with_precision(ensemble: Ensemble, precision: Precision) -> Ensemble:
    """The ensemble with the matrices and kernels of its checkpoints rounded to a precision."""
    if precision == "float32":
        return ensemble
    import torch

    from ensembler.networks.checkpoint import checkpoint_as

    dtype: torch.dtype = getattr(torch, precision)
    checkpoints = {e for member in ensemble.networks for e in member.checkpoints}

    def read(entry: str) -> bytes:
        content = ensemble.read(entry)
        return checkpoint_as(content, dtype) if entry in checkpoints else content

    return replace(ensemble, read=read)


def _opens(path: Path) -> None:
    """Raise StoreError unless the file that was written is a bundle."""
    try:
        open_bundle(path)
    except RequestError as error:
        raise StoreError(f"what was packed cannot be opened again ({error})") from error


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def check_precision(name: str) -> Precision:
    """Return `name` as a precision of weights, or raise UnknownNameError."""
    if name not in get_args(Precision):
        raise UnknownNameError("precision", name, get_args(Precision))
    return cast(Precision, name)
