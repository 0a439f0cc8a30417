"""Predictions of one member, read from its files in the run's order of rows and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.predictions.importing.classes import NO_CLASSES, is_index
from ensembler.predictions.importing.files import (
    array_shape,
    is_table,
    read_array,
    read_import_table,
)
from ensembler.predictions.importing.options import ImportOptions, MemberFiles
from ensembler.predictions.importing.rows import Rows, RunRows

_PIECE = 65536  # rows
ROUNDING = (
    0.02  # by how much a row of probabilities may miss the sum 1 before it is an error
)


@dataclass(frozen=True)
class MemberArrays:
    """Predictions of one member.

    `oof` is `[views, rows, classes]`, `test` is `[folds, views, rows, classes]`.
    """

    oof: NDArray[np.float32]
    test: NDArray[np.float32]

    @property
    def n_bytes(self) -> int:
        """How much memory they take."""
        return self.oof.nbytes + self.test.nbytes


def read_member(member: MemberFiles, run: RunRows, options: ImportOptions) -> MemberArrays:
    """Read and check a member's files; RequestError for what does not fit the run."""
    train, test, names = run.train, run.test, run.classes
    oof = _rows_of(member.oof, train, names, options, axes="[views, rows, classes]", most=3)
    if oof.ndim == 2:
        oof = oof[None]
    if member.test is None:
        if test.ids:
            raise RequestError(
                f"member {member.name!r} has no test file, and the run has {len(test.ids)} test "
                "rows"
            )
        return MemberArrays(oof, np.empty((1, len(oof), 0, len(names)), np.float32))
    if not test.ids:
        raise RequestError(
            f"{member.test}: the run has no test rows; name them with --test-ids or --test-labels"
        )
    axes = "[folds, views, rows, classes]"
    tests = _with_all_axes(
        _rows_of(member.test, test, names, options, axes=axes, most=4), len(oof)
    )
    if tests.shape[1] != len(oof):
        raise RequestError(
            f"{member.test} has {tests.shape[1]} views, {member.oof} has {len(oof)}"
        )
    return MemberArrays(oof, np.ascontiguousarray(tests))


def _with_all_axes(tests: NDArray[np.float32], n_views: int) -> NDArray[np.float32]:
    """Test predictions as `[folds, views, rows, classes]`.

    Those of one view count for all views.
    """
    if tests.ndim == 2:
        tests = tests[None]
    if tests.ndim == 3:
        tests = tests[:, None]
    if tests.shape[1] != 1:
        return tests
    return np.broadcast_to(tests, (len(tests), n_views, *tests.shape[2:]))


def _rows_of(
    path: Path,
    rows: Rows,
    names: tuple[str, ...],
    options: ImportOptions,
    *,
    axes: str,
    most: int,
) -> NDArray[np.float32]:
    """Predictions of a file in the order of `rows` and `names`."""
    if is_table(path):
        return _checked(path, _from_table(path, rows, names, options), options)
    shape = array_shape(path)
    if options.kind == "labels":
        shape = (_count_of_labels(path, shape), len(names))
    if not 2 <= len(shape) <= most:
        raise RequestError(
            f"{path} has shape {list(shape)}, expected [rows, classes] up to {axes}"
        )
    if shape[-1] != len(names):
        raise RequestError(
            f"{path} has {shape[-1]} classes on its last axis, expected {len(names)}"
        )
    if shape[-2] != len(rows.ids):
        raise RequestError(
            f"{path} has {shape[-2]} rows, {rows.where} has {len(rows.ids)}; "
            "are the files of OOF and test rows swapped?"
        )
    if not options.by_position:
        raise RequestError(
            f"{path} carries no ids; --by-position matches its rows with {rows.where} in "
            "order, if that is right"
        )
    options.notes.append("rows of .npy files are matched by position")
    array = read_array(path)
    if options.kind == "labels":
        array = _one_hot(path, array, names)
    return _checked(path, array, options)


def _count_of_labels(path: Path, shape: tuple[int, ...]) -> int:
    if len(shape) != 1 and shape[1:] != (1,):
        raise RequestError(
            f"{path} has shape {list(shape)}; --kind labels takes one label a row"
        )
    return shape[0]


def _one_hot(
    path: Path, values: NDArray[Any], names: tuple[str, ...]
) -> NDArray[np.float32]:
    index = {name: i for i, name in enumerate(names)}
    flat = values.reshape(_count_of_labels(path, values.shape)).tolist()
    texts = [_as_text(value) for value in flat]
    if set(texts) <= index.keys():
        codes = [index[text] for text in texts]
        return np.eye(len(names), dtype=np.float32)[codes]
    for row, text in enumerate(texts):
        if text not in index and not is_index(text, names):
            raise RequestError(
                f"{path} row {row}: label {text!r} is neither a class nor an index"
            )
    named = next((text for text in texts if not is_index(text, names)), None)
    if named is not None:
        raise RequestError(
            f"{path} has both names, such as {named!r}, and indices of classes"
        )
    return np.eye(len(names), dtype=np.float32)[[int(text) for text in texts]]


def _as_text(value: object) -> str:
    """A label as text; a whole number that is stored as a float has no point."""
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if isinstance(value, float) and is_whole else str(value)


