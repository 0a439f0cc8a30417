"""The classes of predictions: as given, as a header says, or as the labels are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ensembler.errors import RequestError
from ensembler.predictions.importing.files import array_shape, is_table, read_import_table
from ensembler.predictions.importing.options import ImportOptions, MemberFiles
from ensembler.predictions.members import Kind
from ensembler.targets.label_sets import labels_in
from ensembler.targets.natural_order import (
    in_natural_order,
    is_plain_number,
    text_after_numbers,
)

# Columns of a table of predictions that are no classes.
NO_CLASSES = ("id", "label", "fold", "group")


def classes_of_new_run(
    members: Sequence[MemberFiles],
    labels: pd.Series,
    given: Sequence[str] | None,
    options: ImportOptions,
) -> tuple[str, ...]:
    """Names of the classes of a new run: as given, as a CSV's header says, or as the labels are."""
    texts = labels.dropna().astype(str)
    _check_spaces(set(texts) if options.set_format is None else labels_in(texts))
    if given is not None and len(set(given)) != len(given):
        raise RequestError(f"--classes {','.join(given)}: a class is named twice")
    if given is not None:
        return tuple(given)
    for member in members:
        if is_table(member.oof) and options.kind != "labels":
            return tuple(
                c for c in read_import_table(member.oof).columns if c not in NO_CLASSES
            )
    found = sorted(
        set(texts) if options.set_format is None else labels_in(texts),
        key=text_after_numbers,
    )
    count = len(found) if options.kind == "labels" else _columns_of(members[0].oof)
    if all(map(is_plain_number, found)) and int(found[-1]) < count:
        return tuple(str(i) for i in range(count))
    if len(found) != count:
        raise RequestError(
            f"{members[0].oof} has {count} classes, the labels have {len(found)} "
            f"({', '.join(found[:5])}, ...); say the order of columns with --classes a,b,c"
        )
    ordered = "as text" if in_natural_order(found) != tuple(found) else "by name"
    options.notes.append(
        f"columns are taken in the order of the labels {ordered}: {', '.join(found[:6])}; "
        "--classes says otherwise"
    )
    return tuple(found)


def _columns_of(path: Path) -> int:
    return _shape_with_classes(path)[-1]


def rows_in(path: Path, kind: Kind) -> int:
    """How many rows a file of predictions has, by its header."""
    shape = array_shape(path)
    return (
        shape[0] if kind == "labels" and len(shape) == 1 else _shape_with_classes(path)[-2]
    )


def _check_spaces(names: Iterable[str]) -> None:
    """Raise RequestError for labels that differ by spaces alone, which nobody sees."""
    by_form: dict[str, str] = {}
    for name in sorted(names):
        other = by_form.setdefault(" ".join(name.split()), name)
        if other != name:
            raise RequestError(
                f"labels {other!r} and {name!r} differ only in spaces; make them one"
            )


def _shape_with_classes(path: Path) -> tuple[int, ...]:
    shape = array_shape(path)
    if len(shape) < 2:
        raise RequestError(
            f"{path} has shape {list(shape)}, expected [rows, classes]; --kind labels takes one "
            "label a row"
        )
    return shape


def known_sets(sets: pd.Series, names: tuple[str, ...]) -> pd.Series:
    """Sets of labels as given; RequestError for a label that is not a class."""
    strange = sorted(labels_in(sets) - set(names))
    if strange:
        raise RequestError(f"label {strange[0]!r} is not a class ({', '.join(names[:6])})")
    return sets


def named_labels(labels: pd.Series, names: tuple[str, ...]) -> list[str | None]:
    """Labels as names of classes, be they given as names or as indices; None = unknown."""
    known = set(names)
    values = [
        None if label is None or label == "" or label != label else str(label)
        for label in labels
    ]
    given = {v for v in values if v is not None}
    if given <= known:
        return values
    if all(is_index(v, names) for v in given):
        return [None if v is None else names[int(v)] for v in values]
    strange = min(given - known, key=lambda v: (is_index(v, names), v))
    raise RequestError(
        f"label {strange!r} is neither a class ({', '.join(names[:6])}) nor an index"
    )


def is_index(text: str, names: Sequence[str]) -> bool:
    """Whether a label is the position of a class among `names`."""
    return is_plain_number(text) and len(text) < 10 and int(text) < len(names)
