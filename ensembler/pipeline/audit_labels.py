"""`ens audit RUN --labels` with the run's images: copies join in, and a sheet is drawn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensembler.errors import EnsemblerError, RequestError
from ensembler.evaluation.label_errors import LabelErrors, find_label_errors
from ensembler.outputs import write_output
from ensembler.predictions.store import RunStore, cache_folder
from ensembler.progress import QUIET, Progress

if TYPE_CHECKING:
    from ensembler.data.samples import SampleSet


@dataclass(frozen=True)
class LabelAudit:
    """The suspects; `out` and `sheet` are where they and their pictures were written."""

    errors: LabelErrors
    out: Path | None = None
    sheet: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens audit RUN --labels --json` prints."""
        out = None if self.out is None else str(self.out)
        sheet = None if self.sheet is None else str(self.sheet)
        return {**self.errors.to_json(), "out": out, "sheet": sheet}


def audit_labels(
    store: RunStore,
    members: Sequence[str] | None = None,
    *,
    target: str | None = None,
    out: Path | None = None,
    sheet: Path | None = None,
    progress: Progress = QUIET,
) -> LabelAudit:
    """Rank the labels of a run, with its images where they are found.

    Images that show the same count for each other. The suspects are written to `out` as a CSV, and
    drawn on `sheet` as a PNG; RequestError when that is asked for and there are no images.
    """
    samples = _samples_of(store, progress, needed=sheet is not None)
    copies: Collection[Collection[str]] = ()
    if samples is not None:
        copies = _copies_in(samples, cache_folder(store.folder.resolve().parent), progress)
    errors = find_label_errors(
        store, members, target=target, copies=copies, progress=progress
    )
    if sheet is not None and samples is not None:
        from ensembler.audit.label_sheet import write_label_sheet

        position = {name: i for i, name in enumerate(samples.table["id"].tolist())}
        pictured = [s for s in errors.labels if s.id in position]
        captions = [(f"{s.rank} {s.given}", f"> {s.suggested}") for s in pictured]
        write_label_sheet(
            samples.images, [position[s.id] for s in pictured], captions, sheet
        )
    if out is not None:
        write_output(out, errors.corrections())
    return LabelAudit(errors, out, sheet)


def _samples_of(store: RunStore, progress: Progress, *, needed: bool) -> SampleSet | None:
    """The samples of a run with their images.

    None where there are none: the run was imported, its images are elsewhere, or the extra that
    reads them is not installed. Where they are needed, the reason is an error.
    """
    why = _why_no_images(store)
    if why is None:
        from ensembler.data.samples import read_samples
        from ensembler.recipe.load import Recipe

        try:
            spec = Recipe.load_recorded(store.recipe_path).spec
            return read_samples(spec.data, spec.folds, [])
        except EnsemblerError as error:
            why = f"the images of run {store.name!r} cannot be read: {error}"
    if needed:
        raise RequestError(f"{why}; leave out --sheet")
    progress.note(f"{why}; labels are judged without near-duplicates")
    return None


def _why_no_images(store: RunStore) -> str | None:
    if not store.recipe_path.is_file():
        return f"run {store.name!r} was not made from a recipe, and has no images"
    if find_spec("cv2") is None or find_spec("PIL") is None:
        return "images need the extra 'train'"
    return None


def _copies_in(samples: SampleSet, cache: Path, progress: Progress) -> list[list[str]]:
    """Sets of ids of samples whose images are the same or nearly the same."""
    from ensembler.audit.duplicates import find_duplicates
    from ensembler.audit.facts import look_at_images

    found = find_duplicates(look_at_images(samples.images, cache, progress))
    ids = samples.table["id"].tolist()
    # Sets of near-duplicates hold the equal images among them; sets of equal ones may stand alone.
    near = {position for same in found.near for position in same}
    alone = [same for same in found.exact if not near.intersection(same)]
    return [[ids[position] for position in same] for same in (*found.near, *alone)]
