"""Several folds in one process, taking turns: one computes its next step while the others wait.

A GPU works on what was launched before, each fold on a stream of its own; only the launching takes
turns. What is global to a process (generators, flags of torch) is that of the fold whose turn it
is, so a fold trains to the bits to which it trains alone.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ensembler.stop import Stop
from ensembler.training.randomness import own_randomness

# makes a block in which the process is as a fold wants it
Surroundings = Callable[[], AbstractContextManager[object]]
PassOn = Callable[[], None]


class Turns(Protocol):
    """How a fold shares its process with others."""

    def taken(
        self, device: torch.device, surroundings: Surroundings
    ) -> AbstractContextManager[PassOn]:
        """A block that trains a fold, in `surroundings` and with generators of its own.

        What it yields is called between two steps, where others may take their turn.
        """


class Alone:
    """A fold that shares its process with no other."""

    @contextmanager
    def taken(self, device: torch.device, surroundings: Surroundings) -> Iterator[PassOn]:
        """Nobody else takes a turn."""
        with own_randomness(device), surroundings():
            yield nobody_waits


def nobody_waits() -> None:
    """Go on at once."""


ALONE = Alone()


class Baton:
    """Held by one thread at a time, and passed on in the order in which they asked for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asking: deque[object] = deque()  # the first one holds it

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for it and hold it while the block runs."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pass_on(self) -> None:
        """Let every thread that waits have it first; at once when none does."""
        with self._changed:
            if len(self._asking) == 1:
                return
        self._give()
        self._take()

    @property
    def is_asked_for(self) -> bool:
        """Whether another thread waits for it."""
        return len(self._asking) > 1

    def _take(self) -> None:
        ticket = object()
        with self._changed:
            self._asking.append(ticket)
            while self._asking[0] is not ticket:
                self._changed.wait()

    def _give(self) -> None:
        with self._changed:
            self._asking.popleft()
            self._changed.notify_all()


@dataclass(frozen=True)
class Shared:
    """Folds that share a process: whoever has the `baton` takes a step.

    `ends` ends all of them before their next step.
    """

    baton: Baton = field(default_factory=Baton)
    ends: Stop = field(default_factory=Stop)

    @contextmanager
    def taken(self, device: torch.device, surroundings: Surroundings) -> Iterator[PassOn]:
        """Train while this thread, which has the baton, gets it back after every step."""
        generators = _Generators(device)
        here = ExitStack()

        def enter() -> None:
            here.enter_context(generators.in_place())
            here.enter_context(surroundings())

        def pass_on() -> None:
            self.ends.check()
            if self.baton.is_asked_for:
                here.close()
                self.baton.pass_on()
                enter()
            self.ends.check()

        with _own_stream(device), here:
            enter()
            yield pass_on


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """A stream of its own on CUDA, so that what folds have launched is computed side by side."""
    if device.type != "cuda":
        yield
        return
    own, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(before)
    with torch.cuda.stream(own):
        yield
    before.wait_stream(own)


class _Generators:
    """The global generators, as a fold has left them at its last turn."""

    def __init__(self, device: torch.device) -> None:
        self._states = _host_states()
        self._default: Any = None
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._default = torch.cuda.default_generators[index]
            # A graph repeats with the generator that it was recorded with: it has to be this one.
            self._own = torch.Generator(device=torch.device("cuda", index))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put them in the place of the others while the block runs."""
        before = _host_states()
        _set_host_states(self._states)
        if self._default is not None:
            others = self._default.graphsafe_get_state()
            self._default.graphsafe_set_state(self._own)
        try:
            yield
        finally:
            self._states = _host_states()
            _set_host_states(before)
            if self._default is not None:
                self._default.graphsafe_set_state(others)


def _host_states() -> tuple[torch.Tensor, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 timm's Mixup draws from it


def _set_host_states(states: tuple[torch.Tensor, Any, Any]) -> None:
    of_torch, of_numpy, of_python = states
    torch.set_rng_state(of_torch)
    np.random.set_state(of_numpy)  # noqa: NPY002
    random.setstate(of_python)
