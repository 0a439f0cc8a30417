"""Publishing or replacing a complete member or blend so that a crash at any instant is safe.

The new files are prepared in the folder `.next` inside the entry, its record (`member.json`,
`blend.json`) last: from then on the replacement is decided. Under the run's lock the old record is
removed, the files move up and the record moves last. Whoever is killed in between is finished by
`finish_replacements` at the next start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ensembler.errors import StoreError
from ensembler.files import claim, sweep, sync_folder

NEXT = ".next"
RECORDS = ("member.json", "blend.json")


@contextmanager
def replacing(entry: Path, run_lock: Path) -> Iterator[Path]:
    """Yield the empty folder to prepare the entry's new files in.

    They take their place when the block ends. The block holds the run's lock: prepare what is
    expensive before. The record must be written last.
    """
    with claim(run_lock, wait=True):
        finish_replacement(entry)
        with prepared_replacement(entry) as prepared:
            yield prepared


@contextmanager
def prepared_replacement(entry: Path) -> Iterator[Path]:
    """As `replacing`, for a caller that holds the run's lock.

    It must have finished any earlier replacement of the entry.
    """
    prepared = entry / NEXT
    prepared.mkdir(parents=True)
    try:
        yield prepared
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        raise
    if not _record_in(prepared):
        raise StoreError(f"{prepared} was prepared without a record")
    finish_replacement(entry)


def clean_up(run: Path, run_lock: Path) -> None:
    """Remove what killed processes left in `run`, and finish the replacements they had decided."""
    sweep(run)
    finish_replacements(run, run_lock)


def finish_replacements(run: Path, run_lock: Path) -> None:
    """Finish the replacements in `run` that a killed process had decided, and drop the others."""
    pending = [
        path.parent
        for kind in ("members", "blends")
        for path in run.glob(f"{kind}/*/{NEXT}")
    ]
    if not pending:
        return
    with claim(run_lock, wait=True):
        for entry in pending:
            finish_replacement(entry)


def finish_replacement(entry: Path) -> None:
    """Finish or drop what was begun of one entry; for whoever holds the run's lock."""
    prepared = entry / NEXT
    if not prepared.is_dir():
        return
    record = _record_in(prepared)
    if record is None:
        shutil.rmtree(prepared)
        return
    (entry / record).unlink(missing_ok=True)
    sync_folder(entry)
    for path in sorted(prepared.iterdir()):
        if path.name != record:
            path.replace(entry / path.name)
    sync_folder(entry)
    (prepared / record).replace(entry / record)
    sync_folder(entry)
    prepared.rmdir()


def _record_in(folder: Path) -> str | None:
    return next((name for name in RECORDS if (folder / name).is_file()), None)
