"""From the columns of a table to labels: patterns over paths, bins, maps, and a class made of several tasks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.spec import DataSpec, TargetSpec
from ensembler.data.tables import need_column
from ensembler.errors import DataError, nearest
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import SetFormat, labels_in, read_set

# of columns that hold the labels to train on, where they differ from those that are scored
TRAIN_PREFIX = "train:"
_FIELD = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:(?P<kind>int))?\}")


def pattern_columns(
    table: pd.DataFrame, data: DataSpec, path: Path, *, needed: bool
) -> pd.DataFrame:
    """The table with a column for each field of `data.pattern`, read from the image paths.

    A path that does not match is an error when `needed`, else its fields are empty. Raises
    DataError for a field whose name is a column already.
    """
    if data.pattern is None:
        return table
    need_column(table, data.path, "data.path", path)
    fields = [match["name"] for match in _FIELD.finditer(data.pattern)]
    taken = [name for name in fields if name in table]
    if taken:
        raise DataError(
            f"{path} has a column {taken[0]!r} already; give the field of data.pattern another name"
        )
    expression = _expression(data.pattern)
    found = [expression.search(given.strip()) for given in table[data.path]]
    if needed and None in found:
        row = found.index(None)
        raise DataError(
            f"{path} row {int(table.index[row]) + 2}: path {table[data.path].iloc[row]!r} does not "
            "match "
            f"data.pattern {data.pattern!r}"
        )
    columns = {name: ["" if match is None else match[name] for match in found] for name in fields}
    return table.assign(**columns)


def _expression(pattern: str) -> re.Pattern[str]:
    parts, at = [r"(?:^|/)"], 0
    for match in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[at : match.start()]))
        values = r"\d+" if match["kind"] == "int" else "[^/]+?"
        parts.append(f"(?P<{match['name']}>{values})")
        at = match.end()
    parts.append(re.escape(pattern[at:]))
    if not pattern.endswith("/"):
        parts.append(r"(?=$|/|\.[^./]+$)")  # a last field ends before the suffix
    return re.compile("".join(parts))


def derive(
    table: pd.DataFrame,
    name: str,
    spec: TargetSpec,
    rows: Sequence[int],
    where: str,
    problems: list[str],
) -> dict[str, pd.Series]:
    """Labels of one target by column name: `name`, and `train:name` where training bins differ.

    None = unknown. What does not fit (a value that is no number, or that a map does not list) is
    added to `problems` with its row.
    """
    column = spec.column or name
    values = table[column].str.strip() if column in table else pd.Series([""] * len(table))
    if spec.set_format is not None:
        if column not in table:
            return {name: pd.Series([None] * len(table), dtype=object)}
        return {name: _sets(values, spec.set_format, rows, where, problems, column)}
    if spec.bins is not None:
        labels = {name: _binned(values, spec, spec.bins, rows, where, problems, column)}
        if spec.train_bins is not None:
            labels[TRAIN_PREFIX + name] = _binned(
                values, spec, spec.train_bins, rows, where, [], column
            )
        return labels
    if spec.map is not None:
        values = _mapped(values, spec, rows, where, problems, column)
    return {name: values.astype(object).where(values != "", None)}


def _binned(
    values: pd.Series,
    spec: TargetSpec,
    bins: Sequence[float],
    rows: Sequence[int],
    where: str,
    problems: list[str],
    column: str,
) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & (values != ""))
    if len(wrong):
        first = int(wrong[0])
        problems.append(
            f"{where} row {rows[first]}: {column} is {values[first]!r}, expected a number to put "
            "into bins"
        )
    labels = np.array(spec.bin_labels, dtype=object)[np.digitize(numbers.fillna(0), bins)]
    return pd.Series(labels, dtype=object).where(numbers.notna(), None)


def _sets(
    values: pd.Series,
    form: SetFormat,
    rows: Sequence[int],
    where: str,
    problems: list[str],
    column: str,
) -> pd.Series:
    sets: list[str | None] = []
    for row, value in zip(rows, values, strict=True):
        try:
            sets.append(form.parse(value))
        except ValueError as error:
            problems.append(
                f"{where} row {row}: {column}: {error}, which stands between labels in "
                "samples.csv; rename it"
            )
            break
    return pd.Series(sets + [None] * (len(values) - len(sets)), dtype=object)


def _mapped(
    values: pd.Series,
    spec: TargetSpec,
    rows: Sequence[int],
    where: str,
    problems: list[str],
    column: str,
) -> pd.Series:
    assert spec.map is not None
    unlisted = [i for i, value in enumerate(values) if value != "" and value not in spec.map]
    if unlisted and spec.others is None:
        value = values[unlisted[0]]
        problems.append(
            f"{where} row {rows[unlisted[0]]}: {column} is {value!r}, which the map does not list; "
            f"{nearest(value, spec.map)}; others: keep keeps what is not listed"
        )
    others = {
        values[i]: values[i] if spec.others == "keep" else (spec.others or "") for i in unlisted
    }
    return values.map({**spec.map, **others, "": ""})


def stated_order(spec: TargetSpec) -> tuple[str, ...] | None:
    """The classes of a target in the order that its spec states, or None when they are found in the data."""
    if spec.classes is not None:
        return spec.classes
    if spec.bins is not None:
        return tuple(name for name in spec.bin_labels if name not in spec.drop)
    if spec.map is not None and spec.others is None:
        return tuple(dict.fromkeys(name for name in spec.map.values() if name not in spec.drop))
    return None


def unwanted_rows(table: pd.DataFrame, data: DataSpec) -> np.ndarray:
    """Which rows `[rows]` have a label that the recipe drops, or one of a class with fewer rows than it asks for."""
    out = np.zeros(len(table), dtype=bool)
    for name, spec in data.target_specs.items():
        if spec.multi_label is not None:
            continue  # labels are left out of its sets, see `unwanted_labels`
        labels = table[name]
        absent = [label for label in spec.drop if label not in set(labels.dropna())]
        if absent and len(spec.drop) == len(absent):
            hint = nearest(absent[0], labels.dropna().unique())
            raise DataError(
                f"data.targets.{name}.drop names {absent[0]!r}, which no row has; {hint}"
            )
        out |= labels.isin(spec.drop).to_numpy()
        if spec.min_count is not None:
            counts = labels[~out].value_counts()
            out |= labels.isin(counts.index[counts < spec.min_count]).to_numpy()
    composed = data.composition
    if composed is not None and composed.min_count is not None:
        kept = table.loc[~out, list(composed.of)]
        sizes = kept.groupby(
            list(composed.of)
        ).size()  # rows with an unknown part make no class and stay
        rare = sizes.index[sizes < composed.min_count]
        out |= pd.MultiIndex.from_frame(table[list(composed.of)]).isin(rare)
    return out


def unwanted_labels(table: pd.DataFrame, data: DataSpec) -> dict[str, set[str]]:
    """By multi-label target, the labels that the recipe drops or that have fewer rows than it asks for."""
    out: dict[str, set[str]] = {}
    for name in data.set_formats:
        spec = data.target_specs[name]
        sizes = Counter(label for text in table[name] for label in read_set(text) or ())
        absent = [label for label in spec.drop if label not in sizes]
        if absent:
            raise DataError(
                f"data.targets.{name}.drop names {absent[0]!r}, which no row has; "
                f"{nearest(absent[0], list(sizes))}"
            )
        out[name] = {
            *spec.drop,
            *(label for label, n in sizes.items() if n < (spec.min_count or 0)),
        }
    return out


def label_names(texts: pd.Series, *, multi_label: bool) -> set[str]:
    """The labels that occur in a column of labels, or of sets of labels."""
    return labels_in(texts) if multi_label else set(texts.dropna())


def has_label(texts: pd.Series, names: Iterable[str], *, multi_label: bool) -> NDArray[np.bool_]:
    """Which rows `[rows]` have one of the labels `names`."""
    if not multi_label:
        return texts.isin(list(names)).to_numpy()
    wanted = set(names)
    return np.array([bool(wanted & set(read_set(text) or ())) for text in texts], dtype=bool)


def compose(
    table: pd.DataFrame,
    data: DataSpec,
    classes: dict[str, tuple[str, ...]],
    train_rows: Iterable[bool],
) -> tuple[pd.DataFrame, Composition]:
    """The table with the composed class in front of its targets, and how it is composed.

    Raises DataError for a row whose combination the recipe calls impossible.
    """
    spec = data.composition
    assert spec is not None
    for rule in spec.exclude:
        for task, value in rule.items():
            if value not in classes[task]:
                raise DataError(
                    f"data.compose.exclude: {task} has no class {value!r}; "
                    f"{nearest(value, classes[task])}"
                )
    try:
        composition = Composition.build(
            spec.name,
            {task: classes[task] for task in spec.of},
            separator=spec.separator,
            numbers=spec.numbers,
            impossible=spec.exclude,
            prior=spec.prior,
        )
    except ValueError as error:
        raise DataError(f"data.compose: {error}; choose another separator") from error
    table = table.copy()
    table[spec.name] = pd.Series(_composed(table, composition, ""), dtype=object)
    if any(TRAIN_PREFIX + task in table for task in spec.of):
        table[TRAIN_PREFIX + spec.name] = pd.Series(
            _composed(table, composition, TRAIN_PREFIX), dtype=object
        )
    if spec.unseen == "exclude" or spec.min_count is not None:
        train = table[spec.name][np.asarray(list(train_rows), dtype=bool)]
        seen = set(train.dropna())
        composition = composition.without(
            [name for name in composition.classes if name not in seen]
        )
        strange = sorted(set(table[spec.name].dropna()) - seen)
        if strange:
            raise DataError(
                f"{strange[0]!r} occurs only in the test part; compose: {{unseen: keep}} without "
                "min_count keeps "
                "such classes"
            )
    return table, composition


def _composed(table: pd.DataFrame, composition: Composition, prefix: str) -> list[str | None]:
    columns = [
        table[prefix + task if prefix + task in table else task] for task in composition.tasks
    ]
    labels: list[str | None] = []
    for i, parts in enumerate(zip(*columns, strict=True)):
        try:
            labels.append(composition.label([p if isinstance(p, str) else None for p in parts]))
        except KeyError as error:
            raise DataError(
                f"sample {table['id'].iloc[i]!r} is {', '.join(map(str, parts))}, a combination "
                "that "
                "data.compose.exclude calls impossible"
            ) from error
    return labels
