"""Columns of the table and parts of the paths that look like a group but are not used as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensembler.audit.columns import GroupLike, group_like_columns, group_like_names
from ensembler.audit.facts import ImageFacts
from ensembler.data.samples import SampleSet
from ensembler.data.spec import BUILT_IN_SOURCES
from ensembler.data.tables import TABLE_SUFFIXES, read_table
from ensembler.recipe.spec import RecipeSpec


class UnusedGroup(NamedTuple):
    """What looks like a group, with its value for each train sample."""

    like: GroupLike
    of_row: pd.Series[Any]


def unused_groups(
    spec: RecipeSpec, samples: SampleSet, facts: ImageFacts
) -> list[UnusedGroup]:
    """Columns and parts of names that look like a group, most striking first."""
    if spec.data.source in BUILT_IN_SOURCES:
        return []
    train = np.flatnonzero(samples.table["source"] == "train")
    table = samples.table.iloc[train].reset_index(drop=True)
    labels = np.asarray(pd.factorize(table[samples.targets[0]])[0], np.int64)
    thumbs, group = facts.thumb[train], table.get("group")
    found: list[UnusedGroup] = []
    if Path(spec.data.source).suffix.lower() in TABLE_SUFFIXES:
        raw = _unnamed_columns(spec, table["path"])
        for like in group_like_columns(raw, labels, thumbs, group):
            found.append(UnusedGroup(like, raw[like.column].astype(str)))
    if spec.data.pattern is None:
        known = [unused.of_row for unused in found] + ([group] if group is not None else [])
        named = group_like_names(table["path"], labels, thumbs, known)
        found += [UnusedGroup(like, values) for like, values in named]
    return found


def _unnamed_columns(spec: RecipeSpec, paths: pd.Series) -> pd.DataFrame:
    """The columns of the recipe's table that the recipe does not name, in the order of `paths`."""
    data = spec.data
    raw = (
        read_table(Path(data.source), data).drop_duplicates(data.path).set_index(data.path)
    )
    raw = raw.reindex(paths).reset_index(drop=True)
    used = {"id", data.id, data.group, data.split, data.weight, spec.folds.manifest_column}
    used |= {*data.target_specs, *(target.column for target in data.target_specs.values())}
    return raw.drop(columns=[column for column in raw.columns if column in used])
