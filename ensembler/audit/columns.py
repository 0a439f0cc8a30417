"""Columns and parts of file names that look like a group that nobody named: a person, a patient, a scene."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_NAMES = re.compile(
    r"(person|patient|subject|sender|user|owner|author|photographer|customer|student|speaker|animal|family|"
    r"group|session|scene|site|hospital|camera|device|video|clip|sequence|series|study|slide|plot|field|burst|"
    r"origin|donor|case|individual|identity|(^|_)(pid|uid|sid|gid)$)",
    re.IGNORECASE,
)
_MEASURES = re.compile(
    r"^(width|height|size|area|depth|channels|bytes|count|score|weight|x|y|lat|lon|date|time|fold|"
    r"index|row|rank|label|class|target|split)$",
    re.IGNORECASE,
)
_PAIRS = 400
_LEAST_AUC = 0.65


@dataclass(frozen=True)
class GroupLike:
    """Something that looks like a group: `column` of the table, or of the path by `pattern`.

    `alike` is the chance that two images of one value and label look more alike than two of one label and two values.
    """

    column: str
    n_values: int
    largest: int
    alike: float | None
    pattern: str | None = None


def group_like_columns(
    table: pd.DataFrame, labels: NDArray[np.int64], thumbs: NDArray[np.uint8], group: pd.Series | None
) -> list[GroupLike]:
    """Columns of text or whole numbers that hold a group, most striking first.

    A name that says so is enough; any other column must show it in the images. What follows from another such column
    (a person's age) is left out, and so is all that goes with the `group` that is named already.
    """
    found: list[tuple[GroupLike, pd.Series]] = []
    for column in table.columns:
        values = table[column].astype(str).str.strip()
        if not _may_be_group(values, str(column)) or (group is not None and _goes_with(values, group)):
            continue
        alike = _alike(values, labels, thumbs)
        named = _NAMES.search(str(column)) is not None
        if named or (alike is not None and alike >= _LEAST_AUC):
            sizes = values.value_counts()
            found.append((GroupLike(str(column), len(sizes), int(sizes.iloc[0]), alike), values))
    kept = [one for one, values in found if not any(_follows(values, other) for _, other in found)]
    return sorted(kept, key=lambda one: (_NAMES.search(one.column) is None, -(one.alike or 0)))


def group_like_names(
    paths: pd.Series, labels: NDArray[np.int64], thumbs: NDArray[np.uint8], known: Iterable[pd.Series]
) -> list[tuple[GroupLike, pd.Series]]:
    """Folders and leading parts of file names that hold a group; those that go with `known` columns are left out."""
    known = list(known)
    found: list[tuple[GroupLike, pd.Series]] = []
    for pattern, values in _parts_of(paths):
        if not _may_be_group(values, "") or any(_goes_with(values, other) for other in known):
            continue
        alike = _alike(values, labels, thumbs)
        if alike is not None and alike >= _LEAST_AUC:
            sizes = values.value_counts()
            found.append((GroupLike("group", len(sizes), int(sizes.iloc[0]), alike, pattern), values))
            known.append(values)
    return found


def _parts_of(paths: pd.Series) -> Iterable[tuple[str, pd.Series]]:
    """Pseudo-columns of the paths with the `data.pattern` that reads them."""
    split = paths.str.split("/")
    depths = paths.str.count("/") + 1
    depth = int(depths.min()) if len(paths) else 0
    same_depth = bool((depths == depth).all())
    above = ""
    for level in range(depth - 1 if same_depth else 0):
        part = split.str[level]
        if len(part.unique()) > 1:
            yield f"{above}{{group}}/", part
            above += f"{{level{level}}}/"
        else:
            above += f"{part.iloc[0]}/"
    stems = split.str[-1].str.replace(r"\.[^.]+$", "", regex=True)
    for separator in ("_", "-"):
        head = stems.str.rpartition(separator)[0]
        if (head != "").all():
            yield f"{{group}}{separator}{{number}}", head
            first = stems.str.partition(separator)[0]
            if not first.equals(head):
                yield f"{{group}}{separator}{{rest}}", first


def _may_be_group(values: pd.Series, name: str) -> bool:
    if _MEASURES.match(name):
        return False
    filled = values[(values != "") & (values.str.lower() != "nan")]
    if len(filled) < 0.8 * len(values) or len(filled) < 10:
        return False
    sizes = filled.value_counts()
    # Few values are an attribute, as many values as files are an id, and a fraction is a measurement.
    if len(sizes) < 8 or (sizes >= 2).sum() < 0.2 * len(sizes) or len(sizes) > 0.8 * len(filled):
        return False
    return not filled.str.fullmatch(r"-?\d*\.\d+(e-?\d+)?").mean() > 0.5


def _follows(values: pd.Series, other: pd.Series) -> bool:
    """Whether every value of `other` has one of `values`, and not the other way round: a person has one age."""
    return _one_each(other, values) and not _one_each(values, other)


def _goes_with(values: pd.Series, group: pd.Series) -> bool:
    return _one_each(group, values) or _one_each(values, group)


def _one_each(keys: pd.Series, values: pd.Series) -> bool:
    pairs = pd.DataFrame({"key": keys.to_numpy(), "value": values.to_numpy()}).dropna().drop_duplicates()
    return bool(pairs["key"].duplicated().mean() < 0.01) if len(pairs) else False


def _alike(values: pd.Series, labels: NDArray[np.int64], thumbs: NDArray[np.uint8]) -> float | None:
    """The chance that images of one value and label look more alike than images of one label and two values."""
    rng = np.random.default_rng(0)
    pixels = thumbs.reshape(len(thumbs), math.prod(thumbs.shape[1:])).astype(np.float32)
    frame = pd.DataFrame({"value": values.to_numpy(), "label": labels})
    within, across = [], []
    together = [rows for rows in frame.groupby(["value", "label"]).indices.values() if len(rows) >= 2]
    for at in rng.permutation(len(together))[:_PAIRS]:
        a, b = rng.choice(together[at], 2, replace=False)
        others = np.flatnonzero((labels == labels[a]) & (frame["value"].to_numpy() != frame["value"].iloc[a]))
        if len(others):
            c = rng.choice(others)
            within.append(np.abs(pixels[a] - pixels[b]).mean())
            across.append(np.abs(pixels[a] - pixels[c]).mean())
    if len(within) < 8:
        return None
    nearer = np.array(within) < np.array(across)
    even = np.array(within) == np.array(across)
    return float(nearer.mean() + even.mean() / 2)
