"""What a blend is made from: the aligned predictions of several members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError, UnknownNameError
from ensembler.machine.memory import room

# [members, samples, classes]: probabilities, one order of samples for all members
Stack = NDArray[np.floating]
Targets = NDArray[np.int64]  # [samples]: indices into the ordered class names
Probs = NDArray[np.floating]  # [samples, classes]: rows sum to 1


def some_rows(n_rows: int, most: int) -> NDArray[np.int64] | slice:
    """An index of at most `most` of so many rows, always the same ones.

    Never in step with a pattern that rows have.
    """
    if n_rows <= most:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n_rows, most, replace=False))


class TakesParts(Protocol):
    """What says whether it takes a stack member after member."""

    @property
    def takes_parts(self) -> bool: ...


class StackPart:
    """Some members and rows of a stack, each member copied when it is iterated over.

    The stack may be larger than memory. It has a stack's shape, type and length, gives member after
    member, and becomes an array by `np.asarray`. Methods that need no more than that say so by
    `takes_parts = True`.
    """

    ndim = 3

    def __init__(
        self,
        stack: Stack,
        members: Sequence[int] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.stack = stack
        self.members = range(len(stack)) if members is None else members
        self.rows = rows
        n_rows = stack.shape[1] if rows is None else len(rows)
        self.shape = (len(self.members), n_rows, stack.shape[2])
        self.dtype = stack.dtype

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, member: int) -> Probs:
        probs = self.stack[self.members[member]]
        return probs if self.rows is None else probs[self.rows]

    def __iter__(self) -> Iterator[Probs]:
        return (self[m] for m in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = (
            room(self.shape)
            if self.dtype == np.float32
            else np.empty(self.shape, self.dtype)
        )
        for member, out in zip(self, whole, strict=True):
            out[:] = member
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def for_method(self, method: TakesParts) -> Stack:
        """Itself for a method that takes parts, else the array."""
        part: Any = self if method.takes_parts else np.asarray(self)
        return part


@dataclass(frozen=True)
class Pool:
    """Members a blend may choose from.

    `oof` is `[members, rows, classes]`, `y` and `folds` `[rows]` (the fold each row was left out
    in), `groups` `[rows]` or None. `test` holds for each member `[folds, test samples, classes]`,
    one entry a fold's checkpoint; `test_y` is -1 where a test label is unknown. `votes_only` names
    members that give a class and no probabilities (their rows are 0 and 1), `other_folds` members
    whose folds are not `folds`, `costs` the seconds a sample takes by member, where known. The
    caller has aligned everything by sample id and class name. Of a multi-label target `y` and
    `test_y` are 0 or 1 `[rows, classes]` (-1 = unknown), and rows of probabilities sum to anything.
    `rows_each` is how many rows stand for one sample, one after the other.
    """

    names: tuple[str, ...]
    oof: Stack
    y: Targets
    classes: tuple[str, ...]
    folds: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None
    test: tuple[NDArray[np.floating], ...] | None = None
    test_y: Targets | None = None
    votes_only: tuple[str, ...] = ()
    other_folds: tuple[str, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    rows_each: int = 1

    @property
    def n_samples(self) -> int:
        """How many samples the rows are of.

        Several rows of one sample tell no more than it does.
        """
        return len(self.y) // self.rows_each

    def __post_init__(self) -> None:
        for name in ("y", "folds"):
            given: Any = getattr(self, name)
            if given is None:
                raise RequestError(
                    f"a pool needs {name} [rows]; folds may be zeros where they are not known"
                )
            object.__setattr__(self, name, np.asarray(given))
        members, rows, classes = self.oof.shape
        if (
            members != len(self.names)
            or rows != len(self.y)
            or classes != len(self.classes)
        ):
            raise RequestError(
                f"a pool of {len(self.names)} members, {len(self.y)} labels and "
                f"{len(self.classes)} classes has predictions of shape "
                f"{list(self.oof.shape)}"
            )
        if rows == 0:
            raise RequestError("the pool has no rows to blend on")
        most = 1 if self.y.ndim == 2 else classes - 1
        if (
            not np.issubdtype(self.y.dtype, np.integer)
            or self.y.min() < 0
            or self.y.max() > most
        ):
            kind = (
                "0 or 1 for each label"
                if self.y.ndim == 2
                else f"class indices from 0 to {most}"
            )
            raise RequestError(
                f"labels of a pool are {kind}, given {self.y.dtype} from {self.y.min()} to "
                f"{self.y.max()}"
            )
        if self.folds.shape != (rows,):
            raise RequestError(f"folds of shape {list(self.folds.shape)} for {rows} rows")
        if self.test is not None and any(
            t.shape[1:] != (len(self.test[0][0]), classes) for t in self.test
        ):
            raise RequestError("test predictions of the members differ in rows or classes")

    def choose(self, names: Sequence[str]) -> Pool:
        """The pool of the named members, in that order."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise UnknownNameError("member", unknown[0], self.names)
        if tuple(names) == self.names:
            return self
        at = [self.names.index(name) for name in names]
        test = None if self.test is None else tuple(self.test[i] for i in at)
        return replace(
            self, names=tuple(names), oof=np.asarray(StackPart(self.oof, at)), test=test
        )

    @property
    def by_fold(self) -> bool:
        """Whether checkpoints of one fold can be blended with each other."""
        return self.test is None or len({len(test) for test in self.test}) == 1

    def test_stacks(self) -> Iterator[Stack]:
        """Stacks of the test samples, by fold where all members have the same folds."""
        assert self.test is not None
        return fold_stacks(self.test, by_fold=self.by_fold)


def fold_stacks(tests: Sequence[NDArray[np.floating]], *, by_fold: bool) -> Iterator[Stack]:
    """Stacks of the members' `tests` `[folds, samples, classes]`.

    There is one for each fold, or one of averages.
    """
    folds: list[int | None] = list(range(len(tests[0]))) if by_fold else [None]
    for fold in folds:
        stack = room((len(tests), *tests[0].shape[1:]))
        for test, out in zip(tests, stack, strict=True):
            out[:] = test.mean(axis=0) if fold is None else test[fold]
        yield stack
