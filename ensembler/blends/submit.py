"""`ens submit`: a blend as the file to submit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ensembler.blends.current import members_changed_since
from ensembler.blends.origin import origin_of_blend
from ensembler.errors import MissingFileError, RequestError
from ensembler.files import claim
from ensembler.outputs import check_output, write_output
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress, RecordedProgress
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import (
    Submission,
    blend_to_submit,
    make_submission,
    note_out_version,
    write_submission,
)
from ensembler.reporting.table import read_template


@dataclass(frozen=True)
class WrittenSubmission:
    """A submission that was written."""

    run: str
    blend: str
    path: Path
    rows: int
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def submit_run(
    store: RunStore,
    blend: str | None = None,
    *,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    template: Path | None = None,
    per: str | None = None,
    reduce: str | None = None,
    out: Path | None = None,
) -> WrittenSubmission:
    """Write a blend (the submitted one when none is named) as the submission, or to `out`."""
    if out is not None:
        check_output(out)
    name = blend or default_blend(store)
    spec = changed_spec(
        submission_spec(store),
        format=format,
        columns=columns,
        template=template,
        per=per,
        reduce=reduce,
    )
    if columns is None and template is None:
        spec = _named_after(spec, store, store.blend(name).record.target)
    submission = submission_of_blend(store, name, spec)
    if submission is None:
        raise RequestError(
            f"run {store.name!r} has no test rows to submit; add data.test or folds.holdout"
        )
    path = out or store.submission_path
    notes: list[str] = []
    changed = members_changed_since(store, name)
    if changed:
        notes.append(
            f"blend {name!r} was made before the predictions of {', '.join(changed)} "
            f"changed; `ens blend {store.name}` with --name {name} and its options makes "
            "it again"
        )
    if out is None:
        recorded = RecordedProgress()
        submit_blend(store, name, spec, by_hand=True, progress=recorded)
        notes += recorded.warnings
    else:
        write_output(path, submission.content)
        recorded = RecordedProgress()
        origin = partial(origin_of_blend, store, name, recorded)
        notes += note_out_version(store, str(out), submission, origin)
        notes += recorded.warnings
    return WrittenSubmission(
        store.name, name, path, submission.rows, submission.columns, tuple(notes)
    )


def _named_after(spec: SubmissionSpec, store: RunStore, target: str) -> SubmissionSpec:
    """The recipe's options, whose columns are those of the label, for a blend of `target`."""
    if target == store.samples.targets[0]:
        return spec
    columns = (spec.columns[0], target) if spec.format == "labels" else spec.columns[:1]
    return spec.model_copy(update={"columns": columns})


def default_blend(store: RunStore) -> str:
    """The blend last submitted, else the only one there is."""
    return blend_to_submit(store) or _only_blend(store)


def _only_blend(store: RunStore) -> str:
    if len(store.blends) == 1:
        return store.blends[0]
    if not store.blends:
        fix = f"`ens blend {store.name}` makes one"
        if not store.complete_members:
            fix = "no member is complete; the same `ens run` trains what is missing"
        raise MissingFileError(f"run {store.name!r} has no blend yet; {fix}")
    raise RequestError(
        f"run {store.name!r} has several blends; say which with --blend: {', '.join(store.blends)}"
    )


def changed_spec(
    spec: SubmissionSpec,
    *,
    format: str | None,
    columns: Sequence[str] | None,
    template: Path | None,
    per: str | None = None,
    reduce: str | None = None,
) -> SubmissionSpec:
    """The recipe's submission options with those of the command line over them."""
    changes: dict[str, Any] = {
        "format": format,
        "columns": columns,
        # it is read again from wherever the next command is given
        "template": template and str(template.absolute()),
        "per": per,
        "reduce": reduce,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    if template is not None and columns is None:
        header = [str(c) for c in read_template(template).columns]
        given["columns"] = header if len(header) == 2 else [header[0], "label"]
    try:
        return SubmissionSpec.model_validate({**spec.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
        option = f"--{first['loc'][0]} " if first["loc"] else ""
        raise RequestError(
            f"{option}{first['input'] if first['loc'] else ''}: {message}".lstrip(": ")
        ) from error


def submit_blend(
    store: RunStore,
    name: str,
    spec: SubmissionSpec,
    *,
    by_hand: bool = False,
    progress: Progress = QUIET,
) -> bool:
    """Make the named blend the run's submission, perhaps `by_hand`.

    False when the run has no rows to submit.
    """
    submission = submission_of_blend(store, name, spec)
    with claim(store.lock_path, wait=True):
        origin = origin_of_blend(store, name, progress)
        return write_submission(
            store, submission, origin, by_hand=by_hand, progress=progress
        )


def submission_of_blend(
    store: RunStore, name: str, spec: SubmissionSpec
) -> Submission | None:
    """The named blend as a file to submit; None when the run has no rows to submit."""
    blend = store.blend(name)
    test = np.asarray(blend.test)
    return make_submission(store, spec, test, blend.record.target, blend.record.classes)


def submission_spec(store: RunStore) -> SubmissionSpec:
    """How the run's recipe wants its submission, or the default for a run without a recipe."""
    return SubmissionSpec.model_validate(store.lock.section("submission"))
