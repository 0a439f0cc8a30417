"""`ens history`: every submission that was ever written, and how a leaderboard judged it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ensembler.errors import RequestError
from ensembler.files import claim
from ensembler.predictions.store import RunStore
from ensembler.reporting.agreement import Agreement, ScorePair, agreement
from ensembler.reporting.submitted import current_number
from ensembler.reporting.tables import Table, number
from ensembler.reporting.versions import (
    PublicScore,
    ScoreRecord,
    SubmissionVersion,
    all_versions,
    write_versions,
)


@dataclass(frozen=True)
class Listed:
    """A version, its number and its honest score; `is_current` when `submission.csv` is it."""

    n: int
    version: SubmissionVersion
    score: ScoreRecord | None
    is_current: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        version, score, public = self.version, self.score, self.version.public
        return {
            "n": self.n,
            "time": version.time,
            "blend": version.made_of.blend,
            "method": version.made_of.method,
            "members": list(version.members),
            "rows": version.rows,
            "metric": None if score is None else score.metric,
            "score": None if score is None else score.value,
            "low": None if score is None else score.low,
            "high": None if score is None else score.high,
            "public": None if public is None else public.value,
            "public_metric": None if public is None else public.metric,
            "current": self.is_current,
            "by_hand": version.by_hand,
            "replay_of": version.replay_of,
            "file": version.file,
            "unscored": list(version.made_of.unscored),
        }


@dataclass(frozen=True)
class RunHistory:
    """Every submission of a run, and how its scores agree with the public ones."""

    run: str
    versions: tuple[Listed, ...]
    agreement: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens history --json` prints."""
        found = self.agreement
        return {
            "run": self.run,
            "versions": [listed.to_json() for listed in self.versions],
            "agreement": None if found is None else found.to_json(),
        }

    def tables(self) -> list[Table]:
        """As the terminal and a notebook show it."""
        columns = ("n", "time", "made of", "members", "rows", "score", "95 % interval")
        rows = tuple(_row(listed) for listed in self.versions)
        notes = ("* is what submission.csv holds.", *_words(self.agreement))
        unscored = [
            str(listed.n) for listed in self.versions if listed.version.made_of.unscored
        ]
        if unscored:
            notes += (
                f"{', '.join(unscored)}: test rows by networks on all rows, which nothing has "
                "scored; the score is that of the folds.",
            )
        title = f"submissions of {self.run}"
        return [Table(title, (*columns, "public", ""), rows, notes=notes)]


def run_history(store: RunStore) -> RunHistory:
    """Every submission of a run, the newest last."""
    current = current_number(store)
    listed = tuple(
        Listed(n, version, score_of(store, version), n == current)
        for n, version in enumerate(all_versions(store), start=1)
    )
    return RunHistory(store.name, listed, _agreement(listed))


def score_of(store: RunStore, version: SubmissionVersion) -> ScoreRecord | None:
    """A version's honest score; of one from before intervals were kept, that of its blend."""
    if version.score is not None:
        return version.score
    metric = str(store.lock.section("blend").get("metric", "log_loss"))
    return _cross_fitted(version, metric)


def _cross_fitted(version: SubmissionVersion, metric: str) -> ScoreRecord | None:
    value = (version.made_of.scores.get("cross_fitted") or {}).get(metric)
    return None if value is None else ScoreRecord(metric=metric, value=value)


def version_number(store: RunStore, n: int) -> SubmissionVersion:
    """The version of that number; RequestError when there is none."""
    versions = all_versions(store)
    if not 1 <= n <= len(versions):
        known = f"1 to {len(versions)}" if versions else "there are none yet"
        raise RequestError(
            f"run {store.name!r} has no submission {n}: {known}; `ens history {store.name}` lists "
            "them"
        )
    return versions[n - 1]


def set_public_score(
    store: RunStore, n: int, value: float | None, metric: str | None = None
) -> None:
    """Note what a leaderboard said of version `n`, and of all that are the same file.

    `metric` None: it is the one that the version was scored with. A `value` of None takes the note
    back.
    """
    if value is not None and not math.isfinite(value):
        raise RequestError(f"score {value} is not a finite number")
    with claim(store.lock_path, wait=True):
        chosen = version_number(store, n)
        scored = score_of(store, chosen)
        in_metric = metric or (None if scored is None else scored.metric)
        public = None if value is None else PublicScore(value=value, metric=in_metric)
        changed = [
            version.model_copy(update={"public": public})
            if version is chosen or version.sha256 == chosen.sha256
            else version
            for version in all_versions(store)
        ]
        write_versions(store, changed)


def _agreement(listed: Sequence[Listed]) -> Agreement | None:
    """Of the submissions with both scores in the metric that most of them have, each file once."""
    pairs: dict[str, dict[str, ScorePair]] = {}
    for each in listed:
        public = each.version.public
        if public is None or public.metric is None:
            continue
        ours = _score_in(each, public.metric)
        if ours is not None and ours.value is not None:
            pair = ScorePair(ours.value, public.value, ours.low, ours.high)
            pairs.setdefault(public.metric, {})[str(each.version.sha256)] = pair
    if not pairs:
        return None
    most = max(pairs, key=lambda metric: len(pairs[metric]))
    return agreement(most, list(pairs[most].values()))


def _score_in(listed: Listed, metric: str) -> ScoreRecord | None:
    """A version's cross-fitted score in a metric; the interval is known of its own alone."""
    if listed.score is not None and listed.score.metric == metric:
        return listed.score
    return _cross_fitted(listed.version, metric)


def _row(listed: Listed) -> tuple[str | int | float | None, ...]:
    version, score, public = listed.version, listed.score, listed.version.public
    interval = None
    if score is not None and score.low is not None and score.high is not None:
        interval = f"{number(score.low)} to {number(score.high)}"
    return (
        str(listed.n),
        None if version.time is None else version.time[:16].replace("T", " "),
        _made_of(version),
        len(version.members),
        version.rows,
        None
        if score is None or score.value is None
        else f"{score.metric} {number(score.value)}",
        interval,
        None if public is None else public.value,
        "*" if listed.is_current else "",
    )


def _made_of(version: SubmissionVersion) -> str | None:
    made = version.made_of.blend or version.made_of.method
    if version.replay_of is not None:
        made = f"{made} (again {version.replay_of})"
    return made if version.file is None else f"{made} -> {version.file}"


def _words(found: Agreement | None) -> list[str]:
    if found is None:
        return []
    mean = f"public less cross-fitted {found.metric}: {found.difference:+.4f} on average"
    if found.difference_low is not None:
        mean += f" ({found.difference_low:+.4f} to {found.difference_high:+.4f})"
    words = [f"{mean}, {found.within} of {found.n} public scores inside the 95 % interval."]
    if found.rank_correlation is None or found.n < 3:
        return [*words, "Of how the two order submissions, fewer than three say nothing."]
    order = (
        f"Rank correlation {found.rank_correlation:+.2f} over {found.n} submissions; the truth may "
        f"be anything from {found.low:+.2f} to {found.high:+.2f}"
    )
    if found.by_chance is not None:
        order += f", and {found.by_chance:.0%} of random orders would agree as well"
    return [*words, f"{order}."]
