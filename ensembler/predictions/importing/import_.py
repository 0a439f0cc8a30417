"""`ens import`: predictions of any other tool become members of a run.

They are checked once and matched by id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensembler.errors import RequestError
from ensembler.files import check_name, claim
from ensembler.machine.memory import most_in_memory
from ensembler.predictions.arrays import array_sha256, write_array
from ensembler.predictions.importing.arrays import MemberArrays, read_member
from ensembler.predictions.importing.options import ImportOptions, MemberFiles
from ensembler.predictions.importing.rows import RunRows, given_rows, make_run, rows_of_run
from ensembler.predictions.members import FORMAT, MEMBER_RECORD, Kind, MemberRecord
from ensembler.predictions.publish import clean_up, finish_replacement, prepared_replacement
from ensembler.predictions.records import read_record, write_record
from ensembler.predictions.store import RunStore
from ensembler.targets.label_sets import SetFormat

# Bytes of predictions held in memory, where so many may be; of more members the files are read a
# second time.
MOST_HELD = 1_000_000_000


@dataclass(frozen=True)
class Imported:
    """What was imported; `notes` say what was assumed or mended."""

    run: str
    members: tuple[str, ...]
    classes: tuple[str, ...]
    train_rows: int
    test_rows: int
    notes: tuple[str, ...]


def parse_member(text: str) -> MemberFiles:
    """The member in "name=oof.npy" or "name=oof.npy,test.npy"."""
    name, separator, paths = text.partition("=")
    parts = [part.strip() for part in paths.split(",")]
    if not separator or not name or not all(parts) or len(parts) > 2:
        raise RequestError(
            f"--member {text!r}: expected NAME=OOF or NAME=OOF,TEST, files of .npy, .npz, .csv or "
            ".parquet"
        )
    return MemberFiles(
        check_name("member", name),
        Path(parts[0]),
        Path(parts[1]) if len(parts) == 2 else None,
    )


def find_members(
    folder: Path, oof_pattern: str, test_pattern: str | None
) -> list[MemberFiles]:
    """Members of a folder by file name; `{name}` in the patterns stands for the member's name."""
    for pattern in (oof_pattern, test_pattern):
        if pattern is not None and pattern.count("{name}") != 1:
            raise RequestError(
                f"pattern {pattern!r} should hold {{name}} once, such as '{{name}}_oof.npy'"
            )
    if not folder.is_dir():
        raise RequestError(f"--folder {folder} is not a folder")
    expression = re.compile(re.escape(oof_pattern).replace(re.escape("{name}"), "(.+)"))
    found = []
    for path in sorted(folder.iterdir()):
        match = expression.fullmatch(path.name)
        if match is None:
            continue
        test = folder / test_pattern.replace("{name}", match[1]) if test_pattern else None
        found.append(
            MemberFiles(
                check_name("member", match[1]),
                path,
                test if test and test.is_file() else None,
            )
        )
    if not found:
        raise RequestError(f"{folder} has no file that fits {oof_pattern!r}")
    return found


def import_predictions(  # noqa: PLR0913 in notebooks: a keyword for each option of `ens import`
    folder: Path,
    members: Sequence[MemberFiles],
    *,
    labels: Path | None = None,
    test_ids: Path | None = None,
    test_labels: Path | None = None,
    kind: Kind = "probs",
    classes: Sequence[str] | None = None,
    by_position: bool = False,
    partial: bool = False,
    set_format: SetFormat | None = None,
) -> Imported:
    """Make a run in `folder` out of predictions, or add members to the run that is there.

    `labels` has the columns id, label and perhaps fold and group; `test_ids` has id, `test_labels`
    id and label (which makes the holdout). With `set_format` the label column of a new run holds
    sets of labels. All members are checked before anything is written. Raises RequestError for what
    does not fit.
    """
    if not members:
        raise RequestError(
            "name at least one member: --member NAME=oof.npy,test.npy, or --folder"
        )
    if len({m.name for m in members}) != len(members):
        raise RequestError("two members have the same name")
    store = RunStore(folder)
    if store.samples_path.is_file():
        set_format = store.set_format(store.samples.targets[0])
    if set_format is not None and kind == "labels":
        raise RequestError(
            "--kind labels takes one label a row; of several at once give the probabilities"
        )
    options = ImportOptions(kind, by_position, partial, set_format)
    given = (
        given_rows(members, labels, test_ids, test_labels, options)
        if labels is not None
        else None
    )
    rows = rows_of_run(store, given, classes, members, options)
    # What fits into memory is read once; of the rest nothing but that it can be read is known when
    # writing begins.
    arrays: dict[str, MemberArrays] = {}
    held, most = 0, min(MOST_HELD, most_in_memory())
    for member in members:
        read = read_member(member, rows, options)
        check_name_is_free(store, member.name, _record(member.name, read, rows, options))
        held += read.n_bytes
        if held <= most:
            arrays[member.name] = read
    if given is not None:
        make_run(store, rows)
    clean_up(folder, store.lock_path)
    for member in members:
        read = (
            arrays.pop(member.name)
            if member.name in arrays
            else read_member(member, rows, options)
        )
        _write(store, member.name, read, rows, options)
    names = tuple(member.name for member in members)
    counts = (len(rows.train.ids), len(rows.test.ids))
    return Imported(
        folder.name, names, rows.classes, *counts, tuple(dict.fromkeys(options.notes))
    )


def _record(
    name: str, arrays: MemberArrays, rows: RunRows, options: ImportOptions
) -> MemberRecord:
    """What `member.json` will say."""
    views = (
        ["identity"]
        if len(arrays.oof) == 1
        else [f"view{i}" for i in range(len(arrays.oof))]
    )
    sums = {"oof.npy": array_sha256(arrays.oof), "test.npy": array_sha256(arrays.test)}
    record = MemberRecord(
        format=FORMAT,
        name=name,
        target=rows.target,
        classes=rows.classes,
        views=tuple(views),
        folds=len(arrays.test),
        kind=options.kind,
        imported=True,
        partial=bool(np.isnan(arrays.oof).any()),
        scores={},
        sha256={**sums, "samples.csv": rows.samples_sha256},
    )
    if rows.set_format is None:
        return record
    return record.model_copy(update={"multi_label": (rows.target,)})


def check_name_is_free(store: RunStore, name: str, record: MemberRecord) -> bool:
    """Whether the run lacks the member.

    False when it has this very one, RequestError when it has another.
    """
    path = store.member_folder(name) / MEMBER_RECORD
    if not path.is_file():
        return True
    if read_record(path, MemberRecord).to_json() == record.to_json():
        return False
    raise RequestError(
        f"run {store.folder.name!r} has a member {name!r} already, which is another one; give the "
        "new one another name"
    )


def _write(
    store: RunStore, name: str, arrays: MemberArrays, rows: RunRows, options: ImportOptions
) -> None:
    """Write a member, unless the same one is there already.

    It may come from an interrupted import, or from one that runs at the same time.
    """
    record, folder = _record(name, arrays, rows, options), store.member_folder(name)
    with claim(store.lock_path, wait=True):
        finish_replacement(folder)
        if not check_name_is_free(store, name, record):
            options.notes.append(
                f"member {name!r} is there already, with the same predictions; it was left as it is"
            )
            return
        with prepared_replacement(folder) as prepared:
            write_array(prepared / "oof.npy", arrays.oof)
            write_array(prepared / "test.npy", arrays.test)
            write_record(prepared / MEMBER_RECORD, record)
