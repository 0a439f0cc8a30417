"""What a fitted blend has learned, as arrays and plain values.

This is enough to predict again without a fit. As bytes it is a safetensors file: the arrays by
name, and the plain values as JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import NotKeptError

_FORMAT = "1"
_KEY = "ensembler"
_HEADER_SIZE = 8  # bytes that say how long the JSON header of a safetensors file is
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class State:
    """Arrays by name, and plain values: what JSON can hold."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, learned: Mapping[str, Any]) -> Self:
        """The state of what was learned by name.

        NotKeptError for what is no array and no plain value.
        """
        arrays = {
            name: value for name, value in learned.items() if isinstance(value, np.ndarray)
        }
        others = {name: value for name, value in learned.items() if name not in arrays}
        return cls(arrays, {name: plain(name, value) for name, value in others.items()})

    @property
    def everything(self) -> dict[str, Any]:
        """Arrays and values together, by name."""
        return {**self.arrays, **self.values}

    def with_part(self, name: str, part: State) -> State:
        """The state with that of a part, whose arrays are called `<name>.<array>`."""
        inside = {f"{name}.{array}": value for array, value in part.arrays.items()}
        return State({**self.arrays, **inside}, {**self.values, name: dict(part.values)})

    def part(self, name: str) -> State:
        """The state of the part that was put in as `name`."""
        prefix = f"{name}."
        inside = {
            array.removeprefix(prefix): value
            for array, value in self.arrays.items()
            if array.startswith(prefix)
        }
        return State(inside, self.values[name])

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        from safetensors.numpy import save

        arrays = {
            name: np.require(array, requirements="C") for name, array in self.arrays.items()
        }
        # One entry of metadata: safetensors writes several in another order each time.
        header = {"format": _FORMAT, "state": dict(self.values)}
        return save(arrays, metadata={_KEY: json.dumps(header)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The state that `to_bytes` wrote; ValueError for anything else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(content)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        header = _header(content)
        if header.get("format") != _FORMAT:
            raise ValueError(
                f"its format is {header.get('format')!r}, expected {_FORMAT!r}"
            )
        values = header.get("state")
        if not isinstance(values, dict):
            raise ValueError("its values are not a JSON object")
        return cls(arrays, values)


def _header(content: bytes) -> dict[str, Any]:
    """What `to_bytes` wrote beside the arrays, or an earlier version, as two entries."""
    end = _HEADER_SIZE + int.from_bytes(content[:_HEADER_SIZE], "little")
    metadata = json.loads(content[_HEADER_SIZE:end]).get("__metadata__", {})
    if _KEY in metadata:
        header = json.loads(metadata[_KEY])
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
        return header
    return {**metadata, "state": json.loads(metadata.get("state", "null"))}


def plain(name: str, value: Any) -> Any:
    """The value as JSON can hold it; NotKeptError when it cannot."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(name, item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(name, item) for key, item in value.items()}
    raise NotKeptError(f"{name} is a {type(value).__name__}, and no array or plain value")
