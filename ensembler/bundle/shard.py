"""Some of the images that are to be predicted, whose logits are on disk until they are blended."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ensembler.bundle.apply import Answer, answers_of
from ensembler.bundle.images import AskedImages, AskedPixels
from ensembler.bundle.networks import Networks
from ensembler.data.spec import InputSpec
from ensembler.errors import ImageError
from ensembler.files import named_when_full
from ensembler.progress import QUIET, Progress

BROKEN = "broken.jsonl"  # images that could not be read, a line each


class _OfAll(Progress):
    """Shows the steps of a shard as steps of all images."""

    def __init__(self, progress: Progress, start: int, total: int) -> None:
        self._progress, self._start, self._total = progress, start, total

    def step(self, what: str, done: int, total: int) -> None:  # noqa: ARG002 that of the shard
        """Show it."""
        self._progress.step(what, self._start + done, self._total)


@dataclass(frozen=True)
class Shard:
    """Some of the images, whose logits are on disk until they are blended."""

    networks: Networks
    asked: AskedImages
    folder: Path
    start: int
    stop: int
    strict: bool = False

    def predict(
        self, note: Callable[[int, str], None], progress: Progress = QUIET
    ) -> dict[str, Answer]:
        """The answers for its images; `note` is told what is wrong with which image."""
        noted, lock = self.broken_before, threading.Lock()

        def broken(i: int, error: ImageError) -> None:
            if self.strict:
                raise error
            with lock:
                if i in noted:
                    return
                noted[i] = error.fault
                note_images(self._log, {i: error.fault})
            note(i, error.fault)

        def pixels_of(spec: InputSpec) -> AskedPixels:
            return AskedPixels(self.asked.images, spec, broken)

        self._inner.mkdir(parents=True, exist_ok=True)
        rows = np.arange(self.start, self.stop, dtype=np.int64)
        shown = _OfAll(progress, self.start, len(self.asked))
        logits = self.networks.logits(pixels_of, rows, self._inner, shown)
        return answers_of(self.networks.ensemble, logits)

    @cached_property
    def broken_before(self) -> dict[int, str]:
        """The broken images that a process found which was killed, or this one."""
        return dict(noted_images(self._log))

    @property
    def _inner(self) -> Path:
        return self.folder / f"{self.start}"

    @property
    def _log(self) -> Path:
        """Where broken images are noted before what is predicted in their place is kept."""
        return self._inner / BROKEN

    def forget(self) -> None:
        """Remove the logits."""
        shutil.rmtree(self._inner, ignore_errors=True)


def note_images(path: Path, broken: Mapping[int, str]) -> None:
    """Note what is wrong with which image."""
    with named_when_full(path), path.open("a") as log:
        log.writelines(json.dumps([i, fault]) + "\n" for i, fault in broken.items())


def noted_images(path: Path) -> Iterator[tuple[int, str]]:
    """The images that were noted as broken; a line that was cut short is left out."""
    if not path.is_file():
        return
    for text in path.read_text(errors="replace").splitlines():
        try:
            i, fault = json.loads(text)
        except ValueError:
            continue
        yield int(i), str(fault)
