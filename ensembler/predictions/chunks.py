"""Logits of one checkpoint on disk while they are predicted: finished chunks survive a crash.

The array has a log beside it with a line for each chunk: its sha256 and the seconds it took. A
chunk counts only when the array still holds what its line says, so a torn one, of a killed process
or a failing disk, is predicted again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.files import named_when_full, write_bytes
from ensembler.predictions.arrays import release, reserve_array

CHUNK = 512  # images


@dataclass(frozen=True)
class ChunkedLogits:
    """Logits float32 `[views, rows, classes]`, mapped from `path`.

    Rows come in `parts` of so many rows; no chunk lies in two parts. `seconds` has the whole chunks
    by their first row.
    """

    path: Path
    array: NDArray[np.float32]
    parts: tuple[int, ...]
    seconds: dict[int, float] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: Path, views: int, parts: tuple[int, ...], classes: int
    ) -> ChunkedLogits:
        """Open the logits in `path` with the chunks that are whole, or begin them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        array = reserve_array(path, (views, sum(parts), classes), np.float32)
        found = cls(path, array, parts)
        for line in _lines(found.log_path):
            start = line.get("row")
            if start in found.starts and line.get("sha256") == found.digest(start):
                found.seconds[start] = float(line.get("seconds", 0.0))
            release(array)
        # Only what was found whole stays in the log: a line cut short would spoil the one after it.
        found._write_log()
        return found

    @property
    def log_path(self) -> Path:
        """Where the whole chunks are listed."""
        return self.path.with_suffix(".chunks")

    @cached_property
    def starts(self) -> dict[int, int]:
        """The row after the last of each chunk, by its first row."""
        return dict(_chunks(self.parts))

    @property
    def is_whole(self) -> bool:
        """Whether every chunk is there."""
        return len(self.seconds) == len(self.starts)

    def keep(self, start: int, seconds: float) -> None:
        """Note that the chunk from row `start` on is whole, and give its memory back."""
        line = {"row": start, "sha256": self.digest(start), "seconds": round(seconds, 4)}
        with named_when_full(self.log_path), self.log_path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.seconds[start] = seconds
        release(self.array)

    def digest(self, start: int) -> str:
        """The sha256 of what the array holds of a chunk."""
        return hashlib.sha256(
            np.ascontiguousarray(self.array[:, start : self.starts[start]]).tobytes()
        ).hexdigest()

    def _write_log(self) -> None:
        lines = [
            {"row": s, "sha256": self.digest(s), "seconds": t}
            for s, t in sorted(self.seconds.items())
        ]
        write_bytes(
            self.log_path, "".join(json.dumps(line) + "\n" for line in lines).encode()
        )
        release(self.array)


def _chunks(parts: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    begin = 0
    for rows in parts:
        for start in range(begin, begin + rows, CHUNK):
            yield start, min(start + CHUNK, begin + rows)
        begin += rows


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut short: its chunk is predicted again
        if isinstance(line, dict):
            yield line
