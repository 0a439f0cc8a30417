"""`ens blend`: read the pool of a run's members, find the blend, keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.guards import PoolFinding
from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.blends.keep import Asked, BlendOutcome, keep_blend, not_kept, state_of
from ensembler.blends.pool import BLEND_PREFIX, pool_names, read_pool
from ensembler.blends.used import used_members
from ensembler.errors import NotKeptError, RequestError
from ensembler.files import check_name
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress


def blend_run(  # noqa: PLR0913 in notebooks: a keyword for each option of `ens blend`
    store: RunStore,
    spec: BlendSpec,
    *,
    members: Sequence[str] | None = None,
    views: Sequence[str] | None = None,
    common_rows: bool = False,
    trust: Sequence[str] = (),
    budget: float | None = None,
    progress: Progress = QUIET,
    target: str | None = None,
    costs: Mapping[str, float] | None = None,
    explain: bool = False,
    part: NDArray[np.int64] | None = None,
    asked: Asked | None = None,
) -> BlendOutcome:
    """Find the blend that `spec` asks for and keep it as `blends/<name>/`.

    It is made of the complete members of one target. `part` `[train rows]` are parts of
    cross-fitting that several blends share; `asked` is what the whole was asked to be made of, when
    this blend is its last stage (default: `spec` and its members).
    """
    members = spec.members if members is None else members
    _check_blend_name(store, spec.blend_name, members or ())
    names = pool_names(store, members, target)
    used_spec, used = used_members(spec, names)
    found = read_pool(
        store,
        members if len(used) == len(names) else used,
        target=target,
        merge=spec.merge,
        views=views or spec.views,
        common_rows=common_rows,
        costs=costs,
    )
    result = make_blend(
        found.pool,
        used_spec,
        trust=tuple(trust),
        budget=budget,
        explain=explain,
        progress=progress,
        part=None if part is None else part[found.rows],
    )
    state, lost = _state(result, found.pool)
    findings = [*_optimistic(store, _with_weight(result)), *lost]
    warnings = (*result.warnings, *(finding.to_json() for finding in findings))
    unused = tuple(name for name in names if name not in used)
    kept = replace(result, warnings=warnings)
    outcome = BlendOutcome(store.name, kept, found.rows, unused=unused)
    asked = asked or Asked(spec, names, unused)
    keep_blend(store, outcome, found.target, found.pool.classes, spec, views, asked, state)
    return outcome


def _check_blend_name(store: RunStore, name: str, members: Sequence[str]) -> None:
    check_name("blend", name)
    if name in _blends_below(store, members):
        raise RequestError(
            f"blend {name!r} cannot be made of itself; --name gives the new blend another name"
        )


def _members_below(store: RunStore, members: Sequence[str]) -> list[str]:
    """The members among `members`, and those that the blends among them are made of."""
    inside = sorted(_blends_below(store, members))
    of_blends = [name for inner in inside for name in store.blend(inner).record.members]
    names = dict.fromkeys([*members, *of_blends])
    return [name for name in names if not name.startswith(BLEND_PREFIX)]


def _blends_below(store: RunStore, members: Sequence[str]) -> set[str]:
    """Names of the blends among `members`, and of those that they are made of."""
    names = {
        name.removeprefix(BLEND_PREFIX) for name in members if name.startswith(BLEND_PREFIX)
    }
    return names.union(
        *(_blends_below(store, store.blend(name).record.members) for name in names)
    )


def _state(result: BlendResult, pool: Pool) -> tuple[bytes | None, list[PoolFinding]]:
    """What the blend is built again from, or the finding that it cannot be."""
    assert result.blend is not None
    try:
        return state_of(result.blend, pool), []
    except NotKeptError as error:
        return None, [not_kept(error)]


def _with_weight(result: BlendResult) -> list[str]:
    """The members that the blend cannot do without."""
    idle = () if result.blend is None else result.blend.idle
    return [name for name in result.members if name not in idle]


def _optimistic(store: RunStore, members: Sequence[str]) -> list[PoolFinding]:
    """A warning for each student, and each member whose epoch the rows of the score have chosen."""
    names = _members_below(store, members)
    flattered = store.flattered_students
    message = (
        "its epochs were chosen by the rows it is scored on, so its score, and that of the"
    )
    students = [
        PoolFinding(
            "student",
            name,
            f"member {name!r} has learned from networks that have seen the labels it is scored by: "
            "its score, and that of the blend, are flattered; a holdout tells what it is worth",
        )
        for name in names
        if name in flattered
    ]
    chosen = [
        PoolFinding(
            "chosen_by_score",
            name,
            f"member {name!r}: {message} blend, are a little too good",
        )
        for name in names
        if store.member(name).is_optimistic
    ]
    return students + chosen
