"""Files that appear whole or not at all, their checksums, and locks.

A lock is released when its process dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from ensembler.errors import DiskFullError, MissingFileError, RequestError, StoreError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # numbers of an OSError
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_NO_FLOCK = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.ENOLCK)
_PIECE = 1 << 20
_ASIDE = re.compile(r"^\..+\.[0-9a-f]{16}\.aside$")
# their writers hold no lock
_UNLOCKED_ASIDE = re.compile(r"^\..+\.[A-Za-z0-9]+-\d+-[0-9a-f]{8}\.aside$")
_LOCK = re.compile(r"^(\..*lock|pixels-.+\.lock)$")
_ATTEMPTS = 100
_TRY_EVERY = (
    0.2  # seconds between two tries of a lock, where something else is asked between them
)
_ABANDONED = 24 * 3600  # seconds without a change


@contextmanager
def write_aside(
    path: Path,
    *,
    durable: bool = True,
    size: int | None = None,
    exclusive: bool = False,
) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the block ends, and vanishes when it raises.

    When `exclusive`, a file that is there stays, and FileExistsError is raised.

    The file written aside is locked (flock) until then, so that `sweep` can tell whether its writer
    lives, in whatever container or on whatever host that is. With `durable`, bytes and name have
    reached the disk when the block is left. `size` is what the file will need, if known, to be told
    when the disk is full.
    """
    with named_when_full(path, size):
        aside, file = _open_aside(path)
        try:
            with file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                if exclusive:
                    _link(aside, path)
                else:
                    aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def _link(aside: Path, path: Path) -> None:
    """Give `aside` the name `path`; FileExistsError where a file has it.

    Where the file system knows no hard links, the content is copied into a new file of that name,
    which is there before it is whole.
    """
    try:
        os.link(aside, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with aside.open("rb") as content, path.open("xb") as file:
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
    aside.unlink()


def _open_aside(path: Path) -> tuple[Path, IO[bytes]]:
    while True:
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.aside")
        file = aside.open("xb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            return aside, file  # without locks `sweep` goes by the age of the file
        if lies_at(file.fileno(), aside):
            return aside, file
        file.close()  # a sweep was between our two steps


def lies_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one called `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def named_when_full(path: Path, size: int | None = None) -> Iterator[None]:
    """Turn the error of a full disk into a DiskFullError.

    It names `path`, what it needs and what is free.
    """
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise disk_full(Path(error.filename or path), error, size) from error


def disk_full(path: Path, error: OSError, size: int | None = None) -> DiskFullError:
    """What to say when `path`, of `size` bytes, has no room; `path` need not exist."""
    folder = next(p for p in path.absolute().parents if p.is_dir())
    free = shutil.disk_usage(folder).free
    reasons = {
        errno.EDQUOT: "your quota there is used up",
        errno.EFBIG: "files there may not grow that large (`ulimit -f` shows your limit)",
    }
    reason = reasons.get(
        error.errno or 0, f"the disk of {folder} has {free / 1e6:,.1f} MB free"
    )
    needs = "" if size is None else f"it needs {size / 1e6:,.1f} MB and "
    return DiskFullError(
        f"no room left to write {path}: {needs}{reason}; what is finished is safe: make "
        "room and give the same command again, or move to a larger disk (--artifacts DIR "
        "for runs, ENS_CACHE for prepared pixels)"
    )


def preallocate(file: IO[bytes], size: int) -> None:
    """Make `file` `size` bytes long with its room on the disk reserved.

    What it holds already stays. A full disk is an error here (OSError with ENOSPC); of a mapped
    file it would be a crash when a page is written.
    """
    file.flush()
    descriptor = file.fileno()
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise
    _append_zeros(descriptor, size)


def _append_zeros(descriptor: int, size: int) -> None:
    """Reserve room where the system has no call for it, as macOS has none."""
    end = os.fstat(descriptor).st_size
    while end < size:
        end += os.pwrite(descriptor, bytes(min(_PIECE, size - end)), end)
    # some file systems take bytes in and find out later that there is no room
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what dead processes left in `folder` and below it.

    These are temporary files, and locks nobody holds.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            if _ASIDE.match(name) or _UNLOCKED_ASIDE.match(name) or _LOCK.match(name):
                _remove_if_left(Path(place, name))


def _remove_if_left(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            if _is_left(file, path):
                path.unlink(missing_ok=True)
    except (FileNotFoundError, PermissionError):
        pass  # its writer was done just now; or it is another user's, whose next command removes it


def _is_left(file: IO[bytes], path: Path) -> bool:
    """Whether nobody holds a file any more; the answer is certain while `file` is open."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_locked_by_its_writer = not _UNLOCKED_ASIDE.match(path.name)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        is_locked_by_its_writer = False
    return is_locked_by_its_writer or time.time() - path.stat().st_mtime > _ABANDONED


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with write_aside(path, size=len(content)) as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON to `path`, whole or not at all."""
    write_bytes(
        path,
        (
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        ).encode(),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; anything else is a StoreError that names the file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} is not readable JSON ({error}); it was altered or cut short"
        ) from error
    if not isinstance(content, dict):
        raise StoreError(
            f"{path} should hold a JSON object, found a {type(content).__name__}; it was altered"
        )
    return content


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error


def sha256_by_stat(path: Path) -> str:
    """The same, computed once in a process for an unchanged file.

    A file is unchanged as long as its time, size and inode are the same.
    """
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    return _known_sha256(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@lru_cache(maxsize=256)
def _known_sha256(path: Path, *_stat: int) -> str:
    return sha256_of(path)


@contextmanager
def claim(
    path: Path, *, wait: bool = False, check: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs.

    Yield False at once when another process holds it, or `wait` for it: `check` is then called from
    time to time, and what it raises ends the wait. The lock is the kernel's (flock): it is free
    the moment its holder ends, however that happens. The file is removed when the block is left, so
    that nothing remains of a run that is over.
    """
    descriptor = _lock(path, wait) if check is None else _lock_asking(path, wait, check)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        try:
            path.unlink(missing_ok=True)
        except PermissionError:
            # another user's, in a folder where only owners may remove files; left where it is, it
            # locks nothing once it is closed
            pass
        finally:
            os.close(descriptor)


def _lock(path: Path, wait: bool) -> int | None:
    while True:
        descriptor = open_lock(path)
        try:
            fcntl.flock(
                descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
            )
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_FLOCK:
                raise
            path.unlink(missing_ok=True)
            raise RequestError(
                f"{path.parent} is on a file system without file locks (flock: "
                f"{error.strerror}), and without them two commands could spoil a run: "
                "choose a folder on another disk (--artifacts DIR for runs, ENS_CACHE for "
                "prepared pixels), or mount this one with locks (Lustre: -o flock)"
            ) from error
        # The holder before us may have removed the file between our open and our lock.
        if lies_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _lock_asking(path: Path, wait: bool, check: Callable[[], None]) -> int | None:
    """As `_lock`, with `check` called between two tries."""
    descriptor = _lock(path, wait=False)
    while descriptor is None and wait:
        check()
        time.sleep(_TRY_EVERY)
        descriptor = _lock(path, wait=False)
    return descriptor


def open_lock(path: Path) -> int:
    """Open a lock file, created where it is missing.

    Another process may be removing its folder at the same moment.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with named_when_full(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                return _open_or_make(path)
        except (FileNotFoundError, FileExistsError):
            if attempt == _ATTEMPTS - 1 or path.parent.is_file():
                raise
    raise AssertionError


def _open_or_make(path: Path) -> int:
    """Open a lock file so that whoever may write in its folder may use it, too."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        # Another user's, who left it when killed: a lock needs no right to write, except on NFS.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if path.parent.stat().st_mode & stat.S_IWGRP and found.st_uid == os.geteuid():
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | stat.S_IRGRP | stat.S_IWGRP)
    return descriptor


MOST_CHARACTERS = 100  # of a name
MOST_BYTES = (
    160  # of a name; a file's may have 255, and what is written aside has a longer one
)


def check_name(kind: str, name: str) -> str:
    """Return `name` when it can be a folder's name, else raise RequestError."""
    is_good = bool(name) and not name.startswith(".") and len(name) <= MOST_CHARACTERS
    if not is_good or not all(c.isalnum() or c in "-_.+@" for c in name):
        raise RequestError(
            f"{name!r} cannot be the name of a {kind}: use letters, digits and - _ . + @, at most "
            f"{MOST_CHARACTERS}, no dot in front"
        )
    size = len(name.encode())
    if size > MOST_BYTES:
        raise RequestError(
            f"{name!r} cannot be the name of a {kind}: it has {size} bytes, at most {MOST_BYTES} "
            "leave room for the names of its files; use a shorter one"
        )
    return name


def fingerprint(content: Any) -> str:
    """A short digest of plain values: equal ones give equal digests in any process."""
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, default=str).encode()
    ).hexdigest()[:16]
