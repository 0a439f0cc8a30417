"""Blends in the store: `blend.json` and the probabilities it describes."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import claim, write_bytes
from ensembler.predictions.arrays import open_array, write_array
from ensembler.predictions.explanation import BlendExplanation, BlendWarning, GainRecord
from ensembler.predictions.members import checksums
from ensembler.predictions.publish import replacing
from ensembler.predictions.records import Record, write_record
from ensembler.predictions.samples import SampleTable
from ensembler.predictions.settled import HeldFile, open_settled, read_settled

ARRAYS = ("oof.npy", "test.npy")
FORMAT: Literal[1] = 1
BLEND_RECORD = "blend.json"
STATE = (
    "blend.safetensors"  # what the fitted blend has learned; blends from before have none
)


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
    def state(self) -> bytes | None:
        """The content of the file from which the fitted blend is built again; None without one."""
        file = self._files.pop(STATE, None)
        sha256 = self.record.sha256.get(STATE)
        if sha256 is None:
            return None
        path = self.folder / STATE
        if file is None:
            raise MissingFileError(
                f"{path} is missing; `ens blend` with --name makes the blend again"
            )
        content = file.reader().read()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(
                f"{path} is not the file that {BLEND_RECORD} describes; it was altered"
            )
        return content

    @cached_property
    def _files(self) -> dict[str, HeldFile]:
        """The files of predictions, opened together so that they are of one version."""
        settled = open_settled(
            self.folder, BLEND_RECORD, BlendRecord, lambda _: (*ARRAYS, STATE)
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
            self.folder / name,
            shape,
            sha256=sha256,
            of=BLEND_RECORD,
            file=files.pop(name, None),
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
    state: bytes | None = None,
) -> None:
    """Write a blend, or a new one over an old one.

    The checksums of `record` are those of its files. `state` is what the fitted blend is built
    again from.
    """
    with replacing(folder, run_lock) as prepared:
        write_array(prepared / "oof.npy", np.asarray(oof, np.float32))
        write_array(prepared / "test.npy", np.asarray(test, np.float32))
        if state is not None:
            write_bytes(prepared / STATE, state)
        files = [*ARRAYS, STATE] if state is not None else ARRAYS
        sums = checksums(prepared, files)
        written = record.model_copy(update={"format": FORMAT, "sha256": sums})
        write_record(prepared / BLEND_RECORD, written)
    if state is None:
        _remove_state_of_before(folder, run_lock)


def _remove_state_of_before(folder: Path, run_lock: Path) -> None:
    """Remove a file that the blend's record does not name."""
    with claim(run_lock, wait=True):
        if STATE not in read_settled(folder, BLEND_RECORD, BlendRecord).sha256:
            (folder / STATE).unlink(missing_ok=True)


def copy_blend(blend: Blend, folder: Path, run_lock: Path) -> None:
    """Keep a copy of a blend in `folder`, under that folder's name."""
    with replacing(folder, run_lock) as prepared:
        for name in blend.record.sha256:
            if (blend.folder / name).is_file():
                shutil.copyfile(blend.folder / name, prepared / name)
        record = blend.record.model_copy(update={"name": folder.name})
        write_record(prepared / BLEND_RECORD, record)
