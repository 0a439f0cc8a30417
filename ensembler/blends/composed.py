"""A label made of several tasks.

There is a blend for each task, their product, and a blend of that with direct members.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.cross_fitting import fitting_parts, splits
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.blends.keep import Asked, BlendOutcome, keep_blend
from ensembler.blends.pool import BLEND_PREFIX
from ensembler.errors import MissingFileError, RequestError
from ensembler.metrics import score_all
from ensembler.predictions.composed import compose_probs, composition_of
from ensembler.predictions.explanation import BlendExplanation
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress
from ensembler.targets.composition import Composition

COMPOSED = "composed"


class BlendOptions(TypedDict, total=False):
    """Options of `blend_run` that every blend of a composed label takes alike."""

    views: Sequence[str] | None
    common_rows: bool
    budget: float | None
    progress: Progress
    costs: Mapping[str, float] | None
    explain: bool


@dataclass(frozen=True)
class _Stages:
    """The blends that a composed label is made of, one after the other.

    They share `part`, the parts of cross-fitting `[train rows]`: were they drawn anew for each
    blend, a row scored by one would have helped to fit another that it builds on.
    """

    store: RunStore
    composition: Composition
    spec: BlendSpec
    trust: Sequence[str]
    part: NDArray[np.int64]
    options: BlendOptions

    def blend(
        self, name: str, members: Sequence[str], target: str, asked: Asked | None = None
    ) -> BlendOutcome:
        """The blend of one target's members, kept as `name`."""
        return blend_run(
            self.store,
            stage_spec(self.spec, name, members),
            members=members,
            target=target,
            trust=[member for member in self.trust if member in members],
            part=self.part,
            asked=asked,
            **self.options,
        )

    def of_tasks(self, members: Mapping[str, Sequence[str]]) -> dict[str, BlendOutcome]:
        """A blend for each task, of its members."""
        return {
            task: self.blend(f"{self.spec.blend_name}.{task}", of_task, task)
            for task, of_task in members.items()
        }

    def with_direct(
        self, composed: BlendOutcome, direct: Sequence[str], asked: Asked
    ) -> BlendOutcome:
        """The blend of the product of the tasks with members that predict the label itself."""
        last = [*direct, f"{BLEND_PREFIX}{composed.result.name}"]
        final = self.blend(self.spec.blend_name, last, self.composition.name, asked)
        return replace(final, stages=(*composed.stages, composed))


def blend_label(
    store: RunStore,
    spec: BlendSpec,
    *,
    members: Sequence[str] | None = None,
    trust: Sequence[str] = (),
    **options: Unpack[BlendOptions],
) -> BlendOutcome:
    """Find the blend of the run's label and keep it; further `options` are those of `blend_run`.

    When the label is composed of tasks that have members, a blend is made for each task
    (`<name>.<task>`), their product (`<name>.composed`), and at last the blend of that product with
    the members that predict the label itself.
    """
    composition = store.composition
    names = _asked_for(store, spec, members)
    if composition is None or any(name.startswith(BLEND_PREFIX) for name in names):
        return blend_run(store, spec, members=members, trust=trust, **options)
    of_task = {
        task: [m.name for m in store.members_of(task, names)] for task in composition.tasks
    }
    direct = [m.name for m in store.members_of(composition.name, names)]
    lacking = [task for task, found in of_task.items() if not found]
    if lacking:
        if not direct:
            raise _nothing_to_blend(composition, lacking)
        return blend_run(
            store, spec, members=direct, target=composition.name, trust=trust, **options
        )
    part = _shared_parts(store, composition, seed=spec.seed)
    stages = _Stages(store, composition, spec, trust, part, options)
    asked = Asked(spec, sorted(set(direct).union(*of_task.values())))
    name = f"{spec.blend_name}.{COMPOSED}" if direct else spec.blend_name
    made = stages.of_tasks(of_task)
    composed = _keep_composed(store, name, made, part, options.get("views"), asked)
    return stages.with_direct(composed, direct, asked) if direct else composed


def _asked_for(
    store: RunStore, spec: BlendSpec, members: Sequence[str] | None
) -> list[str]:
    """The members that were named, or all of the pool."""
    named = spec.members if members is None else members
    return list(store.pool_members if named is None else named)


def _nothing_to_blend(composition: Composition, lacking: Sequence[str]) -> MissingFileError:
    return MissingFileError(
        f"no complete member predicts {composition.name!r}, and of its tasks "
        f"{', '.join(lacking)} has none either; --target TASK blends the members of "
        "one task"
    )


