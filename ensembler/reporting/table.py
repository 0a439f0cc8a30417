"""The file that is handed in: rows, order and columns as asked, or an error that says what differs."""

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
from ensembler.targets.label_sets import SetFormat


def submission_table(
    ids: Sequence[str],
    probs: NDArray[np.floating],
    classes: Sequence[str],
    spec: SubmissionSpec,
    set_format: SetFormat | None = None,
) -> pd.DataFrame:
    """The submission for `probs` `[samples, classes]` of the samples `ids`, as `spec` asks.

    With `set_format` a sample has every label from a probability of 0.5, written in that way.
    Raises RequestError when columns or the template do not fit. Probabilities are never exactly
    zero (`without_zeros`): a wrong one would cost more than any score here says.
    """
    if spec.format == "probs":
        probs = without_zeros(probs, multi_label=set_format is not None)
    if spec.template is not None:
        return _like_template(ids, probs, classes, spec, set_format)
    if spec.format == "labels":
        return _columns(ids, probs, classes, list(spec.columns), "labels", set_format)
    given = list(spec.columns)
    if len(given) == len(classes) + 1:
        return _columns(ids, probs, classes, given, "probs", by_name=False)
    if len(given) > 2:
        raise RequestError(
            f"probs need the id's column, then nothing or one for each of the {len(classes)} "
            f"classes; given {given}"
        )
    return _columns(ids, probs, classes, [given[0], *classes], "probs")


def _columns(
    ids: Sequence[str],
    probs: NDArray[np.floating],
    classes: Sequence[str],
    columns: list[str],
    form: str,
    set_format: SetFormat | None = None,
    *,
    by_name: bool = True,
) -> pd.DataFrame:
    table = {columns[0]: list(ids)}
    if form == "labels":
        table[columns[1]] = _decided(probs, classes, set_format)
        return pd.DataFrame(table)
    position = {name: i for i, name in enumerate(classes)}
    values = (probs >= 0.5).astype(int) if form == "indicators" else probs
    for i, column in enumerate(columns[1:]):
        table[column] = values[:, position[column] if by_name else i].tolist()
    return pd.DataFrame(table)


def _decided(
    probs: NDArray[np.floating], classes: Sequence[str], set_format: SetFormat | None
) -> list[str]:
    """The answer to each sample: its most probable class, or all labels that are more probable than not."""
    if set_format is None:
        return [classes[i] for i in probs.argmax(axis=1)]
    return [
        set_format.format(name for name, p in zip(classes, row, strict=True) if p >= 0.5)
        for row in probs
    ]


def _like_template(
    ids: Sequence[str],
    probs: NDArray[np.floating],
    classes: Sequence[str],
    spec: SubmissionSpec,
    set_format: SetFormat | None,
) -> pd.DataFrame:
    template = read_template(Path(str(spec.template)))
    columns = [str(c) for c in template.columns]
    id_column = spec.columns[0] if spec.columns[0] in columns else columns[0]
    others = [c for c in columns if c != id_column]
    form = _form_of(others, classes, spec, set_format)
    rows = _rows_of(template[id_column].tolist(), ids, str(spec.template))
    table = _columns(
        [ids[i] for i in rows], probs[rows], classes, [id_column, *others], form, set_format
    )
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


def _form_of(
    others: list[str], classes: Sequence[str], spec: SubmissionSpec, set_format: SetFormat | None
) -> str:
    if spec.format == "labels":
        if len(others) == 1:
            return "labels"
        if set_format is not None and set(others) == set(classes):
            return "indicators"  # a column of 0 and 1 for each label
        hint = "; did you mean --format probs?" if set(others) == set(classes) else ""
        if set_format is not None:
            hint = f", or one for each label ({_differ(others, classes)})"
        raise RequestError(
            f"labels need one column beside the id's, the template has {len(others)}{hint}"
        )
    if set(others) != set(classes):
        raise RequestError(
            f"the template's columns are not the classes: {_differ(others, classes)}"
        )
    return "probs"


def _differ(others: Sequence[str], classes: Sequence[str]) -> str:
    missing, strange = sorted(set(classes) - set(others)), sorted(set(others) - set(classes))
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
                parts[-1] += ", which are names of files: a column of them as data.id would match"
        if besides:
            parts.append(f"{len(besides)} predicted ids are not in it, such as {besides[0]!r}")
        raise RequestError(f"template {template}: {'; '.join(parts)}")
    return np.array([position[w] for w in wanted], dtype=np.int64)
