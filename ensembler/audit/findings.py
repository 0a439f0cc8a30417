"""What an audit finds: a code, how bad it is, and the recipe line that fixes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# The codes, most harmful first: what inflates every score comes before what costs a few rows.
CODES_BY_SEVERITY = (
    "missing",
    "unreadable",
    "data",
    "folds",
    "label_only_in_test",
    "group_leak",
    "ungrouped_column",
    "duplicate_other_label",
    "duplicate",
    "near_duplicate",
    "train_test_shift",
    "rare_class",
    "imbalance",
    "narrow_range",
    "empty",
    "blank",
    "tiny",
    "label_only_in_train",
    "mixed_modes",
    "label_spaces",
    "left_out",
    "corrected",
)

# What makes out-of-fold scores too good: a run warns of it before it trains.
INFLATES_SCORES = (
    "group_leak",
    "ungrouped_column",
    "duplicate_other_label",
    "duplicate",
    "near_duplicate",
)


@dataclass(frozen=True)
class Finding:
    """One finding.

    `fix` is a recipe line, or what else to do. `files` lists all files that it is about, `facts`
    holds further keys of its JSON object.
    """

    code: str
    severity: Severity
    message: str
    fix: str = ""
    files: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As an entry of the object that `ens audit --json` prints."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "fix": self.fix,
            "mend": self.fix,  # the key of earlier versions
            "files": list(self.files),
            **self.facts,
        }


def sorted_by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors before warnings before notes, and each of them by what it does to the scores."""
    severities: Sequence[Severity] = ("error", "warning", "note")
    order = {code: i for i, code in enumerate(CODES_BY_SEVERITY)}

    def key(finding: Finding) -> tuple[int, int]:
        return severities.index(finding.severity), order.get(finding.code, len(order))

    return tuple(sorted(findings, key=key))
