"""`ens audit`: what is wrong with the data of a recipe, most harmful first.

Nothing is trained but the probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit import inspect
from ensembler.audit.columns import GroupLike, group_like_columns, group_like_names
from ensembler.audit.duplicates import find_duplicates, group_duplicates
from ensembler.audit.facts import ImageFacts, look_at_images
from ensembler.audit.findings import Finding, sorted_by_severity
from ensembler.audit.probe import (
    Estimate,
    LeakTest,
    adversarial_validation,
    leak_test,
    part_of_groups,
)
from ensembler.data.faults import Fault
from ensembler.data.folds import split_samples
from ensembler.data.samples import SampleSet, drop_samples, read_samples
from ensembler.data.spec import BUILT_IN_SOURCES, FoldSpec
from ensembler.data.tables import TABLE_SUFFIXES, read_table
from ensembler.errors import DataError, GroupLeakError
from ensembler.predictions.store import cache_folder
from ensembler.progress import Progress
from ensembler.recipe.spec import RecipeSpec
from ensembler.targets.label_sets import strata

_FIX_DATA = "correct the table or the recipe's data section"
_FIX_FOLDS = "fewer folds (folds.count), or leave rare classes out (min_count of the target)"
_SHIFTED = 0.6  # an AUC whose interval lies above tells train from test


@dataclass(frozen=True)
class Audit:
    """What an audit found, the worst first, and the counts behind it."""

    findings: tuple[Finding, ...]
    counts: dict[str, Any]
    leak: LeakTest | None = None
    adversarial: Estimate | None = None
    adversarial_null: Estimate | None = (
        None  # some train groups against the others, where test groups are unknown
    )

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence to act on."""
        if self.is_clean:
            return "No problems found."
        first = self.findings[0]
        more = sum(f.severity != "note" for f in self.findings) - 1
        rest = f"; {more} more after it" if more else ""
        kind = (
            "This run would be refused"
            if first.severity == "error"
            else "Fix this before trusting a score"
        )
        return f"{kind}: {first.message}{rest}."

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens audit --json` prints."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "counts": self.counts,
            "verdict": self.verdict,
            "leak_test": None if self.leak is None else self.leak.to_json(),
            "adversarial": None if self.adversarial is None else self.adversarial.__dict__,
            "adversarial_null": None
            if self.adversarial_null is None
            else self.adversarial_null.__dict__,
        }


def audit_recipe(
    spec: RecipeSpec,
    artifacts: Path,
    *,
    test_leak: bool = False,
    adversarial: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Look at everything that the recipe's data are made of.

    `test_leak` also scores a cheap model under plain and under grouped folds, `adversarial` asks
    one whether it can tell train from test. What a run would refuse is a finding here.
    """
    progress = progress or Progress()
    faults: list[Fault] = []
    try:
        samples = read_samples(spec.data, spec.folds, faults)
    except DataError as error:
        wrong = [
            *_of_faults(faults),
            Finding("data", "error", str(error), _FIX_DATA),
        ]
        return Audit(sorted_by_severity(wrong), {})
    facts = _facts(samples, artifacts, progress)
    findings = [
        *_of_faults(faults),
        *_of_remarks(samples),
        *inspect.look_at_files(samples, facts, on_broken=spec.data.on_broken),
    ]
    samples, facts = _readable(samples, facts)
    return _audit(
        spec,
        samples,
        facts,
        findings,
        test_leak=test_leak,
        adversarial=adversarial,
        progress=progress,
    )


def audit_samples(
    spec: RecipeSpec, samples: SampleSet, artifacts: Path, progress: Progress
) -> Audit:
    """The audit of samples that a run has read already, without probes."""
    facts = _facts(samples, artifacts, progress)
    findings = [
        *_of_remarks(samples),
        *inspect.look_at_files(samples, facts, on_broken=spec.data.on_broken),
    ]
    samples, facts = _readable(samples, facts)
    return _audit(
        spec, samples, facts, findings, test_leak=False, adversarial=False, progress=progress
    )


def with_duplicates_grouped(samples: SampleSet, artifacts: Path, progress: Progress) -> SampleSet:
    """The samples with equal and nearly equal images in one group, as `data.group_duplicates` asks."""
    return group_duplicates(samples, find_duplicates(_facts(samples, artifacts, progress)))


def _facts(samples: SampleSet, artifacts: Path, progress: Progress) -> ImageFacts:
    return look_at_images(samples.images, cache_folder(artifacts), progress)


def _of_faults(faults: Sequence[Fault]) -> list[Finding]:
    fixes = {
        "missing": "put the files back, or leave their rows out of the table",
        "label_only_in_test": "give the class train rows, or leave it out",
    }
    return [
        Finding(
            f.code,
            "error",
            f.message,
            fixes.get(f.code, _FIX_DATA),
            f.files,
        )
        for f in faults
    ]


def _of_remarks(samples: SampleSet) -> list[Finding]:
    fixes = {"label_spaces": "remove the spaces", "left_out": ""}
    return [
        Finding(
            r.code,
            "note" if r.code == "left_out" else "warning",
            r.message,
            fixes.get(r.code, ""),
            r.files,
        )
        for r in samples.remarks
    ]


def _readable(samples: SampleSet, facts: ImageFacts) -> tuple[SampleSet, ImageFacts]:
    kept = facts.readable
    if kept.all():
        return samples, facts
    arrays = {name: getattr(facts, name)[kept] for name in facts.__dataclass_fields__}
    return drop_samples(samples, samples.table["id"][~kept]), ImageFacts(**arrays)


def _audit(
    spec: RecipeSpec,
    samples: SampleSet,
    facts: ImageFacts,
    findings: list[Finding],
    *,
    test_leak: bool,
    adversarial: bool,
    progress: Progress,
) -> Audit:
    # Built-in sources have no paths: their ids say which image it is.
    shown = samples.table["path"].where(samples.table["path"] != "", samples.table["id"])
    samples = replace(samples, table=samples.table.assign(path=shown))
    progress.note("comparing images")
    duplicates = find_duplicates(facts)
    grouped = group_duplicates(samples, duplicates) if spec.data.group_duplicates else samples
    folds = _folds(grouped, spec.folds, findings)
    findings += inspect.look_at_levels(samples, facts, spec.input.bits)
    findings += inspect.look_at_labels(samples, spec.folds.count)
    findings += inspect.look_at_groups(samples, folds)
    findings += inspect.look_at_duplicates(samples, duplicates, folds)
    columns = _group_likes(spec, samples, facts)
    findings += inspect.look_at_columns(
        [one for one, _ in columns], spec.data.group, spec.folds.count
    )
    leak = (
        _leak_test(samples, facts, columns, findings, spec.folds.count, progress)
        if test_leak
        else None
    )
    shift, null = _adversarial(samples, facts, columns, findings) if adversarial else (None, None)
    return Audit(
        sorted_by_severity(findings), inspect.counts(samples, folds, facts), leak, shift, null
    )


def _folds(samples: SampleSet, spec: FoldSpec, findings: list[Finding]) -> pd.Series | None:
    """The fold of each sample; where there is none, a finding says why."""
    try:
        split = split_samples(samples, spec).table.set_index("id")
    except GroupLeakError as error:
        if "fold_given" in samples.table:  # those folds are looked at as they were given
            return samples.table["fold_given"].fillna(-1).astype(np.int64)
        findings.append(Finding(error.code, "error", str(error), inspect.FIX_GROUP_LEAK))
        return None
    except DataError as error:
        findings.append(Finding("folds", "error", str(error), _FIX_FOLDS))
        return None
    return split["fold"].reindex(samples.table["id"]).reset_index(drop=True)


def _group_likes(
    spec: RecipeSpec, samples: SampleSet, facts: ImageFacts
) -> list[tuple[GroupLike, pd.Series[Any]]]:
    """Columns and parts of names that look like an unused group, with their values by train sample."""
    if spec.data.source in BUILT_IN_SOURCES:
        return []
    train = np.flatnonzero(samples.table["source"] == "train")
    table = samples.table.iloc[train].reset_index(drop=True)
    labels = np.asarray(pd.factorize(table[samples.targets[0]])[0], np.int64)
    thumbs = facts.thumb[train]
    group = table.get("group")
    found: list[tuple[GroupLike, pd.Series[Any]]] = []
    source = Path(spec.data.source)
    if source.suffix.lower() in TABLE_SUFFIXES:
        raw = (
            read_table(source, spec.data).drop_duplicates(spec.data.path).set_index(spec.data.path)
        )
        raw = raw.reindex(table["path"]).reset_index(drop=True)
        specs = spec.data.target_specs
        used = {
            spec.data.id,
            spec.data.group,
            spec.data.split,
            spec.data.weight,
            spec.folds.column,
            "id",
        }
        used |= {*specs, *(s.column for s in specs.values())}
        raw = raw.drop(columns=[c for c in raw.columns if c in used])
        found += [
            (one, raw[one.column].astype(str))
            for one in group_like_columns(raw, labels, thumbs, group)
        ]
    if spec.data.pattern is None:
        known = [values for _, values in found] + ([group] if group is not None else [])
        found += group_like_names(table["path"], labels, thumbs, known)
    return found


def _leak_test(
    samples: SampleSet,
    facts: ImageFacts,
    columns: Sequence[tuple[GroupLike, pd.Series[Any]]],
    findings: list[Finding],
    n_folds: int,
    progress: Progress,
) -> LeakTest | None:
    train = np.flatnonzero(samples.table["source"] == "train")
    table = samples.table.iloc[train].reset_index(drop=True)
    if "group" in table:
        name, values = "group", table["group"]
    elif columns:
        name, values = columns[0][0].pattern or columns[0][0].column, columns[0][1]
    else:
        progress.warn(
            "the leak test needs a group; data.group names none, and no column looks like one"
        )
        return None
    target = samples.targets[0]
    known = table[target].notna().to_numpy()
    labels = table[target]
    if (
        target in samples.set_formats
    ):  # of several labels at once a cheap model is asked for the rarest
        labels = pd.Series(strata(labels.tolist(), 2), dtype=object)
    y, groups = (
        np.asarray(pd.factorize(series[known])[0], np.int64) for series in (labels, values)
    )
    try:
        found = leak_test(facts.thumb[train[known]], y, groups, group=name, target=target)
    except DataError as error:
        progress.warn(str(error))
        return None
    if found.plain.low > found.grouped.value and "group" not in table:
        message = f"with plain folds a cheap model scores {found.plain}, with folds by {name} {found.grouped}"
        fix = inspect.line_that_groups(columns[0][0], n_folds)
        findings.append(Finding("group_leak", "warning", message, fix, (), {"across": "folds"}))
    return found


def _adversarial(
    samples: SampleSet,
    facts: ImageFacts,
    columns: Sequence[tuple[GroupLike, pd.Series[Any]]],
    findings: list[Finding],
) -> tuple[Estimate | None, Estimate | None]:
    """How well train is told from test, and, where only train has groups, how well some groups from the others."""
    test = (samples.table["source"] == "test").to_numpy()
    if not test.any():
        return None, None
    of_train, of_test = (_group_numbers(samples.table[part]) for part in (~test, test))
    if of_train is None and columns:
        of_train = np.asarray(pd.factorize(columns[0][1])[0], np.int64)
    train_images, null = facts.thumb[~test], None
    try:
        if of_train is not None and of_test is None:
            # Images of one test group may lie on both sides of a split and give it away: so would
            # those of train groups whose names are not told.
            some = part_of_groups(of_train, int(test.sum()))
            null = adversarial_validation(train_images[~some], train_images[some], of_train[~some])
        found = adversarial_validation(train_images, facts.thumb[test], of_train, of_test)
    except DataError:
        return None, null  # too few rows to tell
    if found.low > max(_SHIFTED, 0.0 if null is None else null.high):
        message = f"a cheap model tells train from test images: AUC {found}; OOF scores may not hold on the test part"
        fix = (
            "look at both parts side by side; augment towards the test part, or set aside train rows "
            "that look like it"
        )
        findings.append(
            Finding("train_test_shift", "warning", message, fix, (), {"auc": found.value})
        )
    return found, null


def _group_numbers(table: pd.DataFrame) -> NDArray[np.int64] | None:
    if "group" not in table or table["group"].isna().any():
        return None
    return np.asarray(pd.factorize(table["group"])[0], np.int64)
