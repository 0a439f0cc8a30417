"""What a leak between folds is worth for a recipe, and whether test looks like train.

Both are measured on the recipe's samples and images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit.facts import ImageFacts
from ensembler.audit.findings import Finding
from ensembler.audit.group_findings import line_that_groups
from ensembler.audit.probe import (
    Estimate,
    LeakTest,
    adversarial_validation,
    leak_test,
    part_of_groups,
)
from ensembler.audit.unused_groups import UnusedGroup
from ensembler.data.samples import SampleSet
from ensembler.errors import DataError
from ensembler.progress import Progress

_SHIFTED = 0.6  # an AUC whose interval is above tells train from test
_FIX_SHIFT = (
    "look at both parts side by side; augment towards the test part, or set aside train rows that "
    "look like it"
)


def probe_leak(
    samples: SampleSet,
    facts: ImageFacts,
    unused: Sequence[UnusedGroup],
    n_folds: int,
    progress: Progress,
) -> tuple[LeakTest | None, list[Finding]]:
    """A cheap model under plain and under grouped folds; a finding where the group is not used."""
    train = np.flatnonzero(samples.table["source"] == "train")
    table = samples.table.iloc[train].reset_index(drop=True)
    is_used = "group" in table
    if not is_used and not unused:
        progress.warn(
            "the leak test needs a group; data.group names none, and no column looks like one"
        )
        return None, []
    values = table["group"] if is_used else unused[0].of_row
    name = "group" if is_used else unused[0].like.pattern or unused[0].like.column
    target = samples.target(samples.targets[0])
    known = table[target.name].notna().to_numpy()
    # Where rows have several labels at once, a cheap model is asked for the rarest.
    labels = pd.Series(target.strata(table[target.name].tolist(), 2), dtype=object)
    y, groups = _numbers(labels[known]), _numbers(values[known])
    try:
        found = leak_test(
            facts.thumb[train[known]], y, groups, group=name, target=target.name
        )
    except DataError as error:
        progress.warn(str(error))
        return None, []
    if is_used or found.plain.low <= found.grouped.value:
        return found, []
    message = (
        f"with plain folds a cheap model scores {found.plain}, "
        f"with folds by {name} {found.grouped}"
    )
    fix = line_that_groups(unused[0].like, n_folds)
    return found, [Finding("group_leak", "warning", message, fix, (), {"across": "folds"})]


def probe_shift(
    samples: SampleSet, facts: ImageFacts, unused: Sequence[UnusedGroup]
) -> tuple[Estimate | None, Estimate | None, list[Finding]]:
    """How well a cheap model tells train from test images.

    Where only train has groups, also how well it tells some groups from the others.
    """
    is_test = (samples.table["source"] == "test").to_numpy()
    if not is_test.any():
        return None, None, []
    of_train = _group_numbers(samples.table[~is_test])
    of_test = _group_numbers(samples.table[is_test])
    if of_train is None and unused:
        of_train = _numbers(unused[0].of_row)
    thumbs, null = facts.thumb[~is_test], None
    try:
        if of_train is not None and of_test is None:
            # Images of one test group may be on both sides of a split and give it away: so would
            # those of train groups whose names are not told.
            part = part_of_groups(of_train, int(is_test.sum()))
            null = adversarial_validation(thumbs[~part], thumbs[part], of_train[~part])
        found = adversarial_validation(thumbs, facts.thumb[is_test], of_train, of_test)
    except DataError:
        return None, null, []  # too few rows to tell
    return found, null, _shift_findings(found, null)


def _shift_findings(found: Estimate, null: Estimate | None) -> list[Finding]:
    by_chance = 0.0 if null is None else null.high
    if found.low <= max(_SHIFTED, by_chance):
        return []
    message = (
        f"a cheap model tells train from test images: AUC {found}; OOF scores may not hold on the "
        "test part"
    )
    facts = {"auc": found.value}
    return [Finding("train_test_shift", "warning", message, _FIX_SHIFT, (), facts)]


def _group_numbers(table: pd.DataFrame) -> NDArray[np.int64] | None:
    if "group" not in table or table["group"].isna().any():
        return None
    return _numbers(table["group"])


def _numbers(values: pd.Series) -> NDArray[np.int64]:
    return np.asarray(pd.factorize(values)[0], np.int64)
