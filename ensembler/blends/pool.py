"""From the store to a pool: the members' predictions, ready to blend.

They are aligned by sample id and class name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool
from ensembler.errors import MissingFileError, RequestError, UnknownNameError
from ensembler.machine.memory import most_in_memory, on_disk, room
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import FEATURES, Member, MemberRecord
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore
from ensembler.targets.label_sets import is_known

BLEND_PREFIX = "blend:"


@dataclass(frozen=True)
class BlendMember:
    """A blend in the place of a member of another blend."""

    blend: Blend
    folds: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Its name in the pool."""
        return f"{BLEND_PREFIX}{self.blend.record.name}"

    @property
    def record(self) -> Any:
        """The blend's record; like a member's it has target and classes."""
        return self.blend.record

    def oof(
        self, classes: Sequence[str], _merge: Merge, _views: Sequence[str] | None
    ) -> NDArray[np.floating]:
        """Its cross-fitted probabilities `[train samples, classes]`.

        Views were merged when it was made.
        """
        return np.asarray(self.blend.oof)[
            :, [self.record.classes.index(name) for name in classes]
        ]

    def test(
        self, classes: Sequence[str], _merge: Merge, _views: Sequence[str] | None
    ) -> NDArray[np.floating]:
        """Its test probabilities `[1, test samples, classes]`.

        The folds were averaged when it was made.
        """
        return np.asarray(self.blend.test)[None][
            ..., [self.record.classes.index(name) for name in classes]
        ]


@dataclass(frozen=True)
class StorePool:
    """A pool and the train rows (positions among them) that it holds."""

    pool: Pool
    rows: NDArray[np.int64]
    target: str


def read_pool(
    store: RunStore,
    members: Sequence[str] | None = None,
    *,
    target: str | None = None,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    common_rows: bool = False,
    costs: Mapping[str, float] | None = None,
) -> StorePool:
    """Read the complete members (all of the target's, or those named) as one pool.

    A name `blend:NAME` stands for a blend of the run, its cross-fitted predictions being out of
    fold. `costs` are the seconds a sample takes by member; what is not given is taken from the
    members' records.

    Rows that no member predicts (never validated, unlabelled) are left out. A row that only some
    predict is an error unless `common_rows`.
    """
    opened = _open_members(store, members, target)
    target = opened[0].record.target
    classes = store.classes(target)
    record_of = {
        member.name: member.record for member in opened if isinstance(member, Member)
    }
    labels = store.labels(target, "train", classes)
    oof = _stacked([partial(member.oof, classes, merge, views) for member in opened])
    rows = _rows(store, opened, oof, labels, common_rows)
    test_labels = store.labels(target, "test", classes)
    has_test = len(test_labels) > 0
    groups = store.samples.groups()
    pool = Pool(
        names=tuple(member.name for member in opened),
        oof=_only(rows, oof),
        y=labels[rows],
        classes=classes,
        folds=opened[0].folds[rows],
        groups=None if groups is None else groups[rows],
        test=_kept(partial(member.test, classes, merge, views) for member in opened)
        if has_test
        else None,
        test_y=test_labels if has_test else None,
        votes_only=tuple(
            name for name, record in record_of.items() if record.kind == "labels"
        ),
        other_folds=tuple(
            name
            for name, record in record_of.items()
            if _has_other_folds(record, opened[0], rows)
        ),
        costs={**_costs(store, record_of), **(costs or {})},
    )
    return StorePool(pool, rows, target)


def pool_names(
    store: RunStore, members: Sequence[str] | None = None, target: str | None = None
) -> list[str]:
    """Names of the members that `read_pool` would read, in their order; no array is opened."""
    return [member.name for member in _open_members(store, members, target)]


def _open_members(
    store: RunStore, members: Sequence[str] | None, target: str | None
) -> list[Member | BlendMember]:
    if members is None:
        label = target or _label_target(store)
        opened: list[Member | BlendMember] = list(store.members_of(label)) if label else []
    else:
        opened = [_of_target(_open(store, name), target, store) for name in members]
    if not opened and target is not None and target not in store.samples.targets:
        raise UnknownNameError("target", target, store.samples.targets)
    if not opened:
        begun = store.begun_members
        hint = f"; not complete yet: {', '.join(begun)}" if begun else ""
        raise MissingFileError(f"run {store.name!r} has no complete member to blend{hint}")
    targets = {member.record.target for member in opened}
    if len(targets) > 1:
        raise RequestError(
            f"members of several targets cannot be blended: {', '.join(sorted(targets))}"
        )
    return opened


