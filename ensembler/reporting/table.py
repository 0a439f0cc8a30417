"""The submission file: rows, order and columns as asked, or an error that says what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.metrics.probabilities import without_zeros
from ensembler.reporting.spec import SubmissionSpec
from ensembler.targets.target import Target


def submission_table(
    ids: Sequence[str],
    probs: NDArray[np.floating],
    target: Target,
    spec: SubmissionSpec,
) -> pd.DataFrame:
    """The submission for `probs` `[samples, classes]` of the samples `ids`, as `spec` asks.

    Raises RequestError when columns or the template do not fit. Probabilities are never exactly
    zero (`without_zeros`): a wrong one would cost more than any score here says.
    """
    if spec.format == "probs":
        probs = without_zeros(probs, of=target.kind)
    if spec.template is not None:
        return _like_template(ids, probs, target, spec)
    if spec.format == "labels":
        return _columns(ids, probs, target, list(spec.columns), "labels")
    given, classes = list(spec.columns), target.classes
    if len(given) == len(classes) + 1:
        return _columns(ids, probs, target, given, "probs", by_name=False)
    if len(given) > 2:
        raise RequestError(
            f"probs need the id's column, then nothing or one for each of the {len(classes)} "
            f"classes; given {given}"
        )
    return _columns(ids, probs, target, [given[0], *classes], "probs")


def _columns(
    ids: Sequence[str],
    probs: NDArray[np.floating],
    target: Target,
    columns: list[str],
    form: str,
    *,
    by_name: bool = True,
) -> pd.DataFrame:
    table = {columns[0]: list(ids)}
    if form == "labels":
        table[columns[1]] = target.write(probs)
        return pd.DataFrame(table)
    position = {name: i for i, name in enumerate(target.classes)}
    values = target.decide(probs) if form == "indicators" else probs
    for i, column in enumerate(columns[1:]):
        table[column] = values[:, position[column] if by_name else i].tolist()
    return pd.DataFrame(table)


def _like_template(
    ids: Sequence[str],
    probs: NDArray[np.floating],
    target: Target,
    spec: SubmissionSpec,
) -> pd.DataFrame:
    template = read_template(Path(str(spec.template)))
    columns = [str(c) for c in template.columns]
    id_column = spec.columns[0] if spec.columns[0] in columns else columns[0]
    others = [c for c in columns if c != id_column]
    form = _form_of(others, target, spec)
    rows = _rows_of(template[id_column].tolist(), ids, str(spec.template))
    named = [ids[i] for i in rows]
    table = _columns(named, probs[rows], target, [id_column, *others], form)
    return table[columns]


def read_template(path: Path) -> pd.DataFrame:
    """Read a sample submission as text."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise RequestError(f"template {path} does not exist") from error
    except IsADirectoryError as error:
        raise RequestError(f"template {path} is a folder, expected a CSV file") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise RequestError(f"template {path} is not a readable CSV ({error})") from error


def _form_of(others: list[str], target: Target, spec: SubmissionSpec) -> str:
    classes = target.classes
    are_classes = set(others) == set(classes)
    if spec.format == "labels":
        if len(others) == 1:
            return "labels"
        if target.is_multi_label and are_classes:
            return "indicators"  # a column of 0 and 1 for each label
        hint = "; did you mean --format probs?" if are_classes else ""
        if target.is_multi_label:
            hint = f", or one for each label ({_differ(others, classes)})"
        raise RequestError(
            f"labels need one column beside the id's, the template has {len(others)}{hint}"
        )
    if not are_classes:
        raise RequestError(
            f"the template's columns are not the classes: {_differ(others, classes)}"
        )
    return "probs"


def _differ(others: Sequence[str], classes: Sequence[str]) -> str:
    missing, strange = (
        sorted(set(classes) - set(others)),
        sorted(set(others) - set(classes)),
    )
    sides = (("it lacks", missing), ("it has besides", strange))
    return "; ".join(f"{what} {', '.join(names[:5])}" for what, names in sides if names)


def _rows_of(wanted: list[str], ids: Sequence[str], template: str) -> NDArray[np.int64]:
    position = {sample: i for i, sample in enumerate(ids)}
    if len(set(wanted)) != len(wanted):
        twice = next(sample for sample, n in Counter(wanted).items() if n > 1)
        raise RequestError(f"template {template} names id {twice!r} twice")
    lacking = [w for w in wanted if w not in position]
    besides = sorted(set(ids) - set(wanted))
    if lacking or besides:
        parts = []
        if lacking:
            parts.append(
                f"{len(lacking)} of its {len(wanted)} ids are not predicted, such as {lacking[0]!r}"
            )
            if set(lacking) <= {Path(sample).stem for sample in ids}:
                parts[-1] += (
                    ", which are names of files: a column of them as data.id would match"
                )
        if besides:
            parts.append(
                f"{len(besides)} predicted ids are not in it, such as {besides[0]!r}"
            )
        raise RequestError(f"template {template}: {'; '.join(parts)}")
    return np.array([position[w] for w in wanted], dtype=np.int64)
