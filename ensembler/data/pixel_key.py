"""What prepared pixels depend on, as one digest: equal keys are equal pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.contents import Contents, read_contents
from ensembler.data.images import Images
from ensembler.data.prepare import build_steps, contents_of_steps, prepare
from ensembler.data.spec import InputSpec

_VERSION = 2
_CROPS = ("crop", "center_crop")


def pixels_key(images: Images, spec: InputSpec, cache: Path) -> str:
    """A digest of the images' content and of how they are prepared: equal keys are equal pixels."""
    contents = read_contents(images, cache)
    # Steps that are not there leave the key as it was before there were any.
    options = {
        name: value for name, value in spec.described.items() if value or name != "prepare"
    }
    behind = contents_of_steps(spec.prepare)
    version = [_VERSION, options, behind] if behind else [_VERSION, options]
    digest = hashlib.sha256(json.dumps(version, sort_keys=True).encode())
    digest.update("\n".join(contents.checksum).encode())
    for name, rows in prepared_otherwise(contents, spec).items():
        digest.update(f"{name} {rows.tolist()}".encode())
    return digest.hexdigest()[:24]


def prepared_otherwise(contents: Contents, spec: InputSpec) -> dict[str, NDArray[np.int64]]:
    """Positions of images whose pixels are no longer those of earlier versions, by what is other.

    None is left out. "axes": one side shrinks and the other does not, each being scaled in its own
    way now. "bits": grey levels of fewer bits than 16, as the file says.
    """
    sides, bits = contents.header[:, :2], contents.header[:, 2]
    if spec.resize == "stretch":
        sides = _cropped(sides, spec)
        seen = np.array(spec.shape[:2])
        mixed = (sides > seen).any(axis=1) & (sides <= seen).any(axis=1)
    else:
        mixed = np.zeros(len(sides), bool)
    few = (bits > 8) & (bits < 16) & (spec.bits is None)
    found = {"axes": np.flatnonzero(mixed), "bits": np.flatnonzero(few)}
    return {name: rows for name, rows in found.items() if len(rows)}


def _cropped(sides: NDArray[np.int32], spec: InputSpec) -> NDArray[np.int32]:
    """The sides of images after the recipe's crops; other steps are taken to leave them."""
    named = [
        step
        for step in spec.prepare
        if next(iter([step] if isinstance(step, str) else step)) in _CROPS
    ]
    if not named:
        return sides
    steps = build_steps(named)
    kinds, which = np.unique(sides, axis=0, return_inverse=True)
    left = [
        prepare(np.broadcast_to(np.uint8(0), tuple(kind)), steps).shape
        for kind in kinds.tolist()
    ]
    return np.array(left, np.int32)[which.reshape(-1)]
