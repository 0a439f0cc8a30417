"""What an audit finds: a code, how bad it is, and the recipe line that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# The codes in order of harm: what makes every score a lie stands before what costs a few rows.
HARM = (
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
)

# What flatters out-of-fold scores: a run says it before it trains.
LIES = ("group_leak", "ungrouped_column", "duplicate_other_label", "duplicate", "near_duplicate")


@dataclass(frozen=True)
class Finding:
    """One finding.

    `files` lists all that it is about, `facts` holds further keys of its JSON object.
    """

    code: str
    severity: Severity
    message: str
    mend: str = ""
    files: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As an entry of the object that `ens audit --json` prints."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "mend": self.mend,
            "files": list(self.files),
            **self.facts,
        }


def in_order_of_harm(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors before warnings before notes, and each of them by what it does to the scores."""
    severities: Sequence[Severity] = ("error", "warning", "note")
    order = {code: i for i, code in enumerate(HARM)}
    return tuple(
        sorted(
            findings, key=lambda f: (severities.index(f.severity), order.get(f.code, len(order)))
        )
    )
