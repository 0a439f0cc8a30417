"""Files of other tools, read with care: what they claim is judged before anything is allocated."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import DataError, MissingExtraError, RequestError
from ensembler.machine.memory import machine_memory

PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (".csv", *PARQUET_SUFFIXES)


def is_table(path: Path) -> bool:
    """Whether a file is a table with ids, by its name, and no array."""
    return path.suffix.lower() in TABLE_SUFFIXES


def read_import_table(path: Path) -> pd.DataFrame:
    """Read a CSV as text, or a Parquet file with ids as text.

    Raises DataError for what is none, has no rows or a column twice.
    """
    _check_file(path)
    table = (
        _read_parquet(path) if path.suffix.lower() in PARQUET_SUFFIXES else _read_csv(path)
    )
    if table.empty:
        raise DataError(f"{path} has a header and no rows")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it as such") from error
    except (ValueError, csv.Error, pd.errors.ParserError) as error:
        raise DataError(f"{path} is not a readable CSV ({error})") from error
    _check_columns(path, header)
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: rows have more values than the header has names")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise MissingExtraError(path.name, "parquet") from error
    except (ValueError, OSError, MemoryError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error})") from error
    table = table.reset_index(drop=True).rename(columns=str)
    _check_columns(path, table.columns.tolist())
    if "id" in table:
        table["id"] = table["id"].map(lambda value: "" if pd.isna(value) else str(value))
    return table


def _check_columns(path: Path, header: list[str]) -> None:
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise DataError(f"{path} has the column {twice!r} twice; remove or rename one")


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of the one array in an .npy or .npz, by its header."""
    with _explained(path), _opened(path) as file:
        return _header(file)[0]


def read_array(path: Path) -> NDArray[Any]:
    """The one array in an .npy or .npz.

    No pickle is read, and a file that claims more than it holds is refused.
    """
    with _explained(path), _opened(path) as file:
        shape, is_fortran, dtype = _header(file)
        n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if n_bytes > machine_memory():
            raise ValueError(
                f"its header claims an array of {list(shape)}, {n_bytes / 1e9:.0f} GB"
            )
        if isinstance(file, zipfile.ZipExtFile):
            content = file.read(n_bytes + 1)
            if len(content) != n_bytes:
                raise ValueError(
                    f"it does not hold the {n_bytes} bytes that its header claims"
                )
            return np.ndarray(shape, dtype, content, order="F" if is_fortran else "C")
        held = os.fstat(file.fileno()).st_size - file.tell()
        if held != n_bytes:
            raise ValueError(
                f"it holds {held} bytes of numbers, and its header claims {n_bytes}"
            )
        file.seek(0)
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or hostile file raises into one line."""
    _check_file(path)
    try:
        yield
    except (
        ValueError,
        OSError,
        EOFError,
        SyntaxError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if isinstance(error, (RequestError, DataError)):
            raise
        raise RequestError(
            f"{path} cannot be read: {error or 'there is not enough memory'}"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The .npy stream of an .npy file, or of the one array in an .npz."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            yield file
            return
    with zipfile.ZipFile(path) as archive:
        names = [
            n for n in archive.namelist() if n.removesuffix(".npy") not in ("ids", "id")
        ]
        if len(names) != 1:
            held = ", ".join(n.removesuffix(".npy") for n in archive.namelist())
            raise RequestError(f"{path} holds {held}; expected one array")
        with archive.open(names[0]) as stream:
            yield stream


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has the .npy format version {version}")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(
            "it needs pickle, which can run code; save it with np.save as plain numbers"
        )
    return shape, is_fortran, dtype


def _check_file(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file():
        raise DataError(f"{path} is no regular file; expected .npy, .npz, .csv or .parquet")
