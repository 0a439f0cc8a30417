"""What is imported, and how it is to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ensembler.predictions.members import Kind
from ensembler.targets.label_sets import SetFormat


@dataclass(frozen=True)
class MemberFiles:
    """One member to import: its out-of-fold file, and its test file if it has one."""

    name: str
    oof: Path
    test: Path | None = None


@dataclass
class ImportOptions:
    """How files are read; `notes` gathers what was assumed or repaired on the way."""

    kind: Kind
    by_position: bool
    partial: bool
    set_format: SetFormat | None = None
    notes: list[str] = field(default_factory=list)
