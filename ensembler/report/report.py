"""`ens report`: everything about a run or a recipe as one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembler.outputs import check_output, write_output
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.report.facts import digest_cache, read_run
from ensembler.report.run_page import run_page
from ensembler.reporting.page import render

REPORT = "report.html"


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
    progress: Progress = QUIET,
) -> WrittenReport:
    """Write the page of a run, to its `report.html` unless `out` says otherwise."""
    path = store.folder / REPORT if out is None else out
    check_output(path)
    facts = read_run(store, digest_cache(store, artifacts), progress.note)
    content = render(run_page(facts, []))
    write_output(path, content)
    return WrittenReport(path, len(content), tuple(facts.faults.messages))
