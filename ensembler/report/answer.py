"""What a run comes to, first and in sentences: what is submitted, how good it is, what is real."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ensembler.blends.origin import cross_fitted_score, metric_of
from ensembler.predictions.blends import BlendRecord
from ensembler.predictions.explanation import GainRecord
from ensembler.report.facts import RunFacts, TargetFacts
from ensembler.reporting.page import Block, Facts, Section, Text, section
from ensembler.reporting.tables import number

_NAMED = 8  # members that a sentence names


def answer_section(facts: RunFacts) -> list[Section]:
    """The first section: the submission, its score and interval, its gain, what is left out."""
    label = facts.label
    if label is None:
        blocks: list[Block | None] = [_nothing_yet(facts)]
    else:
        blocks = [_headline(facts, label), _key_figures(facts, label), _gain(label)]
    blocks += [_left_out(facts), _warnings(facts)]
    return section("answer", "In short", blocks)


def _nothing_yet(facts: RunFacts) -> Text:
    begun = [member for member in facts.members if member.state != "complete"]
    if not begun:
        return Text(("Nothing has been predicted yet.",), "bad")
    done = sum(member.folds_done for member in begun)
    folds = sum(member.folds for member in begun)
    said = f"No member is complete yet: {done} of {folds} folds are finished."
    return Text((said, f"`ens run {facts.store.recipe_hint}` resumes the run."), "bad")


def _headline(facts: RunFacts, label: TargetFacts) -> Text:
    record = label.record
    if record is None:
        return Text((f"There is no blend yet. {_best_member(label)}",), "answer")
    is_submitted = record.name == facts.submitted
    state = "Submitted" if is_submitted else "Not submitted"
    n_members = len(record.members)
    method = record.details.chosen or record.method
    made_of = f"{n_members} member" + ("s" if n_members != 1 else "")
    sentences = [f"{state}: blend {record.name} ({method}) of {made_of}."]
    sentences.append(_score_sentence(facts, record))
    if record.gain is not None:
        sentences.append(_gain_sentence(record.gain))
    return Text((" ".join(filter(None, sentences)),), "answer")


def _best_member(label: TargetFacts) -> str:
    best = label.shown
    return (
        f"The best member is {best.name}: log loss {number(best.scores['log_loss'])}, accuracy "
        f"{number(best.scores['accuracy'])} out of fold."
    )


def _score_sentence(facts: RunFacts, record: BlendRecord) -> str:
    """The cross-fitted score with its interval, by these words."""
    blend = facts.store.blend(record.name)
    metric = metric_of(blend)
    found = None
    with facts.faults.noted(f"score of blend {record.name}"):
        found = cross_fitted_score(facts.store, blend)
    if found is None or found.value is None:
        return ""
    said = f"Its cross-fitted {words(metric)} is {number(found.value)}"
    if found.low is None or not np.isfinite(found.low):
        return f"{said}, without an interval."
    units = "groups" if facts.has_groups else "rows"
    low, high = number(found.low), number(found.high)
    return f"{said} (95 % interval {low} to {high}, over {units})."


def words(metric: str) -> str:
    """A metric as a sentence says it."""
    known = {"f1_macro": "macro F1", "ece": "calibration error"}
    return known.get(metric, metric.replace("_", " "))


def _gain_sentence(gain: GainRecord) -> str:
    interval = f"(95 % interval {number(gain.low)} to {number(gain.high)})"
    if gain.value is None:
        return ""
    if gain.high is not None and gain.high < 0:
        better = f"worse than {gain.over} by {number(-gain.value)}"
        return f"It is {better} in {words(gain.metric)} {interval}: that is beyond noise."
    said = f"Its gain over {gain.over}, the best of its members, is {number(gain.value)}"
    verdict = "the gain is real" if is_real(gain) else "that may be noise"
    return f"{said} {interval}: {verdict}."


def is_real(gain: GainRecord) -> bool:
    """Whether a gain is beyond noise."""
    if gain.beyond_noise is not None:
        return gain.beyond_noise
    return gain.low is not None and gain.low > 0


def _gain(label: TargetFacts) -> Text | None:
    """What else the blend was compared with."""
    record = label.record
    gains = () if record is None else record.details.gains
    lines = [
        f"Over {gain.over}: {number(gain.value)} in {words(gain.metric)} "
        f"(95 % interval {number(gain.low)} to {number(gain.high)})"
        f"{'' if is_real(gain) else ', no gain beyond noise'}."
        for gain in gains
    ]
    return Text(tuple(lines)) if lines else None


def _key_figures(facts: RunFacts, label: TargetFacts) -> Facts:
    samples = facts.store.samples
    pairs = [
        ("Rows", f"{len(samples.train):,} train, {len(samples.test):,} test"),
        ("Classes", f"{len(label.classes):,} of {label.name}"),
        ("Folds", str(len(np.unique(samples.folds()[samples.folds() >= 0])))),
        ("Members", str(len(label.members))),
    ]
    if facts.groups is not None:
        pairs.append(("Groups", f"{len(np.unique(facts.groups)):,}"))
    if label.record is not None:
        pairs += _scores_of(label.record)
    return Facts(tuple(pairs))


def _scores_of(record: BlendRecord) -> list[tuple[str, str]]:
    pairs = []
    cross_fitted = record.scores.get("cross_fitted") or {}
    holdout = record.scores.get("holdout") or {}
    for metric in ("accuracy", "f1_macro", "log_loss", "ece"):
        if cross_fitted.get(metric) is not None:
            said = number(cross_fitted[metric])
            if holdout.get(metric) is not None:
                said += f" (holdout {number(holdout[metric])})"
            pairs.append((f"{words(metric)}, cross-fitted".capitalize(), said))
    return pairs


def _left_out(facts: RunFacts) -> Text | None:
    """What is not in the submission, and why."""
    lines = []
    failed = [member for member in facts.members if member.state == "failed"]
    for member in failed:
        lines.append(f"{member.name} failed: {member.message}")
    for member in facts.members:
        if member.state == "training":
            lines.append(
                f"{member.name} is not complete: {member.folds_done} of {member.folds} folds."
            )
    if facts.label is not None and facts.label.record is not None:
        lines += _not_blended(facts, facts.label, facts.label.record)
    rows = facts.store.lock.left_out
    if rows:
        lines.append(f"{len(rows)} images that cannot be read are left out.")
    if not lines:
        return None
    return Text(("Left out:", *lines), "note")


def _not_blended(facts: RunFacts, label: TargetFacts, record: BlendRecord) -> list[str]:
    weights = record.weights or {}
    idle = [name for name in record.members if weights.get(name) == 0]
    within = set(record.members)
    students = set(facts.store.lock.students)
    parts = facts.store.lock.part_of
    outside = [member.name for member in label.members if member.name not in within]
    lines = []
    if idle:
        lines.append(f"No weight, for they add nothing: {_listed(idle)}.")
    taught = [name for name in outside if name in students]
    if taught:
        lines.append(f"Students, which have seen all labels: {_listed(taught)}.")
    inside = [name for name in outside if parts.get(name) in within]
    if inside:
        lines.append(f"Already part of a member that is blended: {_listed(inside)}.")
    others = [name for name in outside if name not in {*taught, *inside}]
    if others and not record.details.tasks:
        lines.append(f"Not among the blend's members: {_listed(others)}.")
    return lines


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _warnings(facts: RunFacts) -> Text | None:
    """What the blend warns of, and whose scores are flattered."""
    lines = []
    for target in facts.targets:
        warnings = () if target.record is None else target.record.warnings
        lines += [warning.message for warning in warnings]
    flattered = _flattered(facts)
    if flattered:
        lines.append(
            f"Out-of-fold scores of {_listed(flattered)} are optimistic: their epochs were chosen "
            "by the rows they are scored on."
        )
    unscored = list(_refits(facts))
    if unscored:
        lines.append(
            f"Test rows of {_listed(unscored)} are predicted by networks on all rows, which only a "
            "holdout scores."
        )
    return Text(tuple(dict.fromkeys(lines)), "bad") if lines else None


def _flattered(facts: RunFacts) -> list[str]:
    names = dict.fromkeys(m.name for target in facts.targets for m in target.members)
    return [name for name in names if facts.store.member(name).is_optimistic]


def _refits(facts: RunFacts) -> Iterable[str]:
    names = dict.fromkeys(m.name for target in facts.targets for m in target.members)
    return (name for name in names if facts.store.member(name).record.refit_of)
