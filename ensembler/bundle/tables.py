"""Predictions as a file: CSV, Parquet, JSON Lines or npz, by the ending of its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import MissingExtraError, RequestError, nearest
from ensembler.targets.target import Target

ROWS = 8192  # of a table that are written at once
_FIXED = ("id", "label", "confidence", "disagreement")


@dataclass(frozen=True)
class AnswerColumns:
    """What is written of one target: probabilities `[rows, classes]`, disagreement `[rows]`.

    Rows of images that could not be read are NaN. The first answer of a bundle is the label's, the
    columns of the others begin with `prefix`.
    """

    target: Target
    probs: NDArray[np.floating]
    disagreement: NDArray[np.floating]
    prefix: str = ""

    def columns(self, rows: slice) -> dict[str, Any]:
        """The columns of some rows by name: label, one for each class, confidence, disagreement."""
        probs = np.asarray(self.probs[rows])
        known = np.isfinite(probs).all(axis=1)
        labels = np.full(len(probs), None, dtype=object)
        if known.any():
            labels[known] = self.target.write(probs[known])
        confidence = np.full(len(probs), np.nan, np.float32)
        confidence[known] = self._confidence(probs[known])
        found: dict[str, Any] = {f"{self.prefix}label": labels}
        for i, name in enumerate(self.class_columns):
            found[name] = probs[:, i]
        found[f"{self.prefix}confidence"] = confidence
        found[f"{self.prefix}disagreement"] = np.asarray(self.disagreement[rows])
        return found

    def _confidence(self, probs: NDArray[np.floating]) -> NDArray[np.floating]:
        """How sure the answer is: its probability, or that of the least sure of several labels."""
        if not self.target.is_multi_label:
            return probs.max(axis=1)
        return np.maximum(probs, 1 - probs).min(axis=1)

    @property
    def class_columns(self) -> list[str]:
        """A column for each class under its own name, unless a fixed column has it."""
        names = [f"{self.prefix}{name}" for name in self.target.classes]
        taken = [f"{self.prefix}{name}" for name in _FIXED]
        return [f"class:{name}" if name in taken else name for name in names]


def check_ending(path: Path) -> str:
    """The form that the ending of a file's name asks for; RequestError for another one."""
    if path.exists() and not path.is_file():
        return "csv"  # standard output, a pipe
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise RequestError(
            f"{path}: {path.suffix or 'no ending'} is no form of predictions; "
            f"{nearest(path.suffix, _FORMS)}"
        )
    if form == "parquet":
        _pyarrow(path)
    return form


def write_predictions(
    file: IO[bytes], form: str, ids: Sequence[str], answers: Sequence[AnswerColumns]
) -> None:
    """Write the predictions of the images `ids`, block by block."""
    _WRITERS[form](file, ids, answers)


def _blocks(ids: Sequence[str], answers: Sequence[AnswerColumns]) -> Iterator[pd.DataFrame]:
    for start in range(0, len(ids), ROWS):
        rows = slice(start, start + ROWS)
        columns: dict[str, Any] = {"id": list(ids[rows])}
        for answer in answers:
            columns |= answer.columns(rows)
        yield pd.DataFrame(columns)


def _write_csv(
    file: IO[bytes], ids: Sequence[str], answers: Sequence[AnswerColumns]
) -> None:
    for nth, table in enumerate(_blocks(ids, answers)):
        text = table.to_csv(
            index=False, header=nth == 0, lineterminator="\n", float_format="%.9g"
        )
        file.write(text.encode())


def _write_jsonl(
    file: IO[bytes], ids: Sequence[str], answers: Sequence[AnswerColumns]
) -> None:
    for table in _blocks(ids, answers):
        rows = zip(*(table[name].tolist() for name in table), strict=True)
        for row in rows:
            values = {
                name: None if value != value else value
                for name, value in zip(table.columns, row, strict=True)
            }
            file.write((json.dumps(values, ensure_ascii=False) + "\n").encode())


def _write_parquet(
    file: IO[bytes], ids: Sequence[str], answers: Sequence[AnswerColumns]
) -> None:
    pyarrow = _pyarrow(Path("predictions.parquet"))
    from pyarrow import parquet

    writer = None
    for table in _blocks(ids, answers):
        texts = {name: "str" for name in table if table[name].dtype == object}
        rows = pyarrow.Table.from_pandas(table.astype(texts), preserve_index=False)
        if writer is None:
            writer = parquet.ParquetWriter(file, rows.schema)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def _write_npz(
    file: IO[bytes], ids: Sequence[str], answers: Sequence[AnswerColumns]
) -> None:
    arrays: dict[str, Any] = {"id": np.array(ids, dtype=str)}
    for answer in answers:
        columns = answer.columns(slice(None))
        labels = [label or "" for label in columns[f"{answer.prefix}label"]]
        arrays[f"{answer.prefix}label"] = np.array(labels, dtype=str)
        arrays[f"{answer.prefix}classes"] = np.array(answer.target.classes, dtype=str)
        arrays[f"{answer.prefix}probs"] = np.asarray(answer.probs)
        for name in ("confidence", "disagreement"):
            arrays[f"{answer.prefix}{name}"] = columns[f"{answer.prefix}{name}"]
    np.savez(file, **arrays)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(path.name, "parquet") from error
    return pyarrow


_FORMS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npz": "npz",
}
_WRITERS: dict[str, Callable[[IO[bytes], Sequence[str], Sequence[AnswerColumns]], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
    "npz": _write_npz,
}
