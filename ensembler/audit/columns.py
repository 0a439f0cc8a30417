"""Columns and parts of file names that look like a group that the recipe does not name.

Such a group is a person, a patient or a scene.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_NAMES = re.compile(
    r"(person|patient|subject|sender|user|owner|author|photographer|customer|student|speaker|animal|family|"
    r"group|session|scene|site|hospital|camera|device|video|clip|sequence|series|study|slide|plot|field|burst|"
    r"origin|donor|case|individual|identity|(^|_)(pid|uid|sid|gid)$)",
    re.IGNORECASE,
)
# What a few values can be that is more than an attribute: places and devices that pictures come
# from.
_SITES = re.compile(
    r"(hospital|clinic|site|(^|_)cent(er|re)(_|$|\d)|institut|camera|(^|_)cam\d|scanner|device|machine|microscope|"
    r"(^|_)lab(orator(y|ies))?s?(_|$|\d)|station|vendor|manufacturer)",
    re.IGNORECASE,
)
_MEASURES = re.compile(
    r"^(width|height|size|area|depth|channels|bytes|count|score|weight|x|y|lat|lon|date|time|fold|"
    r"index|row|rank|label|class|target|split)$",
    re.IGNORECASE,
)
_PAIRS = 400
_LEAST_AUC = 0.65
_FEW = (
    8  # values below which a column is an attribute, such as a colour, unless it is a site
)
_LEAST_SITES = 3
# The lower end of a site's likeness exceeds the first when pictures agree with its name, and the
# second when nothing but the pictures says so.
_SITE_AUC = 0.6
_UNNAMED_AUC = 0.85
_LEAST_PAIRS = 20


@dataclass(frozen=True)
class GroupLike:
    """Something that looks like a group: `column` of the table, or of the path by `pattern`.

    `alike` is the chance that two images of one value and label look more alike than two of one
    label and two values. `only_named` says that nothing but a name speaks for it, and that the
    pictures do not.
    """

    column: str
    n_values: int
    largest: int
    alike: float | None
    pattern: str | None = None
    only_named: bool = False


def group_like_columns(
    table: pd.DataFrame,
    labels: NDArray[np.int64],
    thumbs: NDArray[np.uint8],
    group: pd.Series | None,
) -> list[GroupLike]:
    """Columns of text or whole numbers that hold a group, most striking first.

    A name that says so is enough; any other column must show it in the images. What follows from
    another such column (a person's age) is left out, and so is all that goes with the `group` that
    is named already.
    """
    found: list[tuple[GroupLike, pd.Series]] = []
    for column in table.columns:
        values = table[column].astype(str).str.strip()
        if _MEASURES.match(str(column)) or (
            group is not None and _goes_with(values, group)
        ):
            continue
        one = _judge(values, str(column), labels, thumbs)
        if one is not None:
            found.append((one, values))
    every = [values for _, values in found]
    kept = [one for one, values in found if not _follows_any(values, every)]
    return sorted(
        kept, key=lambda one: (_NAMES.search(one.column) is None, -(one.alike or 0))
    )


def group_like_names(
    paths: pd.Series,
    labels: NDArray[np.int64],
    thumbs: NDArray[np.uint8],
    known: Iterable[pd.Series],
) -> list[tuple[GroupLike, pd.Series]]:
    """Folders and leading parts of file names that hold a group.

    Those that go with `known` columns are left out.
    """
    known = list(known)
    found: list[tuple[GroupLike, pd.Series]] = []
    for pattern, values in _parts_of(paths):
        if any(_goes_with(values, other) for other in known):
            continue
        one = _judge(values, "", labels, thumbs)
        if one is not None and not one.only_named:
            found.append((replace(one, column="group", pattern=pattern), values))
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


def _judge(
    values: pd.Series, name: str, labels: NDArray[np.int64], thumbs: NDArray[np.uint8]
) -> GroupLike | None:
    """What the values look like: a group of many values, one of few sites, or (None) neither."""
    sizes = _sizes(values)
    if sizes is None:
        return None
    if len(sizes) < _FEW:
        return _judge_sites(values, name, sizes, labels, thumbs)
    # As many values as files are an id.
    if (sizes >= 2).sum() < 0.2 * len(sizes) or len(sizes) > 0.8 * sizes.sum():
        return None
    alike = _alike(values, labels, thumbs)
    named = _NAMES.search(name) is not None
    if named or (alike is not None and alike >= _LEAST_AUC):
        return GroupLike(name, len(sizes), int(sizes.iloc[0]), alike)
    return None


def _judge_sites(
    values: pd.Series,
    name: str,
    sizes: pd.Series,
    labels: NDArray[np.int64],
    thumbs: NDArray[np.uint8],
) -> GroupLike | None:
    """Few values are an attribute, unless their name or their pictures say that they are sites."""
    if len(sizes) < _LEAST_SITES:
        return None
    named = _SITES.search(name) is not None or all(
        _SITES.search(str(value)) for value in sizes.index
    )
    alike = _alike(
        values,
        labels,
        thumbs,
        pairs_each=-(-_PAIRS // len(sizes)),
        least=_LEAST_PAIRS,
        lower_end=True,
    )
    shown = alike is not None and alike >= (_SITE_AUC if named else _UNNAMED_AUC)
    if not named and not shown:
        return None
    return GroupLike(name, len(sizes), int(sizes.iloc[0]), alike, only_named=not shown)


def _sizes(values: pd.Series) -> pd.Series | None:
    """How often each value comes, largest first.

    None when too few are filled or they are measurements.
    """
    filled = values[(values != "") & (values.str.lower() != "nan")]
    if len(filled) < 0.8 * len(values) or len(filled) < 10:
        return None
    if filled.str.fullmatch(r"-?\d*\.\d+(e-?\d+)?").mean() > 0.5:
        return None
    return filled.value_counts()


def _follows_any(values: pd.Series, others: Sequence[pd.Series]) -> bool:
    return any(_follows(values, other) for other in others)


def _follows(values: pd.Series, other: pd.Series) -> bool:
    """Whether every value of `other` goes with one of `values`, but not the other way round.

    A person has one age, for example, but many persons have the same age.
    """
    return _one_each(other, values) and not _one_each(values, other)


def _goes_with(values: pd.Series, group: pd.Series) -> bool:
    return _one_each(group, values) or _one_each(values, group)


def _one_each(keys: pd.Series, values: pd.Series) -> bool:
    pairs = (
        pd.DataFrame({"key": keys.to_numpy(), "value": values.to_numpy()})
        .dropna()
        .drop_duplicates()
    )
    return bool(pairs["key"].duplicated().mean() < 0.01) if len(pairs) else False


def _alike(
    values: pd.Series,
    labels: NDArray[np.int64],
    thumbs: NDArray[np.uint8],
    *,
    pairs_each: int = 1,
    least: int = 8,
    lower_end: bool = False,
) -> float | None:
    """The chance that images with one value look more alike than images with two values.

    Both kinds of pairs are of one label. Each value and label gives up to `pairs_each` pairs; fewer
    than `least` in all say nothing. `lower_end` is the chance less two standard errors.
    """
    rng = np.random.default_rng(0)
    pixels = thumbs.reshape(len(thumbs), math.prod(thumbs.shape[1:])).astype(np.float32)
    codes = np.asarray(pd.factorize(values)[0], np.int64)
    within, across = [], []
    for a, b in _pairs(codes, labels, pairs_each, rng):
        others = np.flatnonzero((labels == labels[a]) & (codes != codes[a]))
        if len(others):
            c = rng.choice(others)
            within.append(np.abs(pixels[a] - pixels[b]).mean())
            across.append(np.abs(pixels[a] - pixels[c]).mean())
    if len(within) < least:
        return None
    nearer = np.array(within) < np.array(across)
    even = np.array(within) == np.array(across)
    chance = float(nearer.mean() + even.mean() / 2)
    return (
        chance - 2 * math.sqrt(chance * (1 - chance) / len(within)) if lower_end else chance
    )


def _pairs(
    values: NDArray[np.int64],
    labels: NDArray[np.int64],
    each: int,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Pairs of rows of one value and label, `_PAIRS` at most, no row in two of them."""
    frame = pd.DataFrame({"value": values, "label": labels})
    together = [
        rows
        for rows in frame.groupby(["value", "label"]).indices.values()
        if len(rows) >= 2
    ]
    found: list[tuple[int, int]] = []
    for at in rng.permutation(len(together)):
        rows = rng.permutation(together[at])[: 2 * each]
        found += [(int(a), int(b)) for a, b in zip(rows[0::2], rows[1::2], strict=False)]
        if len(found) >= _PAIRS:
            break
    return found[:_PAIRS]
