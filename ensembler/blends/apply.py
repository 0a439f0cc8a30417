"""A blend of the store on new samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.candidate import Candidate
from ensembler.blending.fitted import FittedBlend
from ensembler.blending.make import make_blend
from ensembler.blending.spec import BlendSpec
from ensembler.blending.state import State
from ensembler.blends.composed import COMPOSED
from ensembler.blends.pool import BLEND_PREFIX, StorePool, read_pool
from ensembler.errors import RequestError, StoreError
from ensembler.metrics.renamed import with_names_of_today
from ensembler.own_code import is_loaded
from ensembler.predictions.blends import STATE, Blend, BlendRecord
from ensembler.predictions.composed import compose_probs
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress

# by member and target, [folds, samples, classes]
NewProbs = Mapping[tuple[str, str], NDArray[np.floating]]
_ALTERED = (KeyError, TypeError, ValueError, AttributeError)


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
    names.update(
        dict.fromkeys(
            inner for inner in record.members if not inner.startswith(BLEND_PREFIX)
        )
    )
    for inner in _blends_directly_in(store, record):
        names.update(dict.fromkeys(members_below(store, inner, (*above, name))))
    return list(names)


def blends_within(store: RunStore, name: str) -> list[str]:
    """The blend, and all those that it is made of."""
    members_below(store, name)  # it is not made of itself
    names = {name: None}
    for inner in _blends_directly_in(store, store.blend(name).record):
        names.update(dict.fromkeys(blends_within(store, inner)))
    return list(names)


def _blends_directly_in(store: RunStore, record: BlendRecord) -> list[str]:
    inside = [
        inner.removeprefix(BLEND_PREFIX)
        for inner in record.members
        if inner.startswith(BLEND_PREFIX)
    ]
    return list(dict.fromkeys([*inside, *_tasks(store, record).values()]))


@dataclass(frozen=True)
class ViewMerging:
    """How a blend makes one prediction of a member's views; `views` None = all it has."""

    how: Merge = "mean"
    views: Sequence[str] | None = None


def merging_below(store: RunStore, name: str) -> dict[tuple[str, str], ViewMerging]:
    """How a blend, and the blends in it, merge the views of each member and target.

    Raises RequestError when two of them merge the same member otherwise.
    """
    record = store.blend(name).record
    asked = record.spec or {}
    own = ViewMerging(asked.get("merge", "mean"), record.views or asked.get("views"))
    found: dict[tuple[str, str], ViewMerging] = {}
    inner_names = list(_tasks(store, record).values())
    for member in record.members:
        if member.startswith(BLEND_PREFIX):
            inner_names.append(member.removeprefix(BLEND_PREFIX))
        else:
            found[member, record.target] = own
    for inner in dict.fromkeys(inner_names):
        for (member, target), merging in merging_below(store, inner).items():
            if found.setdefault((member, target), merging) != merging:
                raise RequestError(
                    f"blends in {name!r} merge the views of member {member!r} in different ways, "
                    "which new images cannot be; make them with the same --merge and --views"
                )
    return found


def _tasks(store: RunStore, record: BlendRecord) -> dict[str, str]:
    """The blend of each task of a composed one; none of another."""
    if record.method != COMPOSED:
        return {}
    if not record.details.tasks:
        path = store.blend_folder(record.name) / "blend.json"
        raise StoreError(
            f"{path}: details do not name a blend for each task; the file was altered"
        )
    return record.details.tasks


def apply_blend(
    store: RunStore,
    name: str,
    test: NewProbs,
    code: Collection[str] = (),
    progress: Progress = QUIET,
) -> NDArray[np.float32]:
    """Probabilities `[samples, classes]` of new samples by a blend of the store.

    `test` has the members' probabilities of the new samples, classes in the run's order. The blend
    is built from its kept state. One without (made by an earlier version, or of a method that no
    file can hold) is fitted again on the same rows, and `progress` warns of it. `code` is what it
    may name as `module:name`.
    """
    members_below(store, name)  # it is not made of itself
    blend = store.blend(name)
    record = blend.record

    def applied(inner: str) -> NDArray[np.float32]:
        return apply_blend(store, inner, test, code, progress)

    if record.method == COMPOSED:
        tasks = _tasks(store, record)
        return compose_probs(store, {task: applied(inner) for task, inner in tasks.items()})
    fitted = _kept_blend(store, blend, code)
    if fitted is None:
        progress.warn(
            f"blend {name!r} has no fitted state in the store, so it is fitted again; `ens blend "
            f"{store.name} --name {name}` with its options keeps one"
        )
        fitted = _fitted_again(store, record, code)
    new = [
        applied(inner.removeprefix(BLEND_PREFIX))[None]
        if inner.startswith(BLEND_PREFIX)
        else test[inner, record.target]
        for inner in fitted.members
    ]
    return fitted.predict(new)


def _kept_blend(store: RunStore, blend: Blend, code: Collection[str]) -> FittedBlend | None:
    """The blend as it was fitted; None where the store does not keep that."""
    content = blend.state
    if content is None:
        return None
    try:
        state = State.from_bytes(content)
        candidate = Candidate.from_json(state.values["candidate"])
        _check_code(store, blend.record, candidate.code, code)
        fitted = FittedBlend.from_state(state)
    except RequestError:
        raise
    except _ALTERED as error:
        raise StoreError(
            f"{blend.folder / STATE} is no fitted blend ({error!r})"
        ) from error
    if fitted.members != blend.record.members:
        raise StoreError(
            f"{blend.folder / STATE} is of other members than blend.json; altered"
        )
    return fitted


def settled_spec(record: BlendRecord) -> BlendSpec:
    """How a blend was made, as far as its record says.

    The record's members are what was left after pruning, costs and trust: nothing is left out a
    second time.
    """
    spec = BlendSpec.model_validate(
        with_names_of_today(record.spec or {"method": record.method})
    )
    settled: dict[str, object] = {"prune": None, "max_cost": None}
    if spec.weights is not None:
        # those given may name members that were left out
        settled["weights"] = record.weights
    return spec.model_copy(update=settled)


def pool_of_blend(
    store: RunStore, record: BlendRecord, views: Sequence[str] | None = None
) -> StorePool:
    """What a blend was fitted on, or with `views` the same members by these views."""
    spec = settled_spec(record)
    return read_pool(
        store,
        record.members,
        target=record.target,
        merge=spec.merge,
        views=views or record.views or spec.views,
        common_rows=True,
    )


def _fitted_again(
    store: RunStore, record: BlendRecord, code: Collection[str]
) -> FittedBlend:
    """The blend fitted once more on the same rows, as far as its record says how."""
    spec = settled_spec(record)
    _check_code(store, record, spec.code, code)
    pool = pool_of_blend(store, record).pool
    result = make_blend(pool, spec, trust=pool.names, chosen=record.details.chosen)
    assert result.blend is not None
    return result.blend


def check_code_is_named(store: RunStore, record: BlendRecord) -> None:
    """RequestError for code that a blend's record names, and nobody else in this process."""
    named = settled_spec(record).code
    _check_code(store, record, named, [place for place in named if is_loaded(place)])


def _check_code(
    store: RunStore, record: BlendRecord, named: Collection[str], code: Collection[str]
) -> None:
    """RequestError for code that only a record names."""
    strange = [place for place in named if place not in code]
    if strange:
        raise RequestError(
            f"blend {record.name!r} was fitted with code, {strange[0]!r}, that the recipe of run "
            f"{store.name!r} does not name, and what a record names is not run; name it in the "
            "recipe (under blend), or name another blend"
        )
