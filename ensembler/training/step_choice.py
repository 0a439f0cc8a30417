"""How the steps of a training reach the device: eagerly, as a CUDA graph, or compiled.

Without a word in the recipe the choice depends on recipe, device and versions alone. `step: auto`
measures, and what it chose is kept: the ways round differently, so whoever resumes the training
takes the same one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ensembler.networks.compiled import CompilerError
from ensembler.networks.graphs import Graphs
from ensembler.networks.sources import is_own_backbone
from ensembler.own_code import is_own
from ensembler.progress import QUIET, Progress
from ensembler.training.compiling import compiled, works
from ensembler.training.graphed import GraphedUpdates, why_not_graphed
from ensembler.training.learner import Learner
from ensembler.training.loading import Batch
from ensembler.training.preserved import begins_with_zeros, preserved
from ensembler.training.spec import MemberSpec
from ensembler.training.steps import Place, Steps

Kind = Literal["eager", "graph", "compile"]

_TIMED = 5
# Compiling takes tens of seconds; less training than this cannot pay it back.
MIN_SECONDS = 120.0
# What an update has to gain before it counts: two timings of the same one differ by a few percent.
_NOISE = 0.05
NOT_COMPILED = "not compiled: torch cannot compile the network here"


@dataclass(frozen=True)
class Timing:
    """Seconds of an update, and those that it took to get there."""

    update: float
    start: float = 0.0

    def of(self, updates: int) -> float:
        """Seconds of so many updates."""
        return self.start + self.update * updates


@dataclass(frozen=True)
class StepChoice:
    """How a training's steps are taken, and the measurement behind that, by kind."""

    step: Kind
    timings: dict[Kind, Timing]

    def to_json(self) -> dict[str, Any]:
        """As `recipe.lock.json` keeps it."""
        timings = {kind: dict(timing.__dict__) for kind, timing in self.timings.items()}
        return {"step": self.step, "timings": timings}

    @property
    def text(self) -> str:
        """The choice in words."""
        found = [
            f"{kind} {1000 * timing.update:.1f} ms"
            + (f" after {timing.start:.0f} s" if timing.start else "")
            for kind, timing in self.timings.items()
        ]
        return f"step: {self.step} ({', '.join(found)})"


@dataclass(frozen=True)
class StepDecision:
    """What was decided before (None = nothing yet), and what a new choice has to go through.

    `keep` keeps a choice and returns the one that counts: another process may have been faster.
    `refused` has what torch could not record as a graph, which is not tried again, and `told` what
    was said: both are those of all folds of a training.
    """

    chosen: Kind | None = None
    keep: Callable[[StepChoice], Kind] = lambda choice: choice.step
    refused: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)


def kept_kind(
    choice: dict[str, Any] | None, compiling: dict[str, Any] | None
) -> Kind | None:
    """The kind that a run's lock keeps: of `step`, or as earlier versions kept it, of `compile`."""
    if choice is not None:
        kept: Kind = choice["step"]
        return kept
    if compiling is not None:
        return "compile" if compiling["compiled"] else "eager"
    return None


