"""What a run was: time and cost, audit, submissions, recipe, versions, how it is made again."""

from __future__ import annotations

from typing import Any

from ensembler.errors import StoreError
from ensembler.files import read_json
from ensembler.report.facts import RunFacts
from ensembler.reporting.history import run_history
from ensembler.reporting.page import (
    Block,
    Code,
    Facts,
    Folded,
    Section,
    Text,
    grid,
    section,
)
from ensembler.reporting.tables import Cell, Table, duration

_MOST_RECIPE = 60_000  # characters
_FINDINGS = 60
_VERSIONS = 100


def time_section(facts: RunFacts) -> list[Section]:
    """What each member took, and what its weights weigh."""
    rows: list[tuple[Cell, ...]] = []
    total = 0.0
    for name in facts.store.complete_members:
        record = facts.store.member(name).record
        phases = record.seconds_by_phase
        training = phases.get("training", record.seconds)
        total += sum(phases.values()) or (record.seconds or 0.0)
        size = _weights_bytes(facts, name)
        epochs = record.options.get("epochs")
        rows.append(
            (
                name,
                record.folds,
                _cell(epochs),
                None if training is None else round(training),
                None if "predicting" not in phases else round(phases["predicting"]),
                None if not size else round(size / 1e6, 2),
            )
        )
    if not total:
        return []
    table = Table(
        "Seconds and sizes by member",
        ("member", "folds", "epochs", "training s", "predicting s", "weights MB"),
        tuple(rows),
        digits=2,
    )
    said = Text((f"All members together took {duration(total)} of computing.",))
    return section("time", "Time and cost", [said, grid(table)])


def _cell(value: Any) -> Cell:
    return value if isinstance(value, (str, int, float)) else None


def _weights_bytes(facts: RunFacts, name: str) -> int:
    folder = facts.store.folder / "members" / name
    weights = folder.glob("fold*.safetensors")
    return sum(path.stat().st_size for path in weights if ".logits." not in path.name)


def audit_section(facts: RunFacts) -> list[Section]:
    """What the audit of the data found when the run began."""
    path = facts.store.folder / "audit.json"
    if not path.is_file():
        return []
    content: dict[str, Any] = {}
    with facts.faults.noted("audit"):
        found = read_json(path)
        if not isinstance(found, dict):
            raise StoreError(f"{path} is no object; it was altered")
        content = found
    return section("audit", "Audit of the data", audit_blocks(content))


def audit_blocks(content: dict[str, Any]) -> list[Block | None]:
    """The verdict and findings of an audit, each with its fix."""
    findings = [f for f in content.get("findings") or [] if isinstance(f, dict)]
    rows = [
        tuple(str(finding.get(key) or "") for key in ("severity", "code", "message", "fix"))
        for finding in findings[:_FINDINGS]
    ]
    table = Table(
        "Findings, the worst first", ("severity", "code", "what", "fix"), tuple(rows)
    )
    verdict = str(content.get("verdict") or "")
    is_clean = not any(f.get("severity") in ("error", "warning") for f in findings)
    said = Text((verdict,), "good" if is_clean else "bad") if verdict else None
    return [said, grid(table)]


def history_section(facts: RunFacts) -> list[Section]:
    """Every submission there was."""
    tables: list[Table] = []
    with facts.faults.noted("submission history"):
        history = run_history(facts.store)
        if history.versions:
            tables = history.tables()
    return section("history", "Submissions", [grid(table) for table in tables])


def recipe_section(facts: RunFacts, command: str) -> list[Section]:
    """The recipe, what it ran with, and how to make it again."""
    lock = facts.store.lock
    blocks: list[Block | None] = []
    if facts.store.recipe_path.is_file():
        text = facts.store.recipe_path.read_text("utf-8", "replace")[:_MOST_RECIPE]
        blocks.append(Folded("recipe.yaml, with every default", (Code("Recipe", text),)))
    if lock.versions:
        blocks.append(
            Facts(tuple((name, version) for name, version in lock.versions.items()))
        )
    said = [f"This page: `{command}`."]
    if facts.store.recipe_path.is_file():
        said.append(
            f"One fold again, compared bit by bit: `ens reproduce {facts.store.name}`. Everything "
            f"again from the recipe: `ens run {facts.store.recipe_path}` in an empty folder of "
            "runs."
        )
    blocks.append(Text(tuple(said)))
    if lock.data is not None:
        prints = [("Fingerprint of the data", lock.data)]
        prints += [("Fingerprint of the images", lock.images)] if lock.images else []
        prints += [("Seed", str(lock.seed))] if lock.seed is not None else []
        blocks.append(Facts(tuple(prints)))
    return section("recipe", "Recipe and how to reproduce", blocks)
