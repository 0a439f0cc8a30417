"""The files of `history/`: what makes a version of the submission again, each kept once.

A file's name begins with the sha256 of its content, so that versions share what they have in
common, and an altered one is noticed.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import write_bytes
from ensembler.predictions.store import RunStore

FOLDER = "history"
_DIGITS = 16  # of a sha256 in a name
_PACKED = ".gz"


def keep_files(store: RunStore, files: Mapping[str, bytes]) -> dict[str, str]:
    """Keep each file, by its path below the run; return the names they are kept under."""
    return {path: _keep(store, path, content) for path, content in files.items()}


def _keep(store: RunStore, path: str, content: bytes) -> str:
    folder = store.folder / FOLDER
    name = f"{_digest(content)}-{path.rpartition('/')[2]}"
    if path.endswith(".csv"):
        name += _PACKED
    if not (folder / name).is_file():
        folder.mkdir(exist_ok=True)
        # without a time in it, so that equal contents are equal files
        packed = gzip.compress(content, mtime=0) if name.endswith(_PACKED) else content
        write_bytes(folder / name, packed)
    return name


def read_kept(store: RunStore, name: str) -> bytes:
    """A kept file's content; StoreError names one that is missing or was altered."""
    path = store.folder / FOLDER / name
    try:
        content = path.read_bytes()
        if name.endswith(_PACKED):
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except (OSError, EOFError, zlib.error) as error:
        raise StoreError(f"{path} cannot be read ({error}); it was altered") from error
    if not name.startswith(_digest(content)):
        raise StoreError(f"{path} is not what was kept; it was altered")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
