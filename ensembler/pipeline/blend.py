"""Blending a run's members: read the pool, find the blend, keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.make import BlendResult, make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.errors import RequestError
from ensembler.files import claim
from ensembler.pipeline.fingerprint import fingerprint
from ensembler.pipeline.pool import BLEND_PREFIX, StorePool, read_pool
from ensembler.pipeline.submission import write_submission
from ensembler.predictions.blends import write_blend
from ensembler.predictions.store import RunStore, check_name
from ensembler.reporting.spec import SubmissionSpec


@dataclass(frozen=True)
class BlendOutcome:
    """A blend that was made and kept."""

    run: str
    result: BlendResult
    n_rows: int
    submitted: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens blend --json` prints."""
        r = self.result
        return {
            "run": self.run,
            "name": r.name,
            "method": r.method,
            "members": list(r.members),
            "weights": r.weights,
            "temperature": r.temperature,
            "seconds": r.seconds,
            "n": self.n_rows,
            "scores": r.scores,
            "gain": r.gain,
            "warnings": list(r.warnings),
            "details": r.details,
            "submitted": self.submitted,
        }


def blend_run(
    store: RunStore,
    spec: BlendSpec,
    *,
    members: Sequence[str] | None = None,
    views: Sequence[str] | None = None,
    common_rows: bool = False,
    trust: Sequence[str] = (),
    budget: float | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    target: str | None = None,
    costs: Mapping[str, float] | None = None,
    explain: bool = False,
) -> BlendOutcome:
    """Find the blend that `spec` asks for over the complete members and keep it as `blends/<name>/`."""
    name = check_name("blend", spec.name or spec.method)
    members = spec.members if members is None else members
    if name in _blends_below(store, members or ()):
        raise RequestError(f"blend {name!r} cannot be made of itself; --name gives the new blend another name")
    found = read_pool(
        store,
        members,
        target=target,
        merge=spec.merge,
        views=views or spec.views,
        common_rows=common_rows,
        costs=costs,
    )
    result = make_blend(found.pool, spec, trust=tuple(trust), budget=budget, explain=explain, progress=on_progress)
    _keep(store, found, spec, result, views)
    return BlendOutcome(store.name, result, len(found.rows))


def _blends_below(store: RunStore, members: Sequence[str]) -> set[str]:
    """Names of the blends among `members`, and of those that they are made of."""
    names = {name.removeprefix(BLEND_PREFIX) for name in members if name.startswith(BLEND_PREFIX)}
    return names.union(*(_blends_below(store, store.blend(name).record.members) for name in names))


def _keep(store: RunStore, found: StorePool, spec: BlendSpec, result: BlendResult, views: Sequence[str] | None) -> None:
    classes = found.pool.classes
    oof = np.full((len(store.samples.train), len(classes)), np.nan, np.float32)
    oof[found.rows] = result.oof
    test = np.empty((0, len(classes)), np.float32) if result.test is None else result.test
    record = {
        "name": result.name,
        "target": found.target,
        "classes": list(classes),
        "method": result.method,
        "members": list(result.members),
        "weights": result.weights,
        "temperature": result.temperature,
        "scores": _storable(result.scores),
        "gain": _storable(result.gain),
        "warnings": list(result.warnings),
        "details": _storable(result.details),
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "views": list(views) if views else None,
        "fingerprint": blend_fingerprint(store, spec, found.pool.names, views),
    }
    write_blend(store.blend_folder(result.name), store.lock_path, record, oof, test)


def _storable(value: Any) -> Any:
    """The same values as JSON can hold them: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def blend_fingerprint(store: RunStore, spec: BlendSpec, members: Sequence[str], views: Sequence[str] | None) -> str:
    """A digest of everything a blend is made from: its options and its members' predictions."""
    sums = {name: _sums(store, name) for name in members}
    predictions = {name: [s.get("oof.npy"), s.get("test.npy"), s.get("samples.csv")] for name, s in sums.items()}
    return fingerprint({"spec": spec.model_dump(mode="json"), "members": predictions, "views": list(views or [])})


def _sums(store: RunStore, name: str) -> dict[str, str]:
    if name.startswith(BLEND_PREFIX):
        return store.blend(name.removeprefix(BLEND_PREFIX)).record.sha256
    return store.member(name).record.sha256


def is_current(store: RunStore, spec: BlendSpec, members: Sequence[str], views: Sequence[str] | None) -> bool:
    """Whether the store holds this very blend of these very predictions."""
    name = spec.name or spec.method
    if name not in store.blends:
        return False
    record = store.blend(name).record
    return (record.model_extra or {}).get("fingerprint") == blend_fingerprint(store, spec, members, views)


def submit_blend(store: RunStore, name: str, spec: SubmissionSpec) -> bool:
    """Make the named blend the run's submission; False when the run has no rows to submit."""
    blend = store.blend(name)
    made_of = {
        "blend": name,
        "method": blend.record.method,
        "members": list(blend.record.members),
        "weights": blend.record.weights,
        "scores": {kind: blend.record.scores.get(kind) for kind in ("cross_fitted", "holdout")},
    }
    with claim(store.lock_path, wait=True):
        return write_submission(store, spec, np.asarray(blend.test), blend.record.classes, made_of)


def submission_spec(store: RunStore) -> SubmissionSpec:
    """How the run's recipe wants its submission, or the default for a run without a recipe."""
    recipe = store.lock.get("recipe")
    given = recipe.get("submission") if isinstance(recipe, dict) else None
    return SubmissionSpec.model_validate(given or {})


def apply_blend(store: RunStore, name: str, test: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
    """Probabilities of new samples by a blend of the store.

    `test` holds, by member, the probabilities `[folds, samples, classes]` of the new samples, classes in the run's
    order. The blend is fitted again on the same out-of-fold rows, which gives the same blend.
    """
    from dataclasses import replace

    record = store.blend(name).record
    extra = record.model_extra or {}
    spec = BlendSpec.model_validate(extra.get("spec") or {"method": record.method})
    found = read_pool(store, record.members, merge=spec.merge, views=extra.get("views") or spec.views, common_rows=True)
    for inner in found.pool.names:
        if inner.startswith(BLEND_PREFIX) and inner not in test:
            test = {**test, inner: apply_blend(store, inner.removeprefix(BLEND_PREFIX), test)[None]}
    n_new = len(next(iter(test.values()))[0])
    pool: Pool = replace(found.pool, test=tuple(test[m] for m in found.pool.names), test_y=np.full(n_new, -1, np.int64))
    # The record's members are what was left after pruning, costs and trust: nothing is left out a second time.
    result = make_blend(pool, spec.model_copy(update={"prune": None, "max_cost": None}), trust=found.pool.names)
    assert result.test is not None
    return result.test
