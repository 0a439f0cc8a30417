"""Predictions of a run as files that any other tool reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import MissingExtraError, RequestError, UnknownNameError
from ensembler.outputs import check_output, open_output
from ensembler.predictions.store import RunStore

FORMATS = ("csv", "npy", "parquet")


@dataclass(frozen=True)
class Exported:
    """The files that were written."""

    run: str
    name: str
    files: tuple[Path, ...]


def export_predictions(
    store: RunStore,
    out: Path,
    *,
    member: str | None = None,
    blend: str | None = None,
    format: str = "csv",
    target: str | None = None,
) -> Exported:
    """Write `<name>_oof` and `<name>_test` of a member or a blend into the folder `out`.

    Of a member, views are merged and folds averaged. Tables have `id` and a column for each class,
    without rows that were never predicted; .npy files are float32 `[rows, classes]` in the order of
    samples.csv, such rows being NaN. For a member with several targets, `target` says which one to
    write (default: its first).
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if (member is None) == (blend is None):
        raise RequestError("name one of --member and --blend")
    if member is not None:
        opened = store.member(member)
        opened = opened.for_target(target or opened.targets[0])
        classes = store.classes(opened.record.target)
        name, oof, test = member, opened.oof(classes), opened.test(classes).mean(axis=0)
    else:
        assert blend is not None
        found = store.blend(blend)
        name, classes, oof, test = (
            blend,
            found.record.classes,
            np.asarray(found.oof),
            np.asarray(found.test),
        )
    if "id" in classes and format != "npy":
        raise RequestError(
            "class 'id' cannot be a column beside the ids of the rows: --format npy has no names"
        )
    paths = {part: out / f"{name}_{part}.{format}" for part in ("oof", "test")}
    for path in paths.values():
        check_output(path)
    parts = [
        ("oof", store.samples.train["id"], oof),
        ("test", store.samples.test["id"], test),
    ]
    files = [_write(paths[part], ids, probs, classes) for part, ids, probs in parts]
    return Exported(store.name, name, tuple(files))


def _write(
    path: Path, ids: pd.Series, probs: NDArray[np.floating], classes: tuple[str, ...]
) -> Path:
    if path.suffix == ".npy":
        with open_output(path) as file:
            np.lib.format.write_array(
                file, np.ascontiguousarray(probs, np.float32), allow_pickle=False
            )
        return path
    table = pd.DataFrame(np.asarray(probs, np.float32), columns=list(classes))
    table.insert(0, "id", ids.to_numpy())
    table = table.dropna()
    writers: dict[str, Callable[..., object]] = {
        ".csv": table.to_csv,
        ".parquet": table.to_parquet,
    }
    options = {"lineterminator": "\n"} if path.suffix == ".csv" else {}
    with open_output(path) as file:
        try:
            writers[path.suffix](file, index=False, **options)
        except ImportError as error:
            raise MissingExtraError(path.name, "parquet") from error
    return path
