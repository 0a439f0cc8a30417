"""`prices.json`: what folds took on this machine, kept beside the prepared pixels.

Without it later plans are less certain, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ensembler.errors import EnsemblerError
from ensembler.files import claim, read_json
from ensembler.predictions.records import Record, write_record

PRICES = "prices.json"
_KEPT = 20  # folds of each kind of work


class MeasuredFold(Record):
    """One fold as it was: seconds for a train row in one epoch, for a prediction, and around both.

    `around` is missing of a fold that was resumed; `flops` are those of an image's way through the
    network, where they were counted.
    """

    row: float = Field(ge=0, allow_inf_nan=False)
    prediction: float = Field(ge=0, allow_inf_nan=False)
    around: float | None = Field(None, ge=0, allow_inf_nan=False)
    flops: float | None = Field(None, ge=0, allow_inf_nan=False)


class MeasuredBlend(Record):
    """One blend with its submission as it was: how many probabilities it took, and the seconds."""

    cells: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class PriceRecord(Record):
    """What `prices.json` says.

    By machine the latest folds of each kind of work, a few batches of others, and the latest
    blends; and the operations of networks.
    """

    format: Literal[1] = 1
    folds: dict[str, dict[str, tuple[MeasuredFold, ...]]] = Field(default_factory=dict)
    timed: dict[str, dict[str, MeasuredFold]] = Field(default_factory=dict)
    flops: dict[str, float | None] = Field(default_factory=dict)
    blends: dict[str, tuple[MeasuredBlend, ...]] = Field(default_factory=dict)

    def with_fold(self, machine: str, kind: str, fold: MeasuredFold) -> PriceRecord:
        """The record with one more fold, the oldest of its kind forgotten."""
        here = self.folds.get(machine, {})
        latest = (*here.get(kind, ()), fold)[-_KEPT:]
        folds = {**self.folds, machine: {**here, kind: latest}}
        return self.model_copy(update={"folds": folds})

    def with_timed(self, machine: str, kind: str, batches: MeasuredFold) -> PriceRecord:
        """The record with the price of one more kind of work by a few batches."""
        here = {**self.timed.get(machine, {}), kind: batches}
        return self.model_copy(update={"timed": {**self.timed, machine: here}})

    def with_flops(self, network: str, flops: float | None) -> PriceRecord:
        """The record with the operations of one more network."""
        return self.model_copy(update={"flops": {**self.flops, network: flops}})

    def with_blend(self, machine: str, blend: MeasuredBlend) -> PriceRecord:
        """The record with one more blend."""
        latest = (*self.blends.get(machine, ()), blend)[-_KEPT:]
        return self.model_copy(update={"blends": {**self.blends, machine: latest}})


@dataclass(frozen=True)
class PriceFile:
    """The file of prices at `path`, shared by all runs and processes."""

    path: Path

    def read(self) -> PriceRecord:
        """What is kept; nothing where the file is missing or altered, no result depends on it."""
        try:
            return PriceRecord.model_validate(read_json(self.path))
        except (EnsemblerError, ValidationError, OSError):
            return PriceRecord()

    def update(self, change: Callable[[PriceRecord], PriceRecord]) -> None:
        """Change what is kept; where nothing can be written nothing is kept."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with claim(self.path.with_suffix(".lock"), wait=True):
                write_record(self.path, change(self.read()))
