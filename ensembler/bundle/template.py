"""Predictions in the form of a sample submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.table import read_template, submission_table
from ensembler.targets.target import Target

_IDS: tuple[Callable[[str], str], ...] = (
    str,
    lambda name: Path(name).name,
    lambda name: Path(name).stem,
)


def check_template(
    path: Path, ids: Sequence[str], target: Target, spec: SubmissionSpec
) -> None:
    """Raise RequestError now when the submission could not be written later."""
    even = np.full((len(ids), len(target.classes)), 1 / len(target.classes))
    like_template(path, ids, even, target, spec)


def like_template(
    path: Path,
    ids: Sequence[str],
    probs: NDArray[np.floating],
    target: Target,
    spec: SubmissionSpec,
) -> pd.DataFrame:
    """The submission with the ids, order and columns of the sample submission `path`.

    Its ids are those of the images, or the names of their files with or without ending. The
    columns say whether it holds labels or probabilities. Rows `[rows, classes]` of NaN, of images
    that could not be read, stay empty.
    """
    template = read_template(path)
    columns = [str(column) for column in template.columns]
    if not columns or template.empty:
        raise RequestError(f"template {path} has no rows")
    id_column = spec.columns[0] if spec.columns[0] in columns else columns[0]
    named = _named_alike(ids, template[id_column].tolist())
    others = [column for column in columns if column != id_column]
    asked = _as_template(path, id_column, others, target, spec)
    known = np.isfinite(probs).all(axis=1)
    filled = np.where(known[:, None], probs, 1 / len(target.classes))
    table = submission_table(named, filled, target, asked)
    unknown = {name for name, is_known in zip(named, known, strict=True) if not is_known}
    if unknown:
        empty = table[id_column].isin(unknown)
        table[others] = table[others].astype(object).mask(empty, None)
    return table


def _named_alike(ids: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The ids in the form that the template has them, if it is another."""
    for form in _IDS:
        named = [form(name) for name in ids]
        if len(set(named)) == len(named) and set(wanted) <= set(named):
            return named
    return list(ids)


def _as_template(
    path: Path, id_column: str, others: list[str], target: Target, spec: SubmissionSpec
) -> SubmissionSpec:
    """What the template's columns ask for: labels, or the probabilities of the classes."""
    are_classes = set(others) == set(target.classes)
    wants_probs = are_classes and not (target.is_multi_label and spec.format == "labels")
    label = others[0] if len(others) == 1 else "label"
    columns = (id_column,) if wants_probs else (id_column, label)
    return SubmissionSpec(
        format="probs" if wants_probs else "labels", columns=columns, template=str(path)
    )
