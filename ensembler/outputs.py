"""Files that the user names: whole or not at all, and whatever is in their place already."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ensembler.errors import RequestError
from ensembler.files import named_when_full, write_aside


def check_output(path: Path) -> None:
    """Raise RequestError when `path` cannot become a file.

    Commands ask before the work, not after it.
    """
    if path.is_dir():
        raise RequestError(
            f"{path} is a folder, expected the name of a file, such as {path / 'NAME.csv'}"
        )
    try:
        found = path.stat()
    except FileNotFoundError:
        found = None
    except (
        OSError
    ) as error:  # a chain of links that has no end, a file where a folder should be, ...
        raise RequestError(f"{path} cannot be written: {error.strerror}") from error
    if found is not None and not stat.S_ISREG(found.st_mode):
        return
    folder = next(p for p in Path(os.path.realpath(path)).parents if p.exists())
    if not folder.is_dir():
        raise RequestError(f"{path} cannot be written: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise RequestError(f"{path} cannot be written: no permission to write in {folder}")


@contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that the user named, to appear whole or not at all; missing folders are made.

    Of a link the file that it leads to is replaced. What is no plain file (`/dev/null`, a named
    pipe, a file that standard output goes to) is written into.
    """
    check_output(path)
    stream = _standard_stream(path)
    if stream is not None:
        stream.flush()
        with named_when_full(path), os.fdopen(os.dup(stream.fileno()), "wb") as file:
            yield file
    elif path.exists() and not path.is_file():
        with named_when_full(path), path.open("wb") as file:
            yield file
    else:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(target) as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file


def write_output(path: Path, content: bytes) -> None:
    """Write `content` to a file that the user named."""
    with open_output(path) as file:
        file.write(content)


def is_standard_output(path: Path) -> bool:
    """Whether what is written to `path` goes where the command's own words go."""
    return _standard_stream(path) is sys.stdout


def _standard_stream(path: Path) -> IO[str] | None:
    """Standard output or error, when `path` is another name of it, such as /dev/stdout."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # nothing there, or the stream is closed or none of the system's
            continue
    return None