def _of_target(
    member: Member | BlendMember, target: str | None, store: RunStore
) -> Member | BlendMember:
    """A member of several targets as one of `target`.

    Without one, of the label or else its first.
    """
    if isinstance(member, BlendMember) or (target is None and not member.record.tasks):
        return member
    label = store.samples.targets[0]
    return member.for_target(
        target or (label if label in member.targets else member.targets[0])
    )


def _open(store: RunStore, name: str) -> Member | BlendMember:
    if not name.startswith(BLEND_PREFIX):
        return store.member(name)
    blend = store.blend(name.removeprefix(BLEND_PREFIX))
    folds = _open(store, blend.record.members[0]).folds
    return BlendMember(blend, folds)


def _stacked(parts: Sequence[Callable[[], NDArray[np.floating]]]) -> NDArray[np.float32]:
    """The arrays that `parts` make, one after the other, as one stack."""
    first = parts[0]()
    out = room((len(parts), *first.shape))
    out[0] = first
    for i, part in enumerate(parts[1:], start=1):
        out[i] = part()
    return out


def _kept(
    parts: Iterable[Callable[[], NDArray[np.floating]]],
) -> tuple[NDArray[np.floating], ...]:
    """The arrays that `parts` make.

    Those that no longer fit into memory beside the earlier ones lie on disk.
    """
    kept: list[NDArray[np.floating]] = []
    for part in parts:
        array = np.asarray(part())
        if sum(a.nbytes for a in kept) + array.nbytes > most_in_memory() and array.size:
            mapped = on_disk(array.shape)
            mapped[:] = array
            array = mapped
        kept.append(array)
    return tuple(kept)


def _only(rows: NDArray[np.int64], stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """The stack's rows at the increasing positions `rows`, moved up in place.

    The stack may be larger than memory.
    """
    if len(rows) < stack.shape[1]:
        for probs in stack:
            probs[: len(rows)] = probs[rows]
    return stack[:, : len(rows)]


def _has_other_folds(
    record: MemberRecord, first: Member | BlendMember, rows: NDArray[np.int64]
) -> bool:
    if isinstance(first, Member) and record.fold_column != first.record.fold_column:
        return True
    if record.refit_of is not None:
        return False
    # One fold in test.npy means that the folds were averaged before they came here.
    return record.folds > 1 and record.folds != len(np.unique(first.folds[rows]))


def _costs(store: RunStore, records: Mapping[str, MemberRecord]) -> dict[str, float]:
    """Seconds that one new sample takes with all folds and views of a member.

    They were measured when the member predicted.
    """
    n_train, n_test = len(store.samples.train), len(store.samples.test)
    return {
        name: record.seconds_by_phase["predicting"]
        * _networks(record)
        / (n_train + _networks(record) * n_test)
        for name, record in records.items()
        if record.seconds_by_phase.get("predicting")
    }


def _networks(record: MemberRecord) -> int:
    """How many networks look at a new image: one for each fold, or the frozen one of a probe."""
    return 1 if FEATURES in record.sha256 else record.folds


def _label_target(store: RunStore) -> str | None:
    targets = list(
        chain.from_iterable(store.member(name).targets for name in store.complete_members)
    )
    return store.samples.first_target(targets)


def _rows(
    store: RunStore,
    members: Sequence[Member | BlendMember],
    oof: NDArray[np.floating],
    labels: NDArray[np.int64],
    common_rows: bool,
) -> NDArray[np.int64]:
    predicted = np.stack([np.isfinite(probs).all(axis=1) for probs in oof])
    known = is_known(labels)
    everywhere = predicted.all(axis=0) & known
    partly = predicted.any(axis=0) & ~predicted.all(axis=0) & known
    if partly.any() and not common_rows:
        lacking = members[int((~predicted[:, partly]).any(axis=1).argmax())].name
        raise RequestError(
            f"member {lacking!r} has no prediction for {int(partly.sum())} of the rows "
            "that others predict; --common-rows blends on the rows that all of them "
            "predict"
        )
    if not everywhere.any():
        raise RequestError(
            f"no labelled train row of run {store.name!r} is predicted by all of its members"
        )
    return np.flatnonzero(everywhere).astype(np.int64)
