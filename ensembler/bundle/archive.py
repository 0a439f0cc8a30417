"""The file of a bundle: a zip whose entries are stored as they are, each with its checksum.

Whatever is wrong with a file, by accident or on purpose, is one BundleError. Nothing is ever
unpacked to the disk, and no name in the file is used as a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from ensembler.bundle.records import FORMAT, MANIFEST, BundleRecord
from ensembler.errors import BundleError, MissingBundleError
from ensembler.files import write_aside
from ensembler.predictions.records import plain

SUFFIX = ".ens"
# The record of thousands of members and classes stays far below this.
_MOST_MANIFEST = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9][^/\\\x00-\x1f]*(/[^/\\\x00-\x1f]+)*")
_PIECE = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry, so that equal content is an equal file
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Archive:
    """An opened bundle: its record, and the content of its entries by name."""

    path: Path
    record: BundleRecord
    _entries: Mapping[str, zipfile.ZipInfo]
    _file: zipfile.ZipFile
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, name: str) -> bytes:
        """The content of an entry; BundleError when it is not what was packed."""
        if name not in self.record.sha256:
            raise _broken(self.path, f"it has no entry {name}")
        content = self._content(self._entries[name])
        if hashlib.sha256(content).hexdigest() != self.record.sha256[name]:
            raise _broken(self.path, f"{name} is not what was packed (its sha256 differs)")
        return content

    def _content(self, entry: zipfile.ZipInfo) -> bytes:
        with self._lock, _faults_named(self.path), self._file.open(entry) as opened:
            return opened.read()


def open_archive(path: Path) -> Archive:
    """Open a bundle and read its record; the other entries are checked when they are read.

    Raises MissingBundleError when there is no such file, and BundleError when it is no bundle, was
    cut short or altered, or is of another version.
    """
    if path.is_dir():
        raise BundleError(
            f"{path} is a folder, expected a bundle (`ens pack RUN` makes one)"
        )
    if not path.exists():
        raise MissingBundleError(f"there is no bundle {path}; `ens pack RUN` makes one")
    if not path.is_file():
        raise BundleError(f"{path} is not a plain file, expected a bundle")
    size = path.stat().st_size
    with _faults_named(path):
        file = zipfile.ZipFile(path)
    entries = _checked_entries(path, file.infolist(), size)
    record = _read_record(path, file, entries)
    _check_names(path, entries, record)
    return Archive(path, record, entries, file)


def _broken(path: Path, fault: str) -> BundleError:
    return BundleError(f"{path}: {fault}; the file was cut short or altered: copy it again")


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turn whatever reading a zip raises into a BundleError."""
    try:
        yield
    except BundleError:
        raise
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise _broken(path, f"it is no whole bundle ({error})") from error
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise _broken(path, f"it cannot be read ({error})") from error


def _checked_entries(
    path: Path, infos: list[zipfile.ZipInfo], size: int
) -> dict[str, zipfile.ZipInfo]:
    """The entries by name: stored as they are, none twice, none larger than the file says."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename in entries:
            raise _broken(path, f"entry {info.filename!r} comes twice")
        if not _NAME.fullmatch(info.filename) or ".." in info.filename.split("/"):
            raise _broken(path, f"entry {info.filename!r} is no name of a bundle")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _broken(path, f"entry {info.filename!r} is compressed")
        if info.flag_bits & _ENCRYPTED:
            raise _broken(path, f"entry {info.filename!r} is encrypted")
        entries[info.filename] = info
    if sum(info.file_size for info in infos) > size:
        raise _broken(path, f"its entries claim more than its {size} bytes")
    return entries


def _read_record(
    path: Path, file: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]
) -> BundleRecord:
    if MANIFEST not in entries:
        raise BundleError(f"{path} is a zip, but no bundle: it has no {MANIFEST}")
    if entries[MANIFEST].file_size > _MOST_MANIFEST:
        raise _broken(path, f"its {MANIFEST} is too large")
    with _faults_named(path), file.open(MANIFEST) as opened:
        content = opened.read()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its {MANIFEST} is not readable JSON") from error
    if not isinstance(found, dict):
        raise _broken(path, f"its {MANIFEST} is no JSON object")
    if found.get("format") != FORMAT:
        raise BundleError(
            f"{path} is a bundle of format {found.get('format')!r}, this version of ensembler "
            f"reads format {FORMAT}; use the version that packed it, or pack it again"
        )
    if found.pop("digest", None) != digest_of_record(found):
        raise _broken(path, f"its {MANIFEST} was edited (its digest differs)")
    try:
        return BundleRecord.model_validate(found)
    except (ValidationError, RecursionError, TypeError) as error:
        raise _broken(path, f"its {MANIFEST} {_first(error)}") from error


def _first(error: Exception) -> str:
    """The first thing that is wrong with a record, in words."""
    if not isinstance(error, ValidationError):
        return f"cannot be used ({error})"
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"does not fit ({place}: {first['msg'].lower()})"


def digest_of_record(content: Mapping[str, Any]) -> str:
    """The sha256 of a record's values, whatever order and spaces they are written with."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_names(
    path: Path, entries: Mapping[str, zipfile.ZipInfo], record: BundleRecord
) -> None:
    """Raise BundleError unless the entries are those that the record lists."""
    named = {*record.sha256, MANIFEST}
    for name in sorted(named - entries.keys()):
        raise _broken(path, f"it has no entry {name}")
    for name in sorted(entries.keys() - named):
        raise _broken(path, f"it has an entry {name!r} that its {MANIFEST} does not list")


def write_archive(
    path: Path,
    record: BundleRecord,
    contents: Mapping[str, Callable[[], bytes]],
    *,
    check: Callable[[Path], None] | None = None,
) -> BundleRecord:
    """Write a bundle, whole or not at all; the record as it was written.

    `contents` give the entries one by one, so that no more than one is in memory. `check` looks at
    the file before it takes its place.
    """
    sums: dict[str, str] = {}
    with write_aside(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, content_of in contents.items():
                content = content_of()
                sums[name] = hashlib.sha256(content).hexdigest()
                _write_entry(archive, name, content)
            written = record.model_copy(update={"sha256": sums})
            values = plain(written.model_dump(mode="json", by_alias=True))
            values["digest"] = digest_of_record(values)
            text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
            _write_entry(archive, MANIFEST, text.encode())
        file.flush()
        if check is not None:
            check(Path(file.name))
    return written


def _write_entry(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=len(content) >= zipfile.ZIP64_LIMIT) as entry:
        _write_all(entry, content)


def _write_all(entry: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    for start in range(0, len(view), _PIECE):
        entry.write(view[start : start + _PIECE])
