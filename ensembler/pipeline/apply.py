"""A blend of the store on new samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.pipeline.compose import COMPOSED
from ensembler.pipeline.pool import BLEND_PREFIX, read_pool
from ensembler.pipeline.task_product import compose_probs
from ensembler.predictions.store import RunStore

NewProbs = Mapping[tuple[str, str], NDArray[np.floating]]  # by member and target, [folds, samples, classes]


def members_below(store: RunStore, name: str) -> list[str]:
    """Names of the members that a blend is made of, those of blends in it too."""
    names: dict[str, None] = {}
    for inner in store.blend(name).record.members:
        below = members_below(store, inner.removeprefix(BLEND_PREFIX)) if inner.startswith(BLEND_PREFIX) else [inner]
        names.update(dict.fromkeys(below))
    return list(names)


def apply_blend(store: RunStore, name: str, test: NewProbs) -> NDArray[np.float32]:
    """Probabilities `[samples, classes]` of new samples by a blend of the store.

    `test` has the members' probabilities of the new samples, classes in the run's order. The blend is fitted again on
    the same out-of-fold rows, which gives the same blend.
    """
    record = store.blend(name).record
    if record.method == COMPOSED:
        tasks: dict[str, str] = (record.model_extra or {})["details"]["tasks"]
        return compose_probs(store, {task: apply_blend(store, inner, test) for task, inner in tasks.items()})
    extra = record.model_extra or {}
    spec = BlendSpec.model_validate(extra.get("spec") or {"method": record.method})
    found = read_pool(
        store,
        record.members,
        target=record.target,
        merge=spec.merge,
        views=extra.get("views") or spec.views,
        common_rows=True,
    )
    new = [
        apply_blend(store, inner.removeprefix(BLEND_PREFIX), test)[None]
        if inner.startswith(BLEND_PREFIX)
        else test[inner, record.target]
        for inner in found.pool.names
    ]
    pool: Pool = replace(found.pool, test=tuple(new), test_y=np.full((new[0].shape[1], *found.pool.y.shape[1:]), -1))
    # The record's members are what was left after pruning, costs and trust: nothing is left out a second time.
    result = make_blend(pool, spec.model_copy(update={"prune": None, "max_cost": None}), trust=found.pool.names)
    assert result.test is not None
    return result.test
