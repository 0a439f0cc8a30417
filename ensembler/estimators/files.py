"""A fitted member's file of a fold: its heads, and in the header what they are.

It is a safetensors file as those of networks are, and is read without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensembler.blending.state import State
from ensembler.errors import MissingFileError, NotKeptError, RequestError, StoreError
from ensembler.estimators.target_head import TargetHead
from ensembler.files import write_bytes

FORMAT = 1
DIGEST = "content_sha256"  # as in files of networks
_HEADS, _WHY_NOT = "heads", "not_kept"
_HEADER_SIZE = 8  # bytes that say how long the JSON header of a safetensors file is


@dataclass(frozen=True)
class HeadFile:
    """The heads of a fold by target, and the description that was kept with them."""

    heads: Mapping[str, TargetHead]
    description: Mapping[str, Any]


def write_heads(
    path: Path, heads: Mapping[str, TargetHead], description: Mapping[str, Any]
) -> str | None:
    """Write fitted heads and their description, whole or not at all.

    Return why the heads could not be kept, in which case the file has the description alone.
    """
    from safetensors.numpy import save

    state, why_not = State(), None
    try:
        for target, head in heads.items():
            state = state.with_part(target, head.state)
    except NotKeptError as error:
        state, why_not = State(), str(error)
    header = {
        "format": FORMAT,
        **description,
        _HEADS: dict(state.values),
        "targets": list(heads),
        **({} if why_not is None else {_WHY_NOT: why_not}),
    }
    arrays = {name: np.require(a, requirements="C") for name, a in state.arrays.items()}
    header[DIGEST] = _digest(header, arrays)
    write_bytes(path, save(arrays, metadata={"ensembler": json.dumps(header)}))
    return why_not


def is_of_heads(header: Mapping[str, Any]) -> bool:
    """Whether a file's description is that of fitted heads and not of a network."""
    return _HEADS in header


def read_heads(path: Path, code: Collection[str] = ()) -> HeadFile:
    """Read what `write_heads` wrote; StoreError for any other file, or where no head is kept.

    `code` has every `module:name` that may be loaded, which the user's recipe names: a file that
    names another one is refused.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    return heads_from_bytes(content, str(path), code)


def heads_from_bytes(content: bytes, name: str, code: Collection[str] = ()) -> HeadFile:
    """The same for the content of a file, which messages call `name`."""
    header, arrays = _checked(content, name)
    if _WHY_NOT in header:
        raise StoreError(
            f"{name} keeps no fitted head ({header[_WHY_NOT]}): it cannot predict other images"
        )
    for place in _places_in(header[_HEADS]):
        if place not in code:
            raise StoreError(
                f"{name} names code to run ({place}) that the recipe does not name; nothing of it "
                "was run: restore the file from a copy, or remove it to have the fold fitted again"
            )
    try:
        state = State(arrays, header[_HEADS])
        heads = {
            target: TargetHead.from_state(state.part(target))
            for target in header["targets"]
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise StoreError(
            f"{name} does not hold the heads it describes ({error!r})"
        ) from error
    return HeadFile(heads, header)


def _places_in(values: Any) -> Iterator[str]:
    """Every `module:name` that plain values of heads name."""
    if isinstance(values, Mapping):
        if "place" in values:
            yield str(values["place"])
        for value in values.values():
            yield from _places_in(value)


def check_heads(path: Path) -> None:
    """Raise StoreError when a file is not what was written."""
    _checked(path.read_bytes(), str(path))


def _checked(content: bytes, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and arrays of a file, when they are what was written."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        size = int.from_bytes(content[:_HEADER_SIZE], "little")
        said = json.loads(content[_HEADER_SIZE : _HEADER_SIZE + size])
        header = json.loads(said["__metadata__"]["ensembler"])
        arrays = load(content)
        saved = header.pop(DIGEST)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{name} is not a whole file of fitted heads ({error})") from error
    if header.get("format") != FORMAT or not is_of_heads(header):
        raise StoreError(f"{name} is not a file of fitted heads of this version")
    if _digest(header, arrays) != saved:
        raise StoreError(f"{name} was altered after it was saved")
    return header, arrays


def _digest(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
