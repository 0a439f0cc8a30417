"""Which engine predicts: the command's, the recipe's, or one measured once for the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixels import Pixels
from ensembler.estimators.files import read_heads
from ensembler.estimators.target_head import joined_logits
from ensembler.files import fingerprint, sha256_of
from ensembler.inference.engines.registry import AUTO, check_engine, named_engine
from ensembler.machine.cores import available_cores
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.features import probe_predictor
from ensembler.members.plan import MemberPlan
from ensembler.predictions.members import FEATURES
from ensembler.predictions.store import RunStore
from ensembler.training.spec import FittedSpec
from ensembler.workspace.lock import keep_choice, kept_choice
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from ensembler.inference.frozen import SharedFeatures
    from ensembler.inference.predictor import Predictor


@dataclass(frozen=True)
class Engines:
    """Makes checkpoints ready to predict; an engine of `execution` comes before the recipe's."""

    workspace: Workspace
    execution: Execution = DEFAULT_EXECUTION
    frozen: dict[str, SharedFeatures] = field(default_factory=dict)

    def predictor(
        self,
        plan: MemberPlan,
        weights: Path,
        pixels: Pixels,
        rows: NDArray[np.int64],
        name: str,
    ) -> Predictor:
        """The network in `weights` by its member's engine, compared with float32 on some `rows`.

        It predicts no more images at once than the member is trained with.
        """
        if isinstance(plan.member.spec, FittedSpec):
            return self._heads(plan, weights)
        from ensembler.inference.engines.choose import CHECKED, at_once, ready
        from ensembler.inference.predictor import in_batches
        from ensembler.networks.checkpoint import load_checkpoint
        from ensembler.training.randomness import only_deterministic

        engine = self.of(plan, weights, pixels)
        most = at_once(engine, plan.member.base.batch_size)
        is_deterministic = bool(getattr(plan.member.base, "deterministic", False))
        # what a graph records is decided while it is recorded
        with only_deterministic(is_deterministic, self.workspace.progress):
            predictor = ready(
                engine,
                lambda: load_checkpoint(weights, self.execution.device, plan.member.base),
                pixels[rows[_spread(len(rows), min(CHECKED, most))]],
                amp=plan.member.base.amp,
                device=self.execution.device,
                name=name,
                progress=self.workspace.progress,
                kinds=tuple(plan.output.kind(target) for target in plan.output.targets),
            )
        in_parts = in_batches(predictor, most)
        return _Deterministic(in_parts) if is_deterministic else in_parts

    def _heads(self, plan: MemberPlan, weights: Path) -> Predictor:
        """The heads in `weights` on features that all heads of one frozen network share."""
        spec = plan.member.spec
        code = spec.code if isinstance(spec, FittedSpec) else {}
        heads = read_heads(weights, code).heads
        from ensembler.inference.frozen import SharedFeatures

        network = weights.parent / FEATURES
        key = sha256_of(network)
        if key not in self.frozen:
            made = probe_predictor(plan, network, self.execution)
            self.frozen[key] = SharedFeatures(made)
        shared, targets = self.frozen[key], plan.output.targets
        return lambda images: joined_logits(heads, targets, shared(images))

    def of(self, plan: MemberPlan, weights: Path, pixels: Pixels) -> str:
        """The name of a member's engine.

        The first that asks for `auto` measures it with the network in `weights`.
        """
        from ensembler.networks.devices import pick_device

        if isinstance(plan.member.spec, FittedSpec):
            return "eager"
        wanted = check_engine(self.execution.engine or self.workspace.spec.inference.engine)
        if wanted != AUTO:
            return named_engine(wanted, pick_device(self.execution.device).type)
        base, input_ = plan.member.base, plan.input
        network = base.model_dump(mode="json", include={"backbone", "model_args", "amp"})
        shape = [
            input_.size,
            input_.channels,
            len(plan.output.classes),
            plan.member.spec.method,
        ]
        made_for = fingerprint([network, shape, self.execution.device, available_cores()])
        # as it is now: another process may have chosen
        store = RunStore(self.workspace.store.folder)
        kept = kept_choice(store, "engine", plan.member.entry, made_for)
        if kept is None:
            kept = keep_choice(
                store,
                "engine",
                plan.member.entry,
                made_for,
                self._measure(plan, weights, pixels),
            )
        return str(kept["engine"])

    def _measure(
        self, plan: MemberPlan, weights: Path, pixels: Pixels
    ) -> dict[str, object]:
        from ensembler.inference.engines.choose import fastest
        from ensembler.inference.predictor import BATCH
        from ensembler.networks.checkpoint import load_checkpoint

        train, test = self.workspace.image_rows
        images = len(plan.views) * (len(train) + plan.rows.n_folds * len(test))
        choice = fastest(
            lambda: load_checkpoint(weights, self.execution.device, plan.member.base),
            pixels[np.arange(min(BATCH, pixels.shape[0]))],
            max(1, images // BATCH),
            networks=plan.rows.n_folds,
            amp=plan.member.base.amp,
            device=self.execution.device,
            batch_size=plan.member.base.batch_size,
        )
        times = ", ".join(
            f"{name} {1000 * seconds:.0f}" for name, seconds in choice.batch.items()
        )
        self.workspace.progress.note(
            f"{plan.member.name} predicts by {choice.engine} (ms a batch: {times})"
        )
        return choice.to_json()


@dataclass(frozen=True)
class _Deterministic:
    """A predictor that keeps to deterministic algorithms, as its member was trained by them."""

    predictor: Predictor

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Logits `[images, classes]`."""
        from ensembler.training.randomness import only_deterministic

        with only_deterministic(True):
            return self.predictor(images)

    def on_device(self, images: Tensor) -> Tensor:
        """Logits `[images, classes]`, perhaps still being computed."""
        from ensembler.inference.predictor import logits_on_device
        from ensembler.training.randomness import only_deterministic

        with only_deterministic(True):
            return logits_on_device(self.predictor, images)


def _spread(n: int, wanted: int) -> NDArray[np.int64]:
    """At most so many positions, all over `n`: the first images may be of one class."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(np.int64))