@dataclass(frozen=True)
class StepChooser:
    """Chooses how a learner takes its steps on a device that records `graphs`, or none."""

    learner: Learner
    graphs: Graphs | None
    decision: StepDecision = field(default_factory=StepDecision)
    progress: Progress = QUIET

    def choose(self, example: Callable[[], Batch], updates: int) -> None:
        """Let the learner take its steps as its recipe says, or as a measurement does.

        `example` makes a batch, `updates` are still to be trained.
        """
        spec = self.learner.spec
        kind = spec.step if spec.step != "auto" else self._automatic(example, updates)
        if kind == "compile":
            self.learner.compiled = compiled(self.learner.network)
        if kind != "eager":
            self.learner.whole_updates = self._graphed(is_asked=kind == "graph")

    def _automatic(self, example: Callable[[], Batch], updates: int) -> Kind | None:
        """What `step: auto` comes to; None for what a recipe without a word gets."""
        chosen = self.decision.chosen
        if chosen == "compile" and not self._can_compile(example()):
            self._say(NOT_COMPILED)
            return None
        if chosen is not None:
            return chosen
        if self.graphs is None or self.learner.spec.deterministic:
            return None
        choice = self._measure(example(), updates)
        self.progress.note(choice.text)
        return self.decision.keep(choice)

    def _can_compile(self, batch: Batch) -> bool:
        network = self.learner.network.train()
        with preserved(self.learner):
            return works(network, lambda of: self.learner.loss(batch, of))

    def _graphed(self, *, is_asked: bool) -> GraphedUpdates | None:
        """What takes updates as a graph; None, with a note, where nothing can."""
        reason = self._why_eager(is_asked=is_asked)
        if reason is None:
            assert self.graphs is not None
            return GraphedUpdates(self.learner, self.graphs, self._refuse)
        if reason:
            self._say(f"no CUDA graph: {reason}")
        return None

    def _why_eager(self, *, is_asked: bool) -> str | None:
        """Why no graph is taken: "" where it goes without saying; None where one is."""
        if self.graphs is None:
            return "the device is not CUDA" if is_asked else ""
        if self.decision.refused:
            return ""
        named = why_not_graphed(self.learner)
        if named is None and not is_asked:
            named = _own_code(self.learner.spec)
        return None if named is None else f"{named} is for eager steps"

    def _refuse(self, why: str) -> None:
        self.decision.refused.append(why)
        self._say(f"no CUDA graph: the steps are taken eagerly ({why})")

    def _say(self, text: str) -> None:
        if text not in self.decision.told:
            self.progress.note(text)
        self.decision.told.add(text)

    def _measure(self, batch: Batch, updates: int) -> StepChoice:
        """Time every way that can pay; nothing of it is left in the learner."""
        learner = self.learner
        learner.network.train()
        timings: dict[Kind, Timing] = {"eager": self._time(learner, batch)}
        graphed = self._graphed(is_asked=False)
        if graphed is not None:
            timing = self._time(graphed, batch)
            if not self.decision.refused:
                timings["graph"] = timing
        if min(timing.of(updates) for timing in timings.values()) >= MIN_SECONDS:
            timings |= self._time_compiled(batch)
        return StepChoice(_fastest(timings, updates), timings)

    def _time_compiled(self, batch: Batch) -> dict[Kind, Timing]:
        learner = self.learner
        learner.compiled = compiled(learner.network)
        try:
            return {"compile": self._time(self._graphed(is_asked=False) or learner, batch)}
        except CompilerError:
            self._say(NOT_COMPILED)
            return {}
        finally:
            learner.compiled = None

    def _time(self, steps: Steps, batch: Batch) -> Timing:
        """Time updates of whole batches, the first one apart.

        An optimizer whose moments cannot be put back does not move.
        """
        learner = self.learner
        accumulate = learner.spec.accumulate
        n_of_update = accumulate if begins_with_zeros(learner.optimizer) else accumulate + 1
        sizes = (len(batch[0]),) * n_of_update
        seconds = []
        with preserved(learner):
            for _ in range(2 + _TIMED):
                began = time.perf_counter()
                for index in range(accumulate):
                    steps.take(batch, Place(index, sizes), 1)
                _wait(learner.device)
                seconds.append(time.perf_counter() - began)
        update = statistics.median(seconds[2:])
        return Timing(
            update, max(0.0, seconds[0] - update) if steps is not learner else 0.0
        )


def _fastest(timings: dict[Kind, Timing], updates: int) -> Kind:
    """The kind that is over first; one that is little faster than eager steps is not worth it."""
    eager = timings["eager"].update
    worth: dict[Kind, float] = {
        kind: timing.of(updates)
        for kind, timing in timings.items()
        if kind == "eager" or timing.update < eager * (1 - _NOISE)
    }
    return min(worth, key=lambda kind: worth[kind])


def _own_code(spec: MemberSpec) -> str | None:
    """Code of the user's own in a step: what it does on the host a graph would not repeat."""
    if is_own_backbone(spec.backbone):
        return f"backbone: {spec.backbone}"
    return f"loss: {spec.loss}" if is_own(spec.loss) else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
