"""Blending a run's members: read the pool, find the blend, keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.guards import Finding
from ensembler.blending.make import make_blend
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.blends.pool import BLEND_PREFIX, read_pool
from ensembler.errors import MissingFileError, RequestError, UnknownNameError
from ensembler.files import check_name, fingerprint
from ensembler.own_code import digest_of
from ensembler.predictions.blends import BlendRecord, write_blend
from ensembler.predictions.explanation import BlendWarning, GainRecord
from ensembler.predictions.publish import clean_up
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress

# The checksums of a member's predictions, and of the samples they are of.
Checksums = tuple[str | None, ...]
Asked = tuple[BlendSpec, Sequence[str]]  # the options and the members that a blend was asked for


@dataclass(frozen=True)
class BlendOutcome:
    """A blend that was made and kept."""

    run: str
    result: BlendResult
    rows: NDArray[np.int64]  # positions among the train rows of those it was fitted on
    stages: tuple[
        BlendOutcome, ...
    ] = ()  # the blends it is made of, when it is made of several tasks

    @property
    def n_rows(self) -> int:
        """On how many rows it was fitted."""
        return len(self.rows)

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
            "details": r.details.to_json(),
            "submitted": False,
            **({"stages": [stage.to_json() for stage in self.stages]} if self.stages else {}),
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
    progress: Progress = QUIET,
    target: str | None = None,
    costs: Mapping[str, float] | None = None,
    explain: bool = False,
    part: NDArray[np.int64] | None = None,
    asked: Asked | None = None,
) -> BlendOutcome:
    """Find the blend that `spec` asks for over the complete members of one target and keep it as `blends/<name>/`.

    `part` `[train rows]` are parts of cross-fitting that several blends share; `asked` is what the
    whole was asked to be made of, when this blend is its last stage (default: `spec` and its
    members).
    """
    name = check_name("blend", spec.name or spec.method)
    members = spec.members if members is None else members
    if name in _blends_below(store, members or ()):
        raise RequestError(
            f"blend {name!r} cannot be made of itself; --name gives the new blend another name"
        )
    found = read_pool(
        store,
        members,
        target=target,
        merge=spec.merge,
        views=views or spec.views,
        common_rows=common_rows,
        costs=costs,
    )
    result = make_blend(
        found.pool,
        spec,
        trust=tuple(trust),
        budget=budget,
        explain=explain,
        progress=progress,
        part=None if part is None else part[found.rows],
    )
    result = replace(result, warnings=(*result.warnings, *_flattered(store, result.members)))
    outcome = BlendOutcome(store.name, result, found.rows)
    asked = asked or (spec, found.pool.names)
    keep_blend(store, outcome, found.target, found.pool.classes, spec, views, asked)
    return outcome


def _flattered(store: RunStore, members: Sequence[str]) -> list[dict[str, Any]]:
    """A warning for each member whose epoch was chosen by the rows that the blend is scored on."""
    found = []
    for name in members:
        if not name.startswith(BLEND_PREFIX) and store.member(name).is_flattered:
            message = (
                f"member {name!r}: its epochs were chosen by the rows it is scored on, so its "
                "score, and that of the "
                "blend, are a little too good"
            )
            found.append(Finding("chosen_by_score", name, message).to_json())
    return found


def _blends_below(store: RunStore, members: Sequence[str]) -> set[str]:
    """Names of the blends among `members`, and of those that they are made of."""
    names = {name.removeprefix(BLEND_PREFIX) for name in members if name.startswith(BLEND_PREFIX)}
    return names.union(*(_blends_below(store, store.blend(name).record.members) for name in names))


def keep_blend(
    store: RunStore,
    outcome: BlendOutcome,
    target: str,
    classes: Sequence[str],
    spec: BlendSpec,
    views: Sequence[str] | None,
    asked: Asked,
) -> None:
    """Write a blend of `target` into the store.

    `asked` decides later whether it is still current.
    """
    clean_up(store.folder, store.lock_path)
    result = outcome.result
    oof = np.full((len(store.samples.train), len(classes)), np.nan, np.float32)
    oof[outcome.rows] = result.oof
    test = np.empty((0, len(classes)), np.float32) if result.test is None else result.test
    record = BlendRecord(
        name=result.name,
        target=target,
        classes=tuple(classes),
        method=result.method,
        members=result.members,
        weights=result.weights,
        temperature=result.temperature,
        scores=result.scores,
        gain=None if result.gain is None else GainRecord.model_validate(result.gain),
        warnings=tuple(BlendWarning.model_validate(warning) for warning in result.warnings),
        details=result.details,
        spec=spec.model_dump(mode="json", exclude_none=True),
        views=tuple(views) if views else None,
        fingerprint=blend_fingerprint(store, *asked, views),
        made_from=_predictions(store, asked[1]),
        sha256={},
    )
    write_blend(store.blend_folder(result.name), store.lock_path, record, oof, test)


def blend_fingerprint(
    store: RunStore, spec: BlendSpec, members: Sequence[str], views: Sequence[str] | None
) -> str:
    """A digest of everything a blend is made from: its options and its members' predictions."""
    made_from: dict[str, Any] = {
        "spec": spec.model_dump(mode="json"),
        "members": _predictions(store, members),
        "views": list(views or []),
    }
    code = {place: digest_of(place) for place in spec.code}
    if code:
        made_from["contents"] = code
    return fingerprint(made_from)


def members_changed_since(store: RunStore, name: str) -> list[str]:
    """The members that a blend was made from and that predict otherwise now, or are gone.

    [] where it does not say.
    """
    made_from = store.blend(name).record.made_from
    return [member for member, sums in made_from.items() if _predictions_now(store, member) != sums]


def _predictions_now(store: RunStore, member: str) -> Checksums | None:
    try:
        return _of_predictions(_sums(store, member))
    except (UnknownNameError, MissingFileError):
        return None


def _predictions(store: RunStore, members: Sequence[str]) -> dict[str, Checksums]:
    """The checksums of each member's predictions, and of the samples they are of."""
    return {name: _of_predictions(_sums(store, name)) for name in members}


def _of_predictions(sums: Mapping[str, str]) -> Checksums:
    arrays = sorted(name for name in sums if name.startswith(("oof.", "test.")))
    return (*(sums[name] for name in arrays), sums.get("samples.csv"))


def _sums(store: RunStore, name: str) -> dict[str, str]:
    if name.startswith(BLEND_PREFIX):
        return store.blend(name.removeprefix(BLEND_PREFIX)).record.sha256
    return store.member(name).record.sha256


def is_current(
    store: RunStore, spec: BlendSpec, members: Sequence[str], views: Sequence[str] | None
) -> bool:
    """Whether the store holds this very blend of these very predictions."""
    name = spec.name or spec.method
    if name not in store.blends:
        return False
    wanted = blend_fingerprint(store, spec, members, views)
    return store.blend(name).record.fingerprint == wanted
