"""`ens report`: everything about a run or a recipe as one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembler.outputs import check_output, write_output
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.report.compare import compare_sections
from ensembler.report.facts import digest_cache, read_run
from ensembler.report.pictures import MOST, gallery_of_run
from ensembler.report.rows import rows_sections
from ensembler.report.run_page import run_page
from ensembler.reporting.page import Section, render

REPORT = "report.html"
_UNREADABLE = 5  # images that are named


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written; `notes` say what is not on it."""

    file: Path
    size: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens report --json` prints."""
        return {"file": str(self.file), "bytes": self.size, "notes": list(self.notes)}


def report_run(
    store: RunStore,
    artifacts: Path,
    *,
    out: Path | None = None,
    pictures: int = MOST,
    compare: RunStore | None = None,
    reload: int | None = None,
    progress: Progress = QUIET,
) -> WrittenReport:
    """Write the page of a run, to its `report.html` unless `out` says otherwise.

    It shows at most so many `pictures`, where the run has images, and the differences from another
    run to `compare` with. A page that a browser is to load again does so after `reload` seconds.
    """
    name = REPORT if compare is None else f"report-{store.name}-{compare.name}.html"
    path = store.folder / name if out is None else out
    check_output(path)
    facts = read_run(store, digest_cache(store, artifacts), progress.note)
    notes = []
    found = gallery_of_run(store, pictures) if pictures else "no pictures were asked for"
    gallery = None if isinstance(found, str) else found
    if isinstance(found, str) and pictures:
        notes.append(found)
    first: list[Section] = []
    if compare is not None:
        other = read_run(compare, digest_cache(compare, artifacts), progress.note)
        first = compare_sections(facts, other, gallery)
    sections = rows_sections(facts, gallery, progress)
    if gallery is not None:
        facts.faults.messages.extend(gallery.unreadable[:_UNREADABLE])
    content = render(run_page(facts, sections, first=first, reload=reload))
    write_output(path, content)
    return WrittenReport(path, len(content), (*notes, *facts.faults.messages))


def report_recipe(
    recipe: Recipe,
    artifacts: Path,
    *,
    out: Path | None = None,
    pictures: int = MOST,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write the page of a recipe's data, to `<recipe>-report.html` unless `out` says otherwise."""
    from ensembler.report.recipe_page import recipe_page

    path = recipe.path.with_name(f"{recipe.path.stem}-report.html") if out is None else out
    check_output(path)
    page, notes = recipe_page(recipe, artifacts, pictures, progress or Progress())
    content = render(page)
    write_output(path, content)
    return WrittenReport(path, len(content), tuple(notes))