def _shared_parts(
    store: RunStore, composition: Composition, *, seed: int
) -> NDArray[np.int64]:
    """Parts of cross-fitting `[train rows]` that the blends of all tasks and of the label share."""
    labels = store.labels(composition.name, "train", composition.classes)
    return fitting_parts(
        labels + 1, store.samples.folds() + 1, store.samples.groups(), seed=seed
    )


def stage_spec(spec: BlendSpec, name: str, members: Sequence[str]) -> BlendSpec:
    """The recipe's blend for one stage.

    Weights by hand are those of the stage's members; without any it is the plain mean.
    """
    changes: dict[str, Any] = {"name": name, "members": None}
    if spec.calibrate == "biases" and not any(m.startswith(BLEND_PREFIX) for m in members):
        changes["calibrate"] = "none"  # decisions are moved once, at the end
    if spec.weights is None:
        return spec.model_copy(update=changes)
    if not isinstance(spec.weights, dict):
        raise RequestError(
            "weights of a composed class go by name, such as --weights mask_a=2,mask_b=1"
        )
    given = {m: spec.weights.get(_weight_name(m)) for m in members}
    weights = {m: weight for m, weight in given.items() if weight is not None}
    if sum(weights.values()) > 0:
        changes["weights"] = weights
    else:
        changes |= {"weights": None, "method": "soft"}
    return spec.model_copy(update=changes)


def _weight_name(member: str) -> str:
    return COMPOSED if member.startswith(BLEND_PREFIX) else member


def _keep_composed(
    store: RunStore,
    name: str,
    stages: Mapping[str, BlendOutcome],
    part: NDArray[np.int64],
    views: Sequence[str] | None,
    asked: Asked,
) -> BlendOutcome:
    """Compose the tasks' blends and keep what comes out.

    Observed co-occurrence is counted on a row's other parts.
    """
    began = time.perf_counter()
    composition = composition_of(store)
    rows = np.array(
        sorted(set.intersection(*(set(s.rows.tolist()) for s in stages.values()))), np.int64
    )
    labels = store.labels(composition.name, "train", composition.classes)
    rows = rows[labels[rows] >= 0]
    honest, fitted = (
        {task: _at(rows, s.rows, probs) for task, s, probs in _oofs(stages, kind)}
        for kind in ("oof", "fitted_oof")
    )
    fitted_probs = compose_probs(store, fitted)
    if composition.prior == "observed":
        oof = np.empty_like(fitted_probs)
        for fit, scored in splits(part[rows]):
            oof[scored] = compose_probs(
                store, {t: p[scored] for t, p in honest.items()}, count_on=rows[fit]
            )
    else:
        oof = compose_probs(store, honest)
    tests = {task: s.result.test for task, s in stages.items() if s.result.test is not None}
    test = compose_probs(store, tests) if len(tests) == len(stages) else None
    result = BlendResult(
        name=name,
        method=COMPOSED,
        members=tuple(f"{BLEND_PREFIX}{s.result.name}" for s in stages.values()),
        weights=None,
        temperature=None,
        seconds=time.perf_counter() - began,
        oof=oof,
        fitted_oof=fitted_probs,
        test=test,
        blend=None,
        scores=_scores(store, composition, labels[rows], fitted_probs, oof, test),
        gain=None,
        details=BlendExplanation(
            tasks={task: s.result.name for task, s in stages.items()}, members=()
        ),
    )
    outcome = BlendOutcome(store.name, result, rows, tuple(stages.values()))
    keep_blend(
        store,
        outcome,
        composition.name,
        composition.classes,
        asked.spec,
        views,
        asked,
        None,
    )
    return outcome


def _oofs(
    stages: Mapping[str, BlendOutcome], kind: str
) -> list[tuple[str, BlendOutcome, NDArray[np.float32]]]:
    return [(task, stage, getattr(stage.result, kind)) for task, stage in stages.items()]


def _at(
    rows: NDArray[np.int64], among: NDArray[np.int64], probs: NDArray[np.floating]
) -> NDArray[np.floating]:
    return probs[np.searchsorted(among, rows)]


def _scores(
    store: RunStore,
    composition: Composition,
    y: NDArray[np.int64],
    fitted: NDArray[np.floating],
    oof: NDArray[np.floating],
    test: NDArray[np.floating] | None,
) -> dict[str, dict[str, float] | None]:
    labels = store.labels(composition.name, "test", composition.classes)
    known = labels >= 0
    holdout = (
        score_all(test[known], labels[known]) if test is not None and known.any() else None
    )
    return {
        "fitted": score_all(fitted, y),
        "cross_fitted": score_all(oof, y),
        "holdout": holdout,
    }
