"""Blends in the store: `blend.json` and the probabilities it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ensembler.errors import StoreError
from ensembler.files import write_json
from ensembler.predictions.arrays import open_array, write_array
from ensembler.predictions.members import checksums, read_record
from ensembler.predictions.publish import replacing
from ensembler.predictions.samples import SampleTable

FORMAT: Literal[1] = 1


class BlendRecord(BaseModel):
    """What `blend.json` says; other keys are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1] = FORMAT
    name: str
    target: str = "label"
    classes: tuple[str, ...] = Field(min_length=1)
    method: str
    members: tuple[str, ...]
    weights: dict[str, float] | None = None
    temperature: float | None = None
    scores: dict[str, Any] = Field(default_factory=dict)
    gain: dict[str, Any] | None = None
    warnings: tuple[dict[str, Any], ...] = ()
    sha256: dict[str, str]


@dataclass(frozen=True)
class Blend:
    """A blend in the store, its arrays opened on demand."""

    folder: Path
    record: BlendRecord
    samples: SampleTable

    @cached_property
    def oof(self) -> NDArray[np.floating]:
        """Cross-fitted probabilities `[train samples, classes]`; NaN = the members have no prediction there."""
        return self._open("oof.npy", len(self.samples.train))

    @cached_property
    def test(self) -> NDArray[np.floating]:
        """Test probabilities `[test samples, classes]`."""
        return self._open("test.npy", len(self.samples.test))

    def _open(self, name: str, rows: int) -> NDArray[np.floating]:
        if name not in self.record.sha256:
            raise StoreError(f"{self.folder / 'blend.json'} has no sha256 of {name}; it was altered")
        shape = (rows, len(self.record.classes))
        return open_array(self.folder / name, shape, sha256=self.record.sha256[name], of="blend.json")


def open_blend(folder: Path, samples: SampleTable) -> Blend:
    """Open the blend in `folder`; MissingFileError when there is none, StoreError when it is altered."""
    record = read_record(folder / "blend.json", BlendRecord)
    if record.name != folder.name:
        raise StoreError(f"{folder / 'blend.json'} describes blend {record.name!r}; files were swapped")
    return Blend(folder, record, samples)


def write_blend(
    folder: Path,
    run_lock: Path,
    record: Mapping[str, Any],
    oof: NDArray[np.floating],
    test: NDArray[np.floating],
) -> None:
    """Write a blend, or a new one over an old one; `record` is `blend.json` without its checksums."""
    with replacing(folder, run_lock) as prepared:
        write_array(prepared / "oof.npy", np.asarray(oof, np.float32))
        write_array(prepared / "test.npy", np.asarray(test, np.float32))
        sums = checksums(prepared, ["oof.npy", "test.npy"])
        write_json(prepared / "blend.json", {"format": FORMAT, **record, "sha256": sums})
