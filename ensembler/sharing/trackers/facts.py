"""What a tracker is told of a run, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensembler.blending.judging.absolute import score_interval
from ensembler.blends.origin import cross_fitted_score
from ensembler.evaluation.by_class import evaluate_by_class
from ensembler.files import fingerprint, sha256_by_stat
from ensembler.predictions.members import Member
from ensembler.predictions.store import RunStore
from ensembler.reporting.submitted import submitted_blend
from ensembler.targets.label_sets import is_known

WITH_INTERVAL = ("accuracy", "log_loss")
REPORT = "report.html"
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """How one fold of a training went: for each epoch its figures, such as loss and score."""

    training: str
    fold: int
    epochs: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class MemberFacts:
    """A complete member; `digest` is one of its predictions."""

    name: str
    digest: str
    params: Mapping[str, str]
    metrics: Metrics
    curves: tuple[Curve, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RunFacts:
    """A run as a whole: its recipe, its blends, and what is worth keeping as files."""

    name: str
    digest: str
    params: Mapping[str, str]
    metrics: Metrics
    tables: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def member_facts(store: RunStore, name: str) -> MemberFacts:
    """What there is to say of one member."""
    member = store.member(name)
    record = member.record
    metrics = _numbers(record.scores) | _intervals(store, member)
    if record.seconds is not None:
        metrics["seconds"] = record.seconds
    tags = {"target": record.target, "kind": record.kind, "views": ",".join(record.views)}
    known = {"origin": record.origin, "author": record.author}
    tags |= {key: value for key, value in known.items() if value is not None}
    return MemberFacts(
        name=name,
        digest=fingerprint(record.sha256),
        params=_flat(record.options),
        metrics=metrics,
        curves=_curves(member),
        tags=tags,
    )


def run_facts(store: RunStore) -> RunFacts:
    """What there is to say of a run beside its members."""
    metrics: dict[str, float] = {}
    for name in store.blends:
        blend = store.blend(name)
        found = cross_fitted_score(store, blend)
        metrics |= _numbers({f"blend/{name}": blend.record.scores})
        if found is not None and found.low is not None and found.high is not None:
            at = f"blend/{name}/cross_fitted/{found.metric}"
            metrics |= {f"{at}_low": found.low, f"{at}_high": found.high}
    tables: dict[str, Any] = {}
    if store.complete_members:
        by_class = evaluate_by_class(store)
        tables["per_class.json"] = by_class.to_json(per_class=True, confusion=True)
    files = [path for path in (store.folder / REPORT, store.recipe_path) if path.is_file()]
    params = _flat(store.lock.recipe) | {"submitted": str(submitted_blend(store))}
    sums = {path.name: sha256_by_stat(path) for path in files}
    return RunFacts(
        name=store.name,
        digest=fingerprint([metrics, params, sums]),
        params=params,
        metrics=metrics,
        tables=tables,
        files=tuple(files),
    )


def _numbers(scores: Mapping[str, Any], within: str = "") -> dict[str, float]:
    """All finite numbers in nested scores, by path: oof/log_loss."""
    found: dict[str, float] = {}
    for key, value in scores.items():
        path = f"{within}{key}"
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{path}/")
        elif isinstance(value, (int, float)) and np.isfinite(value):
            found[path] = float(value)
    return found


def _intervals(store: RunStore, member: Member) -> dict[str, float]:
    """The ends of the intervals of a member's out-of-fold scores, in its first target."""
    target, classes = member.record.target, member.record.classes
    of_target = member.for_target(target)
    labels = store.labels(target, "train", classes)
    probs = of_target.oof(classes)
    rows = is_known(labels) & np.isfinite(probs).all(axis=1)
    if not rows.any():
        return {}
    groups = store.samples.groups()
    found: dict[str, float] = {}
    for metric in WITH_INTERVAL:
        of_rows = None if groups is None else groups[rows]
        score = score_interval(metric, probs[rows], labels[rows], of_rows)
        at = f"oof/{metric}"
        found |= _numbers({f"{at}_low": score.low, f"{at}_high": score.high})
    return found


def _curves(member: Member) -> tuple[Curve, ...]:
    training = member.record.training or member.name
    found = []
    for fold, epochs in enumerate(member.record.history):
        figures = [_figures(epoch) for epoch in epochs if isinstance(epoch, Mapping)]
        found.append(Curve(training, fold, tuple(figures)))
    return tuple(found)


def _figures(epoch: Mapping[str, Any]) -> Mapping[str, float]:
    """The numbers of an epoch."""
    numbers = {key: value for key, value in epoch.items() if key != "epochs"}
    return _numbers(numbers)


def _flat(options: Mapping[str, Any], within: str = "") -> dict[str, str]:
    """Nested options as text by path: input.size."""
    found: dict[str, str] = {}
    for key, value in options.items():
        path = f"{within}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}.")
        elif value is not None:
            found[path] = str(value)
    return found
