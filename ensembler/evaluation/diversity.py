"""How the members of a run differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembler.blending.diversity import Diversity, diversity
from ensembler.blending.multi_label import yes_or_no
from ensembler.blends.pool import read_pool
from ensembler.errors import RequestError
from ensembler.outputs import check_output, write_output
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore
from ensembler.reporting.diversity_page import diversity_page


@dataclass(frozen=True)
class RunDiversity:
    """The comparison of a run's members, and the page it was written to."""

    run: str
    found: Diversity
    n_rows: int
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens diversity --json` prints."""
        page = None if self.page is None else str(self.page)
        return {"run": self.run, "n": self.n_rows, **self.found.to_json(), "page": page}


def compare_members(
    store: RunStore,
    members: Sequence[str] | None = None,
    *,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    common_rows: bool = False,
    page: Path | None = None,
) -> RunDiversity:
    """Compare members (all, or those named) on out-of-fold rows, and write `page` if given."""
    if page is not None:
        check_output(page)
    pool = read_pool(store, members, merge=merge, views=views, common_rows=common_rows).pool
    if len(pool.names) < 2:
        raise RequestError(
            f"run {store.name!r} has one complete member; differences need two"
        )
    found = diversity(pool if pool.y.ndim == 1 else yes_or_no(pool))
    if page is not None:
        write_output(page, diversity_page(store.name, found))
    return RunDiversity(store.name, found, len(pool.y), page)
