"""What each version of a run's submission was made of: `submission.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from ensembler.errors import StoreError
from ensembler.files import read_json
from ensembler.predictions.records import Record, write_record
from ensembler.predictions.store import RunStore

HISTORY_RECORD = "submission.json"


class MadeOf(Record):
    """What a version was made of: a blend of the store, or the finished folds of each member.

    `unscored` are members whose test rows were predicted by networks on all rows: the score is that
    of their folds.
    """

    method: str | None = None
    blend: str | None = None
    members: tuple[str, ...] | None = None
    weights: dict[str, float] | None = None
    scores: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)
    folds: dict[str, tuple[int, ...]] | None = None
    unscored: tuple[str, ...] = ()


class ScoreRecord(Record):
    """An honest score out of fold, and its 95 % interval."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None


class PublicScore(Record):
    """What a leaderboard said, in `metric` where that is known."""

    value: float
    metric: str | None = None


class SubmissionVersion(Record):
    """One version: the file by its sha256, and how it was made.

    `options` are kept of those made `by_hand`, `written_with` of all. `file` is its place where
    that is not the run's `submission.csv`, `replay_of` the number of the version that it is again.
    `sources` are the files that it was computed from, by their sha256; `kept` says under which name
    a copy of a file is kept in `history/`. Versions that an earlier `ens` wrote lack all of these.
    """

    sha256: str | None = None
    rows: int | None = None
    made_of: MadeOf
    by_hand: bool = False
    options: dict[str, Any] | None = None
    time: str | None = None
    file: str | None = None
    target: str | None = None
    classes: tuple[str, ...] | None = None
    written_with: dict[str, Any] | None = None
    score: ScoreRecord | None = None
    public: PublicScore | None = None
    replay_of: int | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    kept: dict[str, str] = Field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """The members that it was made of, as far as it says."""
        return self.made_of.members or tuple(self.made_of.folds or ())

    def makes_the_same(self, other: SubmissionVersion) -> bool:
        """Whether both are the same file, made of the same, in the same way."""
        return self._essence == other._essence

    @property
    def _essence(self) -> tuple[object, ...]:
        return self.sha256, self.rows, self.made_of.to_json(), self.by_hand, self.file


class SubmissionHistory(Record):
    """What `submission.json` says: the versions, the newest last."""

    format: Literal[1] = 1
    versions: tuple[SubmissionVersion, ...]


def all_versions(store: RunStore) -> tuple[SubmissionVersion, ...]:
    """Everything that was ever written to be submitted, the newest last."""
    path = store.folder / HISTORY_RECORD
    if not path.is_file():
        return ()
    try:
        return SubmissionHistory.model_validate(read_json(path)).versions
    except ValidationError as error:
        raise StoreError(
            f"{path} does not list the versions of the submission; remove it, `ens run` writes it "
            "again"
        ) from error


def submission_versions(store: RunStore) -> tuple[SubmissionVersion, ...]:
    """The versions of the run's `submission.csv`, the newest last."""
    return tuple(version for version in all_versions(store) if version.file is None)


def write_versions(store: RunStore, versions: Sequence[SubmissionVersion]) -> None:
    """Write the history, whole or not at all."""
    history = SubmissionHistory(format=1, versions=tuple(versions))
    write_record(store.folder / HISTORY_RECORD, history)
