"""The page of a run: which sections it has, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

import ensembler
from ensembler.report.answer import answer_section
from ensembler.report.classes import calibration_section, classes_section
from ensembler.report.facts import RunFacts, TargetFacts
from ensembler.report.members import (
    adds_section,
    diversity_section,
    learning_section,
    members_section,
    views_section,
)
from ensembler.report.parts import parts_section
from ensembler.report.record import (
    audit_section,
    history_section,
    recipe_section,
    time_section,
)
from ensembler.reporting.page import Page, Section, Text, grid, section
from ensembler.reporting.tables import Table


def run_page(
    facts: RunFacts,
    pictures: Sequence[Section],
    *,
    first: Sequence[Section] = (),
    reload: int | None = None,
) -> Page:
    """The page of a run, the answer first; `pictures` are sections that show images.

    What it is compared with comes `first`.
    """
    name = facts.store.name
    begun = _begun_section(facts)
    of_targets = [
        _target_sections(facts, target, "" if i == 0 else f"-{i + 1}")
        for i, target in enumerate(facts.targets)
    ]
    sections = [
        *first,
        *answer_section(facts),
        *begun,
        *chain.from_iterable(of_targets),
        *learning_section(facts),
        *pictures,
        *time_section(facts),
        *audit_section(facts),
        *history_section(facts),
        *recipe_section(facts, f"ens report {name}"),
    ]
    sections += _faults_section(facts)
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    foot = (f"Written {written} by ensembler {ensembler.__version__}.",)
    lead = "What was trained, what it is worth, and what to look at next."
    return Page(f"{name}: report", lead, tuple(sections), foot, reload)


def _target_sections(facts: RunFacts, target: TargetFacts, suffix: str) -> list[Section]:
    makers = (
        members_section,
        adds_section,
        classes_section,
        calibration_section,
        parts_section,
        views_section,
        diversity_section,
    )
    sections: list[Section] = []
    for make in makers:
        with facts.faults.noted(
            f"{make.__name__.removesuffix('_section')} of {target.name}"
        ):
            sections += make(facts, target, suffix)
    return sections


def _begun_section(facts: RunFacts) -> list[Section]:
    """Members that are not complete: how far they are, or why they failed."""
    rows = [
        (
            member.name,
            f"{member.folds_done} of {member.folds}",
            member.state,
            member.message,
        )
        for member in facts.members
        if member.state in ("training", "failed")
    ]
    table = Table(
        "Members that are not complete", ("member", "folds", "state", "why"), tuple(rows)
    )
    return section("begun", "Not complete", [grid(table)])


def _faults_section(facts: RunFacts) -> list[Section]:
    """What could not be read, and so is not on the page."""
    messages = tuple(dict.fromkeys(facts.faults.messages))
    return section(
        "faults", "What could not be shown", [Text(messages, "bad")] if messages else []
    )
