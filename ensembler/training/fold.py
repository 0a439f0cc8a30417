"""Training one fold: pixels and labels in, a network out.

Everything random is derived from seed, fold, epoch and sample, so that a fold that was interrupted
ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ensembler.data.augment import sample_seed
from ensembler.data.size import size_of
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.metrics import is_better
from ensembler.networks.build import Normalised
from ensembler.networks.devices import loader_processes, pick_device, training_math
from ensembler.networks.graphs import graphs_on
from ensembler.networks.memory import memory_advice
from ensembler.progress import QUIET, Progress
from ensembler.stop import Stop
from ensembler.training.averages import WeightAverages
from ensembler.training.learner import Learner
from ensembler.training.loading import Batch, Loader
from ensembler.training.randomness import only_deterministic, own_randomness, seed_all
from ensembler.training.setup import FoldSetup
from ensembler.training.state import StateKeeper, read_state
from ensembler.training.step_choice import StepChooser, StepDecision
from ensembler.training.stoppable import StoppableLoader
from ensembler.training.trained import EndedEarly, EpochRecord, TrainedFold
from ensembler.training.turns import ALONE, PassOn, Turns
from ensembler.training.validation import validate


def train_fold(
    setup: FoldSetup,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    state_path: Path | None = None,
    name: str = "",
    progress: Progress = QUIET,
    stop: Stop | None = None,
    step_decision: StepDecision | None = None,
    turns: Turns = ALONE,
) -> TrainedFold:
    """Train the network of a fold on its train rows.

    With `state_path` the state is kept on disk from time to time, and a training of the same setup
    resumes from it. Epochs of `name` are shown on `progress`; between two of them `stop` may end
    the training (when its time is over, after any batch). Where it takes the network as it is then,
    that is raised as EndedEarly. With `step: auto` the `step_decision` counts. `turns`
    shares the process with other folds. Raises TrainingError when the loss is not finite, with
    epoch and learning rate.
    """
    setup.check()
    spec, device = setup.spec, pick_device(execution.device)
    workers = loader_processes(device) if execution.workers is None else execution.workers
    stop = Stop() if stop is None else stop
    loader = StoppableLoader(workers, device, progress, stop=stop)
    loader.get_ready(setup.augment)  # they start while the network is built
    size = size_of(*setup.data.pixels.shape[1:3])
    advice = memory_advice(
        batch_size=spec.batch_size, size=size, amp=spec.amp, accumulate=spec.accumulate
    )

    @contextmanager
    def surroundings() -> Iterator[None]:
        with (
            only_deterministic(spec.deterministic, progress),
            training_math(device, spec.amp, deterministic=spec.deterministic),
        ):
            yield

    with (
        turns.taken(device, surroundings) as pass_on,
        advice,
        nullcontext() if state_path is None else StateKeeper(state_path) as keeper,
    ):
        seed_all(sample_seed(setup.seed, "build", setup.fold))
        training = _FoldTraining.build(setup, loader)
        if state_path is not None:
            training.resume(state_path, progress)
        # what is measured or captured takes whole batches
        if not training.is_over and setup.images_at_once is None:
            training.choose_steps(step_decision or StepDecision(), progress)
        while not training.is_over:
            training.train_epoch(pass_on)
            if keeper is not None:
                # before the validation, so that nothing can take the epoch away
                keeper.keep(training.state())
            training.validate()
            progress.epoch(training.history[-1].of(name, setup.fold))
            if stop.takes_network:
                raise EndedEarly(training.result())
            stop.check()
            pass_on()
        return training.result()


@dataclass
class _Best:
    """The best epoch so far by the metric that chooses, with its weights; epoch 0 = none."""

    epoch: int = 0
    value: float = math.nan
    weights: dict[str, Tensor] | None = None


@dataclass
class _FoldTraining:
    """A fold in training: what changes from epoch to epoch."""

    setup: FoldSetup
    loader: Loader
    learner: Learner
    averages: WeightAverages
    history: list[EpochRecord] = field(default_factory=list)
    best: _Best = field(default_factory=_Best)

    @classmethod
    def build(cls, setup: FoldSetup, loader: Loader) -> _FoldTraining:
        learner = Learner.build(setup, loader.device)
        averages = WeightAverages(setup.spec, setup.wanted, learner.network)
        return cls(setup, loader, learner, averages)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or patience ran out."""
        done, patience = len(self.history), self.setup.spec.patience
        if done >= self.setup.spec.epochs:
            return True
        if patience is None or not self.best.epoch:
            return False
        # with val_interval, the next look may find a better one
        was_judged = self.history[-1].judged is not None
        return was_judged and done - self.best.epoch >= patience

    def choose_steps(self, decision: StepDecision, progress: Progress) -> None:
        """Let the steps be taken as the member says, or as a measurement does."""
        spec, device = self.setup.spec, self.loader.device
        source = self.setup.source(len(self.history) + 1)
        updates = math.ceil(len(source) / spec.accumulate)
        chooser = StepChooser(self.learner, graphs_on(device), decision, progress)

        def example() -> Batch:
            with Loader(0, device).batches(source) as batches:
                return self.learner.mixed(*next(batches))

        with own_randomness(device):
            chooser.choose(example, updates * (spec.epochs - len(self.history)))

    def train_epoch(self, pass_on: PassOn) -> None:
        """Train one epoch; `validate` then looks at it."""
        epoch, setup = len(self.history) + 1, self.setup
        began = time.perf_counter()
        seed_all(sample_seed(setup.seed, setup.fold, epoch))
        source = setup.source(epoch)
        loss, lr = self.learner.train_epoch(self.loader, source, epoch, pass_on)
        self.averages.after_epoch(epoch, self.learner.network)
        seconds = time.perf_counter() - began
        self.history.append(EpochRecord(epoch, setup.spec.epochs, loss, lr, seconds))

    def validate(self) -> None:
        """Look at the validation rows after the latest epoch, where something asks for it."""
        spec, data, record = self.setup.spec, self.setup.data, self.history[-1]
        if not spec.validates_after(record.epoch) or not len(data.valid_rows):
            return
        began = time.perf_counter()
        found = validate(self.learner.predictor, spec, data, self.loader.device)
        seconds = time.perf_counter() - began
        self.history[-1] = replace(
            record,
            seconds=record.seconds + seconds,
            validating=seconds,
            score=found.score,
            valid_loss=found.loss,
            judged=found.judged if spec.chooses else None,
        )
        self._remember_best(self.history[-1])

    def _remember_best(self, record: EpochRecord) -> None:
        value = record.judged
        if value is None or not math.isfinite(value):
            return
        best = self.best
        if best.epoch and not is_better(self.setup.spec.choose_by, value, than=best.value):
            return
        weights = self.learner.predictor.state_dict()
        kept = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        self.best = _Best(record.epoch, value, kept)

    def result(self) -> TrainedFold:
        """The wanted networks; the member's own is that of the chosen epoch."""
        setup, spec, done = self.setup, self.setup.spec, len(self.history)
        found: dict[str, nn.Module] = {spec.primary: copy.deepcopy(self.learner.predictor)}
        if self.best.weights is not None:
            found[spec.primary].load_state_dict(self.best.weights)
        if self.learner.ema is not None:
            found.setdefault("ema", self.learner.ema.module)
        seed_all(sample_seed(setup.seed, setup.fold, "batch norms"))
        found |= self.averages.networks(
            self.learner.network, setup.data.pixels, setup.data.train_rows, spec.batch_size
        )
        networks: dict[str, Normalised] = {}
        for name in setup.wanted:
            network = found[name].eval()
            assert isinstance(network, Normalised)
            networks[name] = network.requires_grad_(True)
        chosen = self.best.epoch or done
        epochs = (
            dict.fromkeys(setup.wanted, done) | spec.cycle_ends | {spec.primary: chosen}
        )
        seconds = sum(record.seconds for record in self.history)
        return TrainedFold(networks, tuple(self.history), chosen, seconds, epochs=epochs)

    def state(self) -> dict[str, Any]:
        """Everything that `resume` takes up."""
        return {
            "job": self.setup.state_key,
            **self.learner.state(),
            "further": self.averages.state(),
            "history": [asdict(record) for record in self.history],
            "best": self.best.weights,
            "best_epoch": self.best.epoch,
        }

    def resume(self, path: Path, progress: Progress) -> None:
        """Take up the state in `path` when it is whole and of this very training."""
        state = read_state(path, self.setup.state_key)
        if state is None:
            if path.is_file():
                progress.note(
                    "the state on disk is damaged or of another training; the fold starts again"
                )
            return
        self.learner.load(state)
        self.averages.load(state["further"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        if state["best_epoch"]:
            value = self.history[state["best_epoch"] - 1].judged
            assert value is not None
            self.best = _Best(state["best_epoch"], value, state["best"])
        if not self.history:
            return
        progress.note(f"resumes after epoch {len(self.history)}")
        if self.history[-1].valid_loss is None:
            self.validate()
