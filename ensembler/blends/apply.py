"""A blend of the store on new samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.blends.composed import COMPOSED
from ensembler.blends.pool import BLEND_PREFIX, read_pool
from ensembler.errors import RequestError, StoreError
from ensembler.metrics.renamed import with_names_of_today
from ensembler.predictions.blends import BlendRecord
from ensembler.predictions.composed import compose_probs
from ensembler.predictions.store import RunStore

NewProbs = Mapping[
    tuple[str, str], NDArray[np.floating]
]  # by member and target, [folds, samples, classes]


def members_below(store: RunStore, name: str, above: tuple[str, ...] = ()) -> list[str]:
    """Names of the members that a blend is made of, those of blends in it too.

    `above` are the blends it is part of. Raises StoreError for a blend that is made of itself.
    """
    if name in above:
        raise StoreError(
            f"{store.blend_folder(name) / 'blend.json'}: blend {name!r} is made of itself; it was "
            "altered"
        )
    record, names = store.blend(name).record, dict[str, None]()
    inside = [
        inner.removeprefix(BLEND_PREFIX)
        for inner in record.members
        if inner.startswith(BLEND_PREFIX)
    ]
    names.update(
        dict.fromkeys(inner for inner in record.members if not inner.startswith(BLEND_PREFIX))
    )
    for inner in dict.fromkeys([*inside, *_tasks(store, record).values()]):
        names.update(dict.fromkeys(members_below(store, inner, (*above, name))))
    return list(names)


def _tasks(store: RunStore, record: BlendRecord) -> dict[str, str]:
    """The blend of each task of a composed one; none of another."""
    if record.method != COMPOSED:
        return {}
    if not record.details.tasks:
        path = store.blend_folder(record.name) / "blend.json"
        raise StoreError(f"{path}: details do not name a blend for each task; the file was altered")
    return record.details.tasks


def _recorded_spec(record: BlendRecord) -> BlendSpec:
    return BlendSpec.model_validate(with_names_of_today(record.spec or {"method": record.method}))


def apply_blend(
    store: RunStore, name: str, test: NewProbs, code: Collection[str] = ()
) -> NDArray[np.float32]:
    """Probabilities `[samples, classes]` of new samples by a blend of the store.

    `test` has the members' probabilities of the new samples, classes in the run's order. The blend
    is fitted again on the same out-of-fold rows, which gives the same blend; `code` is what it may
    name as `module:name`.
    """
    members_below(store, name)  # it is not made of itself
    record = store.blend(name).record
    if record.method == COMPOSED:
        tasks = _tasks(store, record)
        return compose_probs(
            store, {task: apply_blend(store, inner, test, code) for task, inner in tasks.items()}
        )
    spec = _recorded_spec(record)
    strange = [place for place in spec.code if place not in code]
    if strange:
        raise RequestError(
            f"blend {name!r} was fitted with code, {strange[0]!r}, that the recipe of run "
            f"{store.name!r} does not "
            "name, and what a record names is not run; name it in the recipe (under blend), or "
            "submit another blend"
        )
    found = read_pool(
        store,
        record.members,
        target=record.target,
        merge=spec.merge,
        views=record.views or spec.views,
        common_rows=True,
    )
    new = [
        apply_blend(store, inner.removeprefix(BLEND_PREFIX), test, code)[None]
        if inner.startswith(BLEND_PREFIX)
        else test[inner, record.target]
        for inner in found.pool.names
    ]
    pool: Pool = replace(
        found.pool, test=tuple(new), test_y=np.full((new[0].shape[1], *found.pool.y.shape[1:]), -1)
    )
    # The record's members are what was left after pruning, costs and trust: nothing is left out a
    # second time.
    settled: dict[str, object] = {"prune": None, "max_cost": None}
    if spec.method == "weights":
        settled["weights"] = record.weights  # those given may name members that were left out
    result = make_blend(
        pool,
        spec.model_copy(update=settled),
        trust=found.pool.names,
        chosen=record.details.chosen,
    )
    assert result.test is not None
    return result.test
