"""Blends in the store: `blend.json` and the probabilities it describes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ensembler.errors import StoreError
from ensembler.predictions.arrays import open_array, write_array
from ensembler.predictions.explanation import BlendExplanation, BlendWarning, GainRecord
from ensembler.predictions.members import checksums
from ensembler.predictions.publish import replacing
from ensembler.predictions.records import Record, write_record
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.settled import HeldFile, open_settled, read_settled

FORMAT: Literal[1] = 1
BLEND_RECORD = "blend.json"


class BlendRecord(Record):
    """What `blend.json` says; other keys are kept and ignored.

    `spec` are the options that the blend was asked for with, `views` the views it was made of (none
    named: all), `fingerprint` is the digest of everything it was made from, and `made_from` holds
    the checksums of what its members predicted then.
    """

    format: Literal[1] = FORMAT
    name: str
    target: str = "label"
    classes: tuple[str, ...] = Field(min_length=1)
    method: str
    members: tuple[str, ...] = Field(min_length=1)
    weights: dict[str, float] | None = None
    temperature: float | None = None
    scores: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)
    gain: GainRecord | None = None
    warnings: tuple[BlendWarning, ...] = ()
    details: BlendExplanation = Field(default_factory=BlendExplanation)
    spec: dict[str, Any] | None = None
    views: tuple[str, ...] | None = None
    fingerprint: str | None = None
    made_from: dict[str, tuple[str | None, ...]] = Field(default_factory=dict)
    sha256: dict[str, str]

    @field_validator("details", mode="before")
    @classmethod
    def _nothing_is_no_explanation(cls, value: object) -> object:
        return {} if value is None else value


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
    record: BlendRecord,
    oof: NDArray[np.floating],
    test: NDArray[np.floating],
) -> None:
    """Write a blend, or a new one over an old one; the checksums of `record` are those of its files."""
    with replacing(folder, run_lock) as prepared:
        write_array(prepared / "oof.npy", np.asarray(oof, np.float32))
        write_array(prepared / "test.npy", np.asarray(test, np.float32))
        sums = checksums(prepared, ["oof.npy", "test.npy"])
        written = record.model_copy(update={"format": FORMAT, "sha256": sums})
        write_record(prepared / BLEND_RECORD, written)


def copy_blend(blend: Blend, folder: Path, run_lock: Path) -> None:
    """Keep a copy of a blend in `folder`, under that folder's name."""
    with replacing(folder, run_lock) as prepared:
        for name in blend.record.sha256:
            if (blend.folder / name).is_file():
                shutil.copyfile(blend.folder / name, prepared / name)
        record = blend.record.model_copy(update={"name": folder.name})
        write_record(prepared / BLEND_RECORD, record)