def _from_table(
    path: Path, rows: Rows, names: tuple[str, ...], options: ImportOptions
) -> NDArray[np.float32]:
    table = read_import_table(path)
    if "id" not in table:
        raise RequestError(
            f"{path} has no column 'id'; its columns are {', '.join(map(str, table.columns))}"
        )
    ids = table["id"].astype(str)
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise RequestError(f"{path}: duplicate id {twice!r}; ids must be unique")
    values = (
        _label_columns(path, table, names)
        if options.kind == "labels"
        else _class_columns(path, table, names)
    )
    position = {sample: i for i, sample in enumerate(ids)}
    missing = [sample for sample in rows.ids if sample not in position]
    if missing and not options.partial:
        raise RequestError(
            f"{path} lacks {len(missing)} of the {len(rows.ids)} ids of {rows.where}, such "
            f"as {missing[0]!r}; --partial keeps the member with those rows missing"
        )
    if len(missing) == len(rows.ids):
        raise RequestError(
            f"{path} and {rows.where} have no id in common ({ids.iloc[0]!r} and {rows.ids[0]!r})"
        )
    out = np.full((len(rows.ids), len(names)), np.nan, np.float32)
    for i, sample in enumerate(rows.ids):
        if sample in position:
            out[i] = values[position[sample]]
    if missing:
        options.notes.append(f"{path.name}: {len(missing)} rows are missing")
    return out


def _class_columns(
    path: Path, table: pd.DataFrame, names: tuple[str, ...]
) -> NDArray[np.float32]:
    columns = [str(c) for c in table.columns if str(c) not in NO_CLASSES]
    if set(columns) != set(names):
        odd = sorted(set(columns) ^ set(names))
        raise RequestError(
            f"{path}: its columns are not the classes of the run: {', '.join(odd[:5])} differ"
        )
    numbers = table[list(names)].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().to_numpy().any():
        row = int(np.flatnonzero(numbers.isna().any(axis=1))[0])
        raise RequestError(f"{path} row {row + 2}: a prediction is empty or not a number")
    return numbers.to_numpy(np.float32)


def _label_columns(
    path: Path, table: pd.DataFrame, names: tuple[str, ...]
) -> NDArray[np.float32]:
    if "label" not in table:
        raise RequestError(f"{path} has no column 'label', which --kind labels reads")
    return _one_hot(path, table["label"].astype(str).to_numpy(dtype=object), names)


def _checked(
    path: Path, array: NDArray[Any], options: ImportOptions
) -> NDArray[np.float32]:
    """Predictions as float32, finite wherever they are given; probabilities sum to 1."""
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise RequestError(f"{path} holds {array.dtype}, expected real numbers")
    # in place where it is ours; what an .npz held cannot be written to
    values = array.astype(np.float32, copy=not array.flags.writeable)
    given: NDArray[np.bool_] = np.full(values.shape[:-1], True)
    if options.partial:
        given = np.asarray(~np.isnan(values).all(axis=-1))
    bad = np.argwhere(~np.isfinite(values).all(axis=-1) & given)
    if len(bad):
        raise RequestError(
            f"{path} holds NaN or infinity, first in row {int(bad[0][-1])}; such a prediction says "
            "nothing"
        )
    if options.kind != "probs":
        return values
    _check_range(path, values)
    if options.set_format is not None:
        return np.clip(values, 0, 1, out=values)
    _renormalise(path, values, options)
    return values


def _check_range(path: Path, probs: NDArray[np.float32]) -> None:
    # rows that are missing are NaN, which neither sees
    low = float(np.fmin.reduce(probs, axis=None, initial=0))
    high = float(np.fmax.reduce(probs, axis=None, initial=0))
    if low < 0 or high > 1 + 1e-3:
        outside = low if low < 0 else high
        raise RequestError(
            f"{path} holds {outside:g}, outside 0..1; say --kind logits if these are logits"
        )


def _renormalise(path: Path, probs: NDArray[np.float32], options: ImportOptions) -> None:
    """Let the rows of probabilities `[..., rows, classes]` sum to 1, in place.

    A sum that is further off than rounding is refused; rows that are missing are NaN and stay.
    """
    sums = probs.sum(axis=-1, dtype=np.float64)
    off = np.abs(sums - 1)
    worst = float(np.fmax.reduce(off, axis=None, initial=0))
    if worst > ROUNDING:
        at = np.unravel_index(int(np.nanargmax(off)), off.shape)
        raise RequestError(
            f"{path}: row {at[-1]} sums to {sums[at]:.3f}, probabilities sum to 1; say --kind "
            "logits if these are, or --multi-label SEP if rows have several labels at once"
        )
    if worst > 1e-4:
        options.notes.append(
            f"{path.name}: rows sum to {np.nanmin(sums):.4f} .. {np.nanmax(sums):.4f}, rounding; "
            "they were renormalised"
        )
    # piece by piece: the quotients are float64, and there may be more of them than memory holds
    for start in range(0, probs.shape[-2], _PIECE):
        rows = slice(start, start + _PIECE)
        probs[..., rows, :] = probs[..., rows, :] / sums[..., rows, None]
