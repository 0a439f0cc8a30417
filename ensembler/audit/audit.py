"""`ens audit`: what is wrong with the data of a recipe, most harmful first.

Nothing is trained but the probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensembler.audit.counts import count_samples
from ensembler.audit.duplicate_findings import find_copies
from ensembler.audit.duplicates import find_duplicates, group_duplicates
from ensembler.audit.facts import ImageFacts, look_at_images
from ensembler.audit.file_findings import find_faulty_files, find_unused_levels
from ensembler.audit.findings import Finding, sorted_by_severity
from ensembler.audit.group_findings import (
    FIX_GROUP_LEAK,
    find_split_groups,
    find_unused_groups,
)
from ensembler.audit.label_findings import find_label_problems
from ensembler.audit.leaks import probe_leak, probe_shift
from ensembler.audit.probe import Estimate, LeakTest
from ensembler.audit.unused_groups import unused_groups
from ensembler.data.faults import Fault
from ensembler.data.folds import split_samples
from ensembler.data.samples import SampleSet, drop_samples, read_samples
from ensembler.data.spec import FoldSpec
from ensembler.errors import DataError, GroupLeakError
from ensembler.predictions.store import cache_folder
from ensembler.progress import Progress
from ensembler.recipe.spec import RecipeSpec

_FIX_DATA = "correct the table or the recipe's data section"
_FIX_FOLDS = (
    "fewer folds (folds.count), or leave rare classes out (min_count of the target)"
)
_FIXES = {
    "missing": "put the files back, or leave their rows out of the table",
    "label_only_in_test": "give the class train rows, or leave it out",
    "label_spaces": "remove the spaces",
}


@dataclass(frozen=True)
class Audit:
    """What an audit found, the worst first, and the counts behind it."""

    findings: tuple[Finding, ...]
    counts: dict[str, Any]
    leak: LeakTest | None = None
    adversarial: Estimate | None = None
    # some train groups against the others, where test groups are unknown
    adversarial_null: Estimate | None = None

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
        rest = f" (and {more} more)" if more else ""
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
            "adversarial": _as_json(self.adversarial),
            "adversarial_null": _as_json(self.adversarial_null),
        }


def _as_json(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else asdict(estimate)


@dataclass(frozen=True)
class Probes:
    """Which cheap models an audit trains."""

    leak: bool = False
    adversarial: bool = False


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
    faults: list[Fault] = []
    try:
        samples = read_samples(spec.data, spec.folds, faults)
    except DataError as error:
        wrong = [*_of_faults(faults), Finding("data", "error", str(error), _FIX_DATA)]
        return Audit(sorted_by_severity(wrong), {})
    probes = Probes(test_leak, adversarial)
    found = _of_faults(faults)
    return _audit(spec, samples, artifacts, found, probes, progress or Progress())


def audit_samples(
    spec: RecipeSpec, samples: SampleSet, artifacts: Path, progress: Progress
) -> Audit:
    """The audit of samples that a run has read already, without probes."""
    return _audit(spec, samples, artifacts, [], Probes(), progress)


def with_duplicates_grouped(
    samples: SampleSet, artifacts: Path, progress: Progress
) -> SampleSet:
    """The samples with equal and nearly equal images in one group.

    Used where the recipe sets `data.group_duplicates`.
    """
    facts = look_at_images(samples.images, cache_folder(artifacts), progress)
    return group_duplicates(samples, find_duplicates(facts))


def _audit(
    spec: RecipeSpec,
    samples: SampleSet,
    artifacts: Path,
    findings: list[Finding],
    probes: Probes,
    progress: Progress,
) -> Audit:
    facts = look_at_images(samples.images, cache_folder(artifacts), progress)
    findings += _of_remarks(samples)
    findings += find_faulty_files(samples, facts, on_broken=spec.data.on_broken)
    samples, facts = _readable(samples, facts)
    samples = _with_names(samples)
    progress.note("comparing images")
    duplicates = find_duplicates(facts)
    grouped = (
        group_duplicates(samples, duplicates) if spec.data.group_duplicates else samples
    )
    folds, found = _split(grouped, spec.folds)
    findings += found
    findings += find_unused_levels(samples, facts, spec.input.bits)
    findings += find_label_problems(samples, spec.folds.count)
    findings += find_split_groups(samples, folds)
    findings += find_copies(samples, duplicates, folds)
    unused = unused_groups(spec, samples, facts)
    likes = [one.like for one in unused]
    findings += find_unused_groups(likes, spec.data.group, spec.folds.count)
    leak, shift, null = None, None, None
    if probes.leak:
        leak, found = probe_leak(samples, facts, unused, spec.folds.count, progress)
        findings += found
    if probes.adversarial:
        shift, null, found = probe_shift(samples, facts, unused)
        findings += found
    counts = count_samples(samples, folds, facts)
    return Audit(sorted_by_severity(findings), counts, leak, shift, null)


def _of_faults(faults: Sequence[Fault]) -> list[Finding]:
    return [
        Finding(
            fault.code,
            "error",
            fault.message,
            _FIXES.get(fault.code, _FIX_DATA),
            fault.files,
        )
        for fault in faults
    ]


def _of_remarks(samples: SampleSet) -> list[Finding]:
    findings = []
    for remark in samples.remarks:
        fix = _FIXES.get(remark.code, "")
        finding = Finding(remark.code, "warning", remark.message, fix, remark.files)
        is_note = remark.code in ("left_out", "corrected")
        findings.append(replace(finding, severity="note") if is_note else finding)
    return findings


def _readable(samples: SampleSet, facts: ImageFacts) -> tuple[SampleSet, ImageFacts]:
    kept = facts.readable
    if kept.all():
        return samples, facts
    arrays = {name: getattr(facts, name)[kept] for name in facts.__dataclass_fields__}
    return drop_samples(samples, samples.table["id"][~kept]), ImageFacts(**arrays)


def _with_names(samples: SampleSet) -> SampleSet:
    """The samples with a path to show for each: those of built-in sources have their ids alone."""
    paths = samples.table["path"]
    shown = paths.where(paths != "", samples.table["id"])
    return replace(samples, table=samples.table.assign(path=shown))


def _split(samples: SampleSet, spec: FoldSpec) -> tuple[pd.Series | None, list[Finding]]:
    """The fold of each sample; where there is none, a finding says why."""
    try:
        split = split_samples(samples, spec).table.set_index("id")
    except GroupLeakError as error:
        if "fold_given" in samples.table:  # those folds are looked at as they were given
            return samples.table["fold_given"].fillna(-1).astype(np.int64), []
        return None, [Finding(error.code, "error", str(error), FIX_GROUP_LEAK)]
    except DataError as error:
        return None, [Finding("folds", "error", str(error), _FIX_FOLDS)]
    return split["fold"].reindex(samples.table["id"]).reset_index(drop=True), []
