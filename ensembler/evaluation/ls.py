"""`ens ls`: what is there, complete or begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensembler.files import read_json
from ensembler.predictions.finished_folds import finished_folds
from ensembler.predictions.members import FAILED, RETRAINING
from ensembler.predictions.store import RunStore, run_names
from ensembler.predictions.trials import TRIAL_RECORD, TrialRecord, read_trial
from ensembler.reporting.submitted import is_as_recorded, submitted_blend
from ensembler.reporting.versions import submission_versions


@dataclass(frozen=True)
class MemberListing:
    """One member: `state` is complete, training, failed, or trial of a search with some folds."""

    name: str
    folds_done: int
    folds: int
    views: tuple[str, ...]
    state: str
    target: str | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    message: str | None = None


@dataclass(frozen=True)
class BlendListing:
    """One blend with its cross-fitted scores."""

    name: str
    method: str
    members: tuple[str, ...]
    submitted: bool
    scores: dict[str, Any]


@dataclass(frozen=True)
class RunListing:
    """One run."""

    run: str
    folder: Path
    members: tuple[MemberListing, ...]
    blends: tuple[BlendListing, ...]
    submission: Path | None
    submission_altered: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens ls RUN --json` prints."""
        return {
            "run": self.run,
            "folder": str(self.folder),
            "members": [member.__dict__ for member in self.members],
            "blends": [blend.__dict__ for blend in self.blends],
            "submission": str(self.submission) if self.submission else None,
            "submission_altered": self.submission_altered,
        }


def list_runs(artifacts: Path) -> list[RunListing]:
    """Every run under `artifacts`, without opening arrays."""
    return [list_run(RunStore(artifacts / name)) for name in run_names(artifacts)]


def list_run(store: RunStore, *, check: bool = False) -> RunListing:
    """What a run holds; with `check` every array is read and compared with its checksum."""
    members = [_complete(store, name, check) for name in store.complete_members]
    begun = [_begun(store, name) for name in store.begun_members]
    members += [member for member in begun if member is not None]
    submitted = submitted_blend(store)
    blends = []
    for name in store.blends:
        blend = store.blend(name)
        if check:
            _ = blend.oof, blend.test
        scores = blend.record.scores.get("cross_fitted") or {}
        blends.append(
            BlendListing(
                name, blend.record.method, blend.record.members, name == submitted, scores
            )
        )
    submission = store.submission_path if store.submission_path.is_file() else None
    altered = (
        submission is not None
        and bool(submission_versions(store))
        and not is_as_recorded(store)
    )
    return RunListing(
        store.name, store.folder, tuple(members), tuple(blends), submission, altered
    )


def _complete(store: RunStore, name: str, check: bool) -> MemberListing:
    member = store.member(name)
    if check:
        for target in member.targets:
            _ = member.for_target(target).oof_logits, member.for_target(target).test_logits
    r = member.record
    retraining = (member.folder / RETRAINING).is_dir()
    state = "complete, training again" if retraining else "complete"
    if r.refit_of is not None:
        state += f", test rows by networks on all rows (unscored; scores are those of {r.refit_of})"
    return MemberListing(
        name, r.folds, r.folds, r.views, state, r.target, r.scores, r.seconds
    )


def _begun(store: RunStore, name: str) -> MemberListing | None:
    """A member that lacks folds; None of a trial that ended before its first one."""
    folder = store.folder / "members" / name
    n_folds = int(store.samples.table["fold"].max()) + 1
    done = len(finished_folds(folder, n_folds))
    failure = folder / FAILED
    if failure.is_file():
        message = str(read_json(failure).get("message"))
        return MemberListing(name, done, n_folds, (), "failed", message=message)
    path = folder / TRIAL_RECORD
    if path.is_file():
        return _trial(read_trial(path), done, n_folds)
    return MemberListing(name, done, n_folds, (), "training")


def _trial(record: TrialRecord, done: int, n_folds: int) -> MemberListing | None:
    """A trial of a search that was not completed."""
    if record.state == "running":
        return MemberListing(record.member, done, n_folds, (), "training")
    if not done:
        return None
    value = "" if record.value is None else f", value {record.value:.4f}"
    message = f"trial {record.number} of study {record.study}: {record.state}{value}"
    return MemberListing(
        record.member, done, n_folds, (), "trial", seconds=record.seconds, message=message
    )
