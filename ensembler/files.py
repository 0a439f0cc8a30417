"""Files that appear whole or not at all, their checksums, and claims that die with their process."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ensembler.errors import MissingFileError, StoreError

_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
_PIECE = 1 << 20
_HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:16] or "host"
_ASIDE = re.compile(r"^\..+\.(?P<host>[A-Za-z0-9]+)-(?P<pid>\d+)-[0-9a-f]{8}\.aside$")


@contextmanager
def write_aside(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the block ends, and vanishes when it raises.

    The name written aside carries this machine and process, so that `sweep` can tell whether its writer is dead.
    With `durable`, bytes and name have reached the disk when the block is left.
    """
    aside = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.aside")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def preallocate(file: IO[bytes], size: int) -> None:
    """Make `file` `size` bytes long with its room on the disk reserved; what it holds already stays.

    A full disk is an error here (OSError with ENOSPC); of a mapped file it would be a crash when a page is written.
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
    os.fsync(descriptor)  # some file systems take bytes in and find out later that there is no room


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what dead processes of this machine left aside in `folder` and below it."""
    for path in folder.rglob(".*.aside"):
        match = _ASIDE.match(path.name)
        if match and match["host"] == _HOST and not _is_alive(int(match["pid"])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with write_aside(path) as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON to `path`, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; anything else is a StoreError that names the file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not readable JSON ({error}); it was altered or cut short") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} should hold a JSON object, found a {type(content).__name__}; it was altered")
    return content


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error


@contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs; yield False at once when another process holds it.

    The lock is the kernel's (flock): it is free the moment its holder ends, however that happens. The file is
    removed when the block is left, so that nothing remains of a run that is over.
    """
    descriptor = _lock(path, wait)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        try:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _lock(path: Path, wait: bool) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # The holder before us may have removed the file between our open and our lock.
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
