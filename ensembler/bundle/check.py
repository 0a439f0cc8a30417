"""Whether an ensemble predicts here what it predicted where it was packed."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.apply import answers_of
from ensembler.bundle.images import AskedPixels, refuse_broken
from ensembler.bundle.networks import Networks
from ensembler.data.images import ArrayImages, Images
from ensembler.errors import BundleError, StoreError

NOTED = 1e-3  # the difference of a probability from which a line says so


def reference_probs(
    networks: Networks, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """The probabilities of each answer `[images, classes]` for images of the reference."""
    return predict_given(networks, ArrayImages(images, "reference"))


def predict_given(networks: Networks, given: Images) -> dict[str, NDArray[np.float32]]:
    """The probabilities of each answer `[images, classes]` for a few images."""
    rows = np.arange(len(given), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        logits = networks.logits(
            lambda spec: AskedPixels(given, spec, refuse_broken), rows, Path(folder)
        )
        answers = answers_of(networks.ensemble, logits)
    return {name: answer.probs for name, answer in answers.items()}


def check_reference(networks: Networks) -> float:
    """The largest difference of a probability from those kept in the bundle.

    StoreError when they differ by more than an engine may from float32: this machine, or a library
    on it, computes something else. A smaller difference is noted from NOTED on.
    """
    ensemble = networks.ensemble
    kept = ensemble.record.reference
    if kept is None:
        return 0.0
    images = _array(ensemble.read(kept.images), kept.images, ensemble.where)
    is_colour = images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not is_colour or 0 in images.shape:
        raise BundleError(f"{ensemble.where}: {kept.images} holds no images")
    found = reference_probs(networks, images)
    gaps = np.zeros(len(images))
    for answer, entry in kept.probs.items():
        wanted = _array(ensemble.read(entry), entry, ensemble.where)
        is_alike = answer in found and wanted.shape == found[answer].shape
        if not is_alike or wanted.dtype != np.float32:
            raise BundleError(f"{ensemble.where}: {entry} is not of answer {answer!r}")
        gaps = np.maximum(gaps, np.abs(found[answer] - wanted).max(axis=1))
    _judge(networks, gaps)
    return float(gaps.max())


def _judge(networks: Networks, gaps: NDArray[np.float64]) -> None:
    from ensembler.inference.engines.choose import agree

    where, largest = networks.ensemble.where, float(gaps.max())
    if not agree(gaps):
        packed_with = networks.ensemble.record.versions
        with_ = ", ".join(
            f"{name} {packed_with[name]}"
            for name in ("torch", "timm")
            if name in packed_with
        )
        raise StoreError(
            f"{where}: its reference images get other probabilities here (off by {largest:.3f}); "
            f"it was packed with {with_ or 'other versions'}: install those, or try "
            "--engine eager"
        )
    if largest > NOTED:
        networks.progress.note(
            f"{where}: probabilities of the reference images are off by {largest:.4f} here"
        )


def _array(content: bytes, name: str, where: str) -> NDArray[Any]:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise BundleError(f"{where}: {name} is no array ({error})") from error
