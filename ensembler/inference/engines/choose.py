"""Which engine computes: asked for by name or measured.

Always compared with float32 before it is trusted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError
from ensembler.inference.engines.eager import plain, plain_tf32
from ensembler.inference.engines.graph import MOST, CaptureError
from ensembler.inference.engines.registry import (
    DEFAULT,
    ENGINES,
    NEEDS,
    is_installed,
    named_engine,
)
from ensembler.inference.predictor import BATCH, ON_DEVICE, Predictor, as_images, in_batches
from ensembler.networks.devices import pick_device, predicting_precisions
from ensembler.networks.memory import is_out_of_memory
from ensembler.progress import QUIET, Progress
from ensembler.targets.kinds import SINGLE_LABEL, TargetKind

CHECKED = 32  # images on which an engine is compared with float32
# the largest difference of a probability: bfloat16 keeps 8 bits, and most networks stay below 0.005
TOLERANCE = 0.02
STRAY = 0.1  # that of an image on which a network cannot decide, where rounding shows most
# seconds of computing below which compiling is not tried: it alone takes most of a minute
COMPILE_FROM = 600.0


def ready(
    engine: str,
    load: Callable[[], nn.Module],
    pixels: NDArray[np.uint8],
    *,
    amp: str,
    device: str,
    name: str,
    progress: Progress = QUIET,
    kinds: Collection[TargetKind] = (SINGLE_LABEL,),
) -> Predictor:
    """The network that `load` gives by an engine, when it agrees with float32 on `pixels`.

    Otherwise by float32 eager, and why is noted on `progress`. It agrees when a probability is off
    by at most TOLERANCE for nine images of ten and by at most STRAY for any: that of a softmax over
    all logits, and that of each of the `kinds` of its targets.
    """
    sample = as_images(pixels, device)
    network = load()
    reference = plain(network, device)(sample)
    # an engine may change what it is given: the first one takes the network that was looked at
    loaded = chain([network], iter(load, None))
    why = ""
    on_device = pick_device(device)
    named = named_engine(engine, on_device.type)
    for precision in predicting_precisions(amp, on_device):
        try:
            predictor = _made(named, loaded, sample, precision, device, name, progress)
            gaps = _gaps(predictor(sample), reference, kinds)
        except RequestError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            first = "".join(str(error).strip().splitlines()[:1]) or type(error).__name__
            why = f"cannot compute it ({first}); plain float32 does"
            continue
        if agree(gaps):
            return predictor
        why = f"is off by {gaps.max():.3f} in a probability; plain float32 computes instead"
        if np.isfinite(gaps).all():  # another kind of mixed precision is no nearer
            break
    progress.note(f"{name}: engine {named} {why}")
    quick = plain_tf32(load(), device)
    return quick if agree(_gaps(quick(sample), reference, kinds)) else plain(load(), device)


def _made(
    engine: str,
    loaded: Iterator[nn.Module],
    sample: Tensor,
    precision: str,
    device: str,
    name: str,
    progress: Progress,
) -> Predictor:
    """The network by an engine; one that cannot be recorded as a graph is computed eagerly."""
    try:
        made: Predictor = ENGINES.load(engine)(next(loaded), sample, precision, device)
    except CaptureError as error:
        progress.note(f"{name}: {error}; its operations are launched one by one")
        made = ENGINES.load("eager")(next(loaded), sample, precision, device)
    return made


def agree(gaps: NDArray[np.float64]) -> bool:
    """Whether differences of probabilities `[images]` are those of rounding, hard images aside."""
    return bool(
        np.quantile(gaps, 0.9, method="higher") <= TOLERANCE and gaps.max() <= STRAY
    )


def at_once(engine: str, batch_size: int) -> int:
    """How many images an engine predicts at once, of a network trained by `batch_size`.

    No more than memory was enough for in training; traced fills up whatever it is given to a whole
    batch, and graph has looked at the memory of the card itself.
    """
    own = {"traced": BATCH, "graph": MOST}
    return own.get(engine, min(BATCH, batch_size))


def _gaps(
    logits: NDArray[np.float32],
    reference: NDArray[np.float32],
    kinds: Collection[TargetKind],
) -> NDArray[np.float64]:
    """The largest difference of a probability for each image.

    Infinite where a logit is not finite.
    """
    # A network whose float32 logits are not finite is for the caller to judge.
    known = np.isfinite(reference).all(axis=1)
    if not known.any():
        return np.zeros(1)
    gaps = np.zeros(int(known.sum()))
    with np.errstate(invalid="ignore"):
        for kind in {SINGLE_LABEL, *kinds}:
            apart = np.abs(kind.probs(logits[known]) - kind.probs(reference[known]))
            gaps = np.maximum(gaps, apart.max(axis=1))
    return np.where(np.isfinite(logits[known]).all(axis=1), gaps, np.inf)


@dataclass(frozen=True)
class EngineChoice:
    """The engine chosen by a measurement: seconds that each takes to get ready, and for a batch."""

    engine: str
    preparing: dict[str, float]
    batch: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As `recipe.lock.json` keeps it."""
        preparing, batch = (
            {n: round(s, 4) for n, s in times.items()}
            for times in (self.preparing, self.batch)
        )
        return {
            "engine": self.engine,
            "seconds_preparing": preparing,
            "seconds_a_batch": batch,
        }


def fastest(
    load: Callable[[], nn.Module],
    pixels: NDArray[np.uint8],
    batches: int,
    *,
    networks: int,
    amp: str,
    device: str,
    batch_size: int = BATCH,
    repeats: int = 3,
) -> EngineChoice:
    """Measure the installed engines on batches of `pixels`; the one that is done first.

    `batches` are to be computed in all, by `networks` networks that each have to be made ready;
    they were trained in batches of `batch_size`.
    """
    on_device = pick_device(device)
    # As many images as a pass gives them: some engines compute whole batches of their own alone.
    n_at_once = 1 if on_device.type == "cpu" else min(batches, ON_DEVICE // BATCH)
    sample = as_images(np.resize(pixels, (n_at_once * BATCH, *pixels.shape[1:])), device)
    precision = predicting_precisions(amp, on_device)[0]
    preparing: dict[str, float] = {}
    batch: dict[str, float] = {}
    for name in candidates(device):
        if name == "compile" and batch[DEFAULT] * batches < COMPILE_FROM:
            continue
        began = time.perf_counter()
        try:
            engine = ENGINES.load(name)(load(), sample[:BATCH], precision, device)
            predictor = in_batches(engine, at_once(name, batch_size))
            predictor(sample)
        # it cannot compute this network here: it is no candidate, and `ready` will say so if asked
        except Exception:
            if name == DEFAULT:
                raise
            continue
        preparing[name] = time.perf_counter() - began
        taken = min(_timed(predictor, sample) for _ in range(repeats))
        batch[name] = taken / n_at_once
    total = {name: networks * preparing[name] + batches * batch[name] for name in batch}
    return EngineChoice(min(total, key=total.__getitem__), preparing, batch)


def candidates(device: str) -> Sequence[str]:
    """The engines that are compared on a device, the default one first."""
    kind = pick_device(device).type
    if kind == "cuda":
        return (DEFAULT, "graph", "compile")
    if kind != "cpu":
        return (DEFAULT, "compile")
    return (DEFAULT, "traced", *filter(is_installed, NEEDS), "compile")


def _timed(predictor: Predictor, sample: Tensor) -> float:
    began = time.perf_counter()
    predictor(sample)
    return time.perf_counter() - began
