"""A blend that was made, and its place in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.fitted import FittedBlend
from ensembler.blending.judging.guards import PoolFinding
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.blending.state import State
from ensembler.blends.current import blend_fingerprint, predictions_of
from ensembler.blends.tables import blend_tables, title_of
from ensembler.errors import NotKeptError
from ensembler.predictions.blends import BlendRecord, write_blend
from ensembler.predictions.explanation import BlendWarning, GainRecord
from ensembler.predictions.publish import clean_up
from ensembler.predictions.store import RunStore
from ensembler.reporting.tables import Table, html_of

_TRIED = 20  # rows that a blend which is built again must predict as the fitted one does


@dataclass(frozen=True)
class Asked:
    """The options and the members that a blend was asked for.

    `unused` are those it did not read.
    """

    spec: BlendSpec
    members: Sequence[str]
    unused: Sequence[str] = ()

    @property
    def used(self) -> list[str]:
        """The members whose predictions made the blend."""
        return [name for name in self.members if name not in self.unused]


@dataclass(frozen=True)
class BlendOutcome:
    """A blend that was made and kept."""

    run: str
    result: BlendResult
    rows: NDArray[np.int64]  # positions among the train rows of those it was fitted on
    # The blends it is made of, when it is made of several tasks.
    stages: tuple[BlendOutcome, ...] = ()
    # members of the pool that were not read: their weight is zero
    unused: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """On how many rows it was fitted."""
        return len(self.rows)

    @property
    def weights(self) -> dict[str, float] | None:
        """The weight of every member of the pool; None where the method has none."""
        if self.result.weights is None:
            return None
        return {**self.result.weights, **dict.fromkeys(self.unused, 0.0)}

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens blend --json` prints."""
        r = self.result
        content = {
            "run": self.run,
            "name": r.name,
            "method": r.method,
            "members": list(r.members),
            "weights": self.weights,
            "temperature": r.temperature,
            "seconds": r.seconds,
            "n": self.n_rows,
            "scores": r.scores,
            "gain": r.gain,
            "warnings": list(r.warnings),
            "details": r.details.to_json(),
            "submitted": False,
        }
        if self.stages:
            content["stages"] = [stage.to_json() for stage in self.stages]
        return content

    @property
    def title(self) -> str:
        """What it is called above its tables."""
        return title_of(self.run, self.result)

    def tables(self) -> list[Table]:
        """Its members, scores and gains, as the terminal and a notebook show them."""
        return blend_tables(self.run, self.result, self.n_rows)

    def _repr_html_(self) -> str:
        return html_of(self.tables())


def state_of(blend: FittedBlend, pool: Pool) -> bytes:
    """What the blend of some members of the pool is built again from.

    NotKeptError where its method has no such state, or where the blend that is built again predicts
    otherwise.
    """
    content = blend.state().to_bytes()
    again = FittedBlend.from_state(State.from_bytes(content))
    at = [pool.names.index(name) for name in blend.members]
    some = [pool.oof[m][None, :_TRIED] for m in at]
    if not np.array_equal(blend.predict(some), again.predict(some), equal_nan=True):
        method = blend.candidate.method
        raise NotKeptError(
            f"method {method!r} predicts otherwise after state() and restore()"
        )
    return content


def not_kept(error: NotKeptError) -> PoolFinding:
    """What to say of a blend that no file can hold."""
    message = (
        f"the fitted blend is not kept: {error}; it may be submitted, and is fitted again for new "
        "images"
    )
    return PoolFinding("not_kept", None, message)


def keep_blend(
    store: RunStore,
    outcome: BlendOutcome,
    target: str,
    classes: Sequence[str],
    spec: BlendSpec,
    views: Sequence[str] | None,
    asked: Asked,
    state: bytes | None,
) -> None:
    """Write a blend of `target` into the store.

    `asked` decides later whether it is still current; `state` is what it is built again from.
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
        fingerprint=blend_fingerprint(store, asked.spec, asked.members, views),
        made_from=predictions_of(store, asked.used),
        sha256={},
    )
    write_blend(store.blend_folder(result.name), store.lock_path, record, oof, test, state)
