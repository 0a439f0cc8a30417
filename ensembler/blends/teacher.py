"""A blend as a teacher: its honest probabilities of train rows, and those of rows without labels.

A student of fold k learns from a blend that was fitted without the rows of fold k: on train rows it
is cross-fitted over predictions out of fold, so no network or weight has seen the row. What remains
flatters the student's out-of-fold scores much (docs/fewer.md): the networks that predict the other
folds' rows were trained on the rows of fold k. `of_fold` has no such leak: the networks of fold k,
which have not seen its rows, say something of rows without labels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import (
    NewProbs,
    check_code_is_named,
    pool_of_blend,
    settled_spec,
)
from ensembler.blends.composed import COMPOSED
from ensembler.blends.pool import BLEND_PREFIX, StorePool
from ensembler.errors import RequestError
from ensembler.predictions.blends import BlendRecord
from ensembler.predictions.store import RunStore


@dataclass(frozen=True)
class Taught:
    """What a teacher says, probabilities `[rows, classes]`; NaN = nothing.

    `train` of the train rows, `test` of the test rows, `new` of images beside the run.
    """

    train: NDArray[np.float32]
    test: NDArray[np.float32]
    new: NDArray[np.float32]


@dataclass(frozen=True)
class BlendTeacher:
    """A blend of the store as a teacher; with `views` it looks at these views of an image alone."""

    store: RunStore
    name: str
    views: tuple[str, ...] | None = None

    @property
    def record(self) -> BlendRecord:
        """What the store says of the blend."""
        return self.store.blend(self.name).record

    def check(self) -> None:
        """Raise RequestError for a blend that cannot be fitted on a part of the rows."""
        record = self.record
        inside = [name for name in record.members if name.startswith(BLEND_PREFIX)]
        if record.method == COMPOSED or inside:
            raise RequestError(
                f"blend {self.name!r} is made of other blends, which no student learns from; name "
                "one that is made of members with --blend"
            )

    @cached_property
    def _found(self) -> StorePool:
        return pool_of_blend(self.store, self.record, self.views)

    @cached_property
    def _spec(self) -> BlendSpec:
        check_code_is_named(self.store, self.record)
        return settled_spec(self.record)

    def without(self, fold: NDArray[np.bool_], new: NewProbs | None = None) -> Taught:
        """What the blend that is fitted without the train rows in `fold` `[train rows]` says.

        It says nothing of those rows.
        """
        pool, classes = self._found.pool, len(self._found.pool.classes)
        kept = self._outside(fold)
        result = self._fit(_of_rows(pool, kept))
        train = np.full((len(self.store.samples.train), classes), np.nan, np.float32)
        train[self._found.rows[kept]] = result.oof
        none = np.empty((0, classes), np.float32)
        of_new = none if new is None else self._predict(result, new)
        return Taught(train, none if result.test is None else result.test, of_new)

    def of_fold(
        self, number: int, fold: NDArray[np.bool_], new: NewProbs | None = None
    ) -> Taught:
        """What the networks of one fold say of test rows and of new images; of train rows nothing.

        They are blended by a fit without the train rows in `fold` `[train rows]`. `check_by_fold`
        tells whether each member has such networks.
        """
        pool = self._found.pool
        result = self._fit(_of_rows(pool, self._outside(fold)))
        assert result.blend is not None
        members = result.blend.members
        none = np.empty((0, len(pool.classes)), np.float32)
        of_test, of_new = none, none
        if pool.test is not None:
            by_name = dict(zip(pool.names, pool.test, strict=True))
            tests = [by_name[name][number : number + 1] for name in members]
            of_test = result.blend.predict(tests)
        if new is not None:
            given = [new[name, self.record.target] for name in members]
            of_new = result.blend.predict([probs[number : number + 1] for probs in given])
        n_train = len(self.store.samples.train)
        return Taught(
            np.full((n_train, len(pool.classes)), np.nan, np.float32), of_test, of_new
        )

    def check_by_fold(self, fold_column: str) -> None:
        """Raise RequestError unless each member has a network for each fold of `fold_column`."""
        for name in self.record.members:
            record = self.store.member(name).record
            if record.fold_column != fold_column or record.refit_of or record.imported:
                raise RequestError(
                    f"member {name!r} of blend {self.name!r} has no network for each fold of "
                    f"column {fold_column!r}, so nothing of a fold's own can teach; leave out "
                    "--own-fold, or name another blend with --blend"
                )

    def _outside(self, fold: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Positions of the blend's rows outside of `fold`."""
        kept = np.flatnonzero(~fold[self._found.rows])
        if not len(kept):
            raise RequestError(f"blend {self.name!r} predicts no row outside of a fold")
        return kept

    def _fit(self, pool: Pool) -> BlendResult:
        chosen = self.record.details.chosen
        return make_blend(pool, self._spec, trust=pool.names, chosen=chosen)

    def _predict(self, result: BlendResult, new: NewProbs) -> NDArray[np.float32]:
        assert result.blend is not None
        target = self.record.target
        return result.blend.predict([new[name, target] for name in result.blend.members])


def _of_rows(pool: Pool, rows: NDArray[np.int64]) -> Pool:
    """The pool on some of its rows."""
    groups = None if pool.groups is None else pool.groups[rows]
    oof = np.asarray(pool.oof)[:, rows]
    return replace(pool, oof=oof, y=pool.y[rows], folds=pool.folds[rows], groups=groups)


def check_teacher_views(store: RunStore, name: str, views: Sequence[str]) -> None:
    """Raise RequestError for a view that a member of the blend has not predicted."""
    for member in store.blend(name).record.members:
        lacking = [view for view in views if view not in store.member(member).record.views]
        if lacking:
            raise RequestError(
                f"member {member!r} has no logits of view {lacking[0]!r}; `ens tta-predict "
                f"{store.name} --views {','.join(views)}` adds them"
            )
