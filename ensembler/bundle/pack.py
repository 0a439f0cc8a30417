"""`ens pack`: the ensemble of a run in one file that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.archive import SUFFIX, write_archive
from ensembler.bundle.check import predict_given, reference_probs
from ensembler.bundle.code import code_entries, used_code
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.networks import Networks
from ensembler.bundle.of_run import ensemble_of_run
from ensembler.bundle.open import open_bundle
from ensembler.bundle.own_images import own_test_images
from ensembler.bundle.records import BundleRecord, Precision, Reference
from ensembler.bundle.reference import draw_reference
from ensembler.errors import RequestError, StoreError, UnknownNameError
from ensembler.outputs import check_output
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.recipe.own_code import introduce_code

_IMAGES = "reference/images.npy"


@dataclass(frozen=True)
class PackedRun:
    """A bundle that was written.

    `max_difference` is the largest difference of a probability between the run and its bundle, on
    as many test images of the run as `compared` says; 0 = on the reference images alone.
    """

    bundle: Path
    bytes: int
    members: tuple[str, ...]
    checkpoints: int
    blend: str
    max_difference: float
    compared: int = 0


def pack_run(
    store: RunStore,
    out: Path | None = None,
    *,
    blend: str | None = None,
    precision: Precision = "float32",
    with_code: Sequence[Path] = (),
    device: str = "auto",
    progress: Progress = QUIET,
) -> PackedRun:
    """Write a blend of a run (the submitted one) with all that it needs into one file.

    Without `out` that is `<run>.ens` in the current folder. `with_code` are the files of modules of
    the user's own that it needs. Raises RequestError in one line for what cannot be kept: other
    code, members that were imported, a blend whose fitted state is not there.
    """
    path = out or Path(f"{store.name}{SUFFIX}")
    if path.suffix != SUFFIX:
        raise RequestError(f"{path}: the name of a bundle ends in {SUFFIX}")
    check_output(path)
    folders = [*(file.resolve().parent for file in with_code), Path.cwd()]
    ensemble = ensemble_of_run(store, blend, folders)
    check_can_be_kept(ensemble)
    used = used_code(ensemble)
    introduce_code(used, progress, folders)
    code = code_entries(used, with_code)
    path.parent.mkdir(parents=True, exist_ok=True)
    return _Packing(store, ensemble, precision, device, progress).write(path, used, code)


def check_can_be_kept(ensemble: Ensemble) -> None:
    """Raise RequestError for what lies outside of a run and a bundle cannot hold."""
    for member in ensemble.networks:
        if "rembg" in member.input.step_names:
            raise RequestError(
                f"{ensemble.where}: prepare step rembg reads weights of its own, which a "
                "bundle cannot hold; train with grabcut, or without backgrounds"
            )


@dataclass(frozen=True)
class _Packing:
    """Packs an ensemble: measures what it changes, and writes it."""

    store: RunStore
    ensemble: Ensemble
    precision: Precision
    device: str
    progress: Progress

    @cached_property
    def packed(self) -> Ensemble:
        """The ensemble as the bundle has it."""
        return with_precision(self.ensemble, self.precision)

    @cached_property
    def reference(self) -> dict[str, NDArray[np.float32]]:
        """The probabilities of the packed ensemble for the reference images, by answer."""
        return reference_probs(self._networks(self.packed), draw_reference())

    def _networks(self, ensemble: Ensemble) -> Networks:
        return Networks(ensemble, self.device, "eager", self.progress)

    def write(
        self, path: Path, used: Mapping[str, str], code: Mapping[str, bytes]
    ) -> PackedRun:
        """Write the bundle, and say what it is."""
        names = {name: f"reference/{name}.npy" for name in self.ensemble.record.answers}
        gap, compared = self._difference()
        record = self.packed.record.model_copy(
            update={
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "precision": self.precision,
                "max_difference": gap,
                "code": dict(used),
                "code_files": tuple(code),
                "reference": Reference(images=_IMAGES, probs=names),
            }
        )
        contents = _contents(self.packed, record)
        contents[_IMAGES] = partial(_npy, draw_reference())
        contents |= {entry: partial(_same, content) for entry, content in code.items()}
        contents |= {names[name]: partial(_npy, self.reference[name]) for name in names}
        write_archive(path, record, contents, check=_opens)
        ensemble = self.ensemble
        return PackedRun(
            bundle=path,
            bytes=path.stat().st_size,
            members=tuple(m.name for m in ensemble.members.values() if m.merging),
            checkpoints=sum(len(member.checkpoints) for member in ensemble.networks),
            blend=record.answers[0],
            max_difference=gap,
            compared=compared,
        )

    def _difference(self) -> tuple[float, int]:
        """The largest difference of a probability between the run and its bundle.

        It is measured on test images of the run, whose predictions it has kept, and how many those
        are; where there are none any more, on the reference images.
        """
        gap = 0.0
        if self.precision != "float32":
            as_in_run = reference_probs(self._networks(self.ensemble), draw_reference())
            gap = max(_gap(self.reference[name], as_in_run[name]) for name in as_in_run)
        own = own_test_images(self.store, self.ensemble)
        if own is None:
            return gap, 0
        found = predict_given(self._networks(self.packed), own.images)
        gaps = [_gap(found[name], own.probs[name]) for name in own.probs]
        return max(gap, *gaps), len(own.images)


def _gap(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float(np.abs(one - np.asarray(other, np.float32)).max())


def _contents(ensemble: Ensemble, record: BundleRecord) -> dict[str, Callable[[], bytes]]:
    states = [blend.state for blend in record.blends.values() if blend.state is not None]
    entries = [entry for member in ensemble.networks for entry in member.checkpoints]
    entries += sorted({m.frozen for m in ensemble.networks if m.frozen is not None})
    return {entry: partial(ensemble.read, entry) for entry in [*states, *entries]}


def _same(content: bytes) -> bytes:
    return content


def with_precision(ensemble: Ensemble, precision: Precision) -> Ensemble:
    """The ensemble with the matrices and kernels of its checkpoints rounded to a precision."""
    if precision == "float32":
        return ensemble
    import torch

    from ensembler.networks.checkpoint import checkpoint_as

    dtype: torch.dtype = getattr(torch, precision)
    trained = [member for member in ensemble.networks if member.frozen is None]
    checkpoints = {entry for member in trained for entry in member.checkpoints}
    checkpoints |= {m.frozen for m in ensemble.networks if m.frozen is not None}

    def read(entry: str) -> bytes:
        content = ensemble.read(entry)
        return checkpoint_as(content, dtype) if entry in checkpoints else content

    return replace(ensemble, read=read)


def _opens(path: Path) -> None:
    """Raise StoreError unless the file that was written is a bundle."""
    try:
        open_bundle(path, trust_code=True)  # it is ours
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
