"""Trials of a search, each a member of the run: `trial.json` beside its logits.

It says what a study keeps of a trial, so that the study can be made again from the members.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ensembler.predictions.records import Record, read_record
from ensembler.predictions.store import RunStore

TRIAL_RECORD = "trial.json"
TrialState = Literal["running", "complete", "pruned", "failed", "repeated"]


class TrialRecord(Record):
    """What `trial.json` says.

    `study` and `number` name the trial, `judged_by` is a digest of what else decides its value: the
    member's other options, the data, the objective. `params` are by key of the space, `reports` the
    values at each rung, `reason` says why a trial failed or ended early.
    """

    format: Literal[1] = 1
    study: str
    number: int = Field(ge=0)
    judged_by: str
    member: str
    params: dict[str, Any]
    state: TrialState = "running"
    value: float | None = None
    reports: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0
    reason: str | None = None


def trial_path(store: RunStore, member: str) -> Path:
    """Where the record of a trial lies, in its member's folder."""
    return store.member_folder(member) / TRIAL_RECORD


def read_trial(path: Path) -> TrialRecord:
    """Read a trial's record; StoreError where it was altered."""
    return read_record(path, TrialRecord)


def trial_records(store: RunStore) -> list[TrialRecord]:
    """The records of all trials of a run, by member."""
    return [
        read_trial(path) for path in sorted(store.folder.glob(f"members/*/{TRIAL_RECORD}"))
    ]
