"""Features that another tool has made: a .npy file and the sample id of each of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.spec import DataSpec
from ensembler.data.tables import TABLE_SUFFIXES, read_table
from ensembler.errors import DataError
from ensembler.training.spec import FeaturesSpec
from ensembler.workspace.workspace import Workspace


def read_features(workspace: Workspace, spec: FeaturesSpec) -> NDArray[np.float32]:
    """The features `[images, features]` of a workspace's images, in their order.

    Raises DataError for a file that is no such array, ids that do not fit it, and images that it
    does not have.
    """
    assert spec.file is not None
    assert spec.ids is not None
    path, ids_path = Path(spec.file), Path(spec.ids)
    array = open_features(path)
    ids = read_ids(ids_path)
    if len(ids) != len(array):
        raise DataError(
            f"{path} has {len(array)} rows of features and {ids_path} {len(ids)} ids; expected an "
            "id for each row"
        )
    twice = ids[ids.duplicated()]
    if len(twice):
        raise DataError(f"{ids_path}: duplicate id {twice.iloc[0]!r}: ids must be unique")
    wanted = workspace.samples.table["id"]
    position = pd.Series(np.arange(len(ids)), index=ids)
    found = position.reindex(wanted)
    lacking = wanted[found.isna().to_numpy()]
    if len(lacking):
        raise DataError(
            f"{ids_path} has no row for {len(lacking)} of {len(wanted)} images, such as "
            f"{lacking.iloc[0]!r}; features are matched by sample id"
        )
    x = np.asarray(array[found.to_numpy(np.int64)], np.float32)
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise DataError(f"{path}: the features of {wanted.iloc[row]!r} are not finite")
    return x


def open_features(path: Path) -> NDArray[np.generic]:
    """A file of features, memory-mapped; DataError when it is none."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"features: {path} does not exist") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"features: {path} is not a .npy file of numbers ({error})"
        ) from error
    is_table = isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] > 0
    if not is_table or array.dtype.kind not in "fiu":
        shown = (
            f"{array.dtype} {list(array.shape)}"
            if isinstance(array, np.ndarray)
            else "several arrays"
        )
        raise DataError(
            f"features: {path} holds {shown}, expected numbers [images, features]"
        )
    return array


def read_ids(path: Path) -> pd.Series:
    """The ids of a text file of one a line, or of the column id of a table."""
    if not path.is_file():
        raise DataError(f"features: ids {path} does not exist")
    if path.suffix.lower() in TABLE_SUFFIXES and path.suffix.lower() != ".txt":
        table = read_table(path, DataSpec(source=str(path)))
        if "id" not in table:
            columns = ", ".join(map(str, table.columns[:5]))
            raise DataError(f"features: {path} has no column 'id', only {columns}")
        return table["id"].astype(str)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"features: ids {path} cannot be read ({error})") from error
    return pd.Series([line.strip() for line in lines if line.strip()], dtype=object)
