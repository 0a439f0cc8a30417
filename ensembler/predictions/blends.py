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
from ensembler.predictions.members import checksums
from ensembler.predictions.publish import replacing
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.settled import HeldFile, open_settled, read_settled

FORMAT: Literal[1] = 1
BLEND_RECORD = "blend.json"


class BlendRecord(BaseModel):
    """What `blend.json` says; other keys are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1] = FORMAT
    name: str
    target: str = "label"
    classes: tuple[str, ...] = Field(min_length=1)
    method: str
    members: tuple[str, ...] = Field(min_length=1)
    weights: dict[str, float] | None = None
    temperature: float | None = None
    scores: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)
    gain: dict[str, Any] | None = None
    warnings: tuple[dict[str, Any], ...] = ()
    sha256: dict[str, str]


@dataclass
class Blend:
    """A blend in the store, its arrays opened on demand.

    When it is replaced before the first of them is opened, `record` becomes that of the new
    version.
    """

    folder: Path
    record: BlendRecord
    samples: SampleTable

    @cached_property
    def oof(self) -> NDArray[np.floating]:
        """Cross-fitted probabilities `[train samples, classes]`.

        NaN = the members have no prediction there.
        """
        return self._open("oof.npy", len(self.samples.train))

    @cached_property
    def test(self) -> NDArray[np.floating]:
        """Test probabilities `[test samples, classes]`."""
        return self._open("test.npy", len(self.samples.test))

    @cached_property
    def _files(self) -> dict[str, HeldFile]:
        """The files of predictions, opened together so that they are of one version."""
        settled = open_settled(
            self.folder, BLEND_RECORD, BlendRecord, lambda _: ("oof.npy", "test.npy")
        )
        self.record = settled.record
        return settled.files

    def _open(self, name: str, rows: int) -> NDArray[np.floating]:
        files = self._files  # first: it is these that the record then describes
        if name not in self.record.sha256:
            raise StoreError(
                f"{self.folder / BLEND_RECORD} has no sha256 of {name}; it was altered"
            )
        shape = (rows, len(self.record.classes))
        sha256 = self.record.sha256[name]
        return open_array(
            self.folder / name, shape, sha256=sha256, of=BLEND_RECORD, file=files.pop(name, None)
        )


def open_blend(folder: Path, samples: SampleTable) -> Blend:
    """Open the blend in `folder`.

    MissingFileError when there is none, StoreError when it is altered.
    """
    record = read_settled(folder, BLEND_RECORD, BlendRecord)
    if record.name != folder.name:
        raise StoreError(
            f"{folder / BLEND_RECORD} describes blend {record.name!r}; files were swapped"
        )
    return Blend(folder, record, samples)


def write_blend(
    folder: Path,
    run_lock: Path,
    record: Mapping[str, Any],
    oof: NDArray[np.floating],
    test: NDArray[np.floating],
) -> None:
    """Write a blend, or a new one over an old one.

    `record` is `blend.json` without its checksums.
    """
    with replacing(folder, run_lock) as prepared:
        write_array(prepared / "oof.npy", np.asarray(oof, np.float32))
        write_array(prepared / "test.npy", np.asarray(test, np.float32))
        sums = checksums(prepared, ["oof.npy", "test.npy"])
        write_json(prepared / BLEND_RECORD, {"format": FORMAT, **record, "sha256": sums})
