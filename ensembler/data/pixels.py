"""Pixels prepared once: every image decoded, scaled and kept as uint8 in one memory-mapped file.

All members, folds, epochs and processes read the same file; it is keyed by the images' content and the input they are
prepared for, so it is never stale, and deleting it costs time only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.images import Images, fit_to_input
from ensembler.data.prepare import build_steps, prepare
from ensembler.data.samples import SampleSet, drop_samples
from ensembler.data.spec import InputSpec
from ensembler.errors import DataError
from ensembler.files import claim, sweep, write_aside

_VERSION = 1
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PreparedPixels:
    """Prepared images `[images, size, size, channels]`, and by position what is wrong with those that are broken."""

    array: NDArray[np.uint8]
    broken: dict[int, str]


def prepare_pixels(
    images: Images, spec: InputSpec, cache: Path, on_progress: OnProgress | None = None
) -> NDArray[np.uint8]:
    """Return all images prepared, uint8 `[images, size, size, channels]`, memory-mapped from the cache.

    Raises DataError naming every image that is broken.
    """
    prepared = _prepare(images, spec, cache, on_progress)
    if prepared.broken:
        raise DataError(_describe(prepared.broken))
    return prepared.array


def find_broken(images: Images, spec: InputSpec, cache: Path, on_progress: OnProgress | None = None) -> dict[int, str]:
    """What is wrong with the images that cannot be read, by position; decoding fills the cache."""
    return _prepare(images, spec, cache, on_progress).broken


def drop_broken(samples: SampleSet, broken: dict[int, str], policy: str) -> SampleSet:
    """The samples without broken images when `policy` is "skip"; DataError naming them when it is "stop"."""
    if not broken:
        return samples
    if policy == "stop":
        raise DataError(_describe(broken))
    kept = drop_samples(samples, samples.table["id"].iloc[sorted(broken)].tolist())
    for target in samples.targets:
        before, after = (set(s.table[target][s.table["split"] == "train"].dropna()) for s in (samples, kept))
        if before - after:
            raise DataError(
                f"no image of class {sorted(before - after)[0]!r} of {target} can be read; mend them, or leave the "
                "class out of the table"
            )
    return kept


def _describe(broken: dict[int, str]) -> str:
    shown = [broken[i] for i in sorted(broken)[:20]]
    more = [f"... and {len(broken) - 20} more"] if len(broken) > 20 else []
    head = f"{len(broken)} images cannot be read; mend them, or leave them out with data.on_broken: skip"
    return "\n".join([head, *shown, *more])


def _prepare(images: Images, spec: InputSpec, cache: Path, on_progress: OnProgress | None) -> PreparedPixels:
    key = _key(images, spec)
    shape = (len(images), spec.size, spec.size, spec.channels)
    path = cache / f"pixels-{spec.size}x{spec.channels}-{key}.npy"
    cached = _open(path, shape)
    if cached is None:
        cache.mkdir(parents=True, exist_ok=True)
        # Two processes that start together decode once: the second waits and finds the file.
        with claim(path.with_suffix(".lock"), wait=True):
            sweep(cache)
            cached = _open(path, shape)
            if cached is None:
                _build(images, spec, path, shape, on_progress)
                cached = _open(path, shape)
    assert cached is not None
    return cached


def _key(images: Images, spec: InputSpec) -> str:
    # Steps that are not there leave the key as it was before there were any.
    options = spec.model_dump(mode="json", exclude=set() if spec.prepare else {"prepare"})
    digest = hashlib.sha256(json.dumps([_VERSION, options], sort_keys=True).encode())
    for i in range(len(images)):
        try:
            digest.update(images.fingerprint(i).encode() + b"\n")
        except OSError as error:
            raise DataError(f"{images.name(i)}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()[:24]


def _open(path: Path, shape: tuple[int, ...]) -> PreparedPixels | None:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        broken = json.loads(path.with_suffix(".json").read_text())["broken"]
    except (FileNotFoundError, ValueError, KeyError, EOFError):
        return None  # not there, or not whole: it is built again
    if array.shape != shape or array.dtype != np.uint8:
        return None
    return PreparedPixels(array, {int(i): text for i, text in broken.items()})


def _build(images: Images, spec: InputSpec, path: Path, shape: tuple[int, ...], on_progress: OnProgress | None) -> None:
    broken: dict[int, str] = {}
    with write_aside(path) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        # Reserve the room now: a full disk is an error here, not a crash when a page is written.
        os.posix_fallocate(file.fileno(), 0, offset + int(np.prod(shape)))
        array = np.memmap(file.name, dtype=np.uint8, mode="r+", offset=offset, shape=shape)
        _fill(images, spec, array, broken, on_progress)
        array.flush()
        del array
    with write_aside(path.with_suffix(".json")) as file:
        file.write(json.dumps({"broken": broken}).encode())


def _fill(
    images: Images, spec: InputSpec, array: NDArray[np.uint8], broken: dict[int, str], on_progress: OnProgress | None
) -> None:
    import cv2

    cv2.setNumThreads(0)  # one image a thread: OpenCV's own threads would only get in the way

    steps = build_steps(spec.prepare)

    def fill(i: int) -> None:
        try:
            array[i] = fit_to_input(prepare(images.read(i), steps), spec.size, spec.channels, spec.resize)
        except DataError as error:
            broken[i] = str(error)

    n = len(images)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done, _ in enumerate(pool.map(fill, range(n), chunksize=1), start=1):
            if on_progress is not None and (done % 50 == 0 or done == n):
                on_progress(done, n)
