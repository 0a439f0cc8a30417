"""The networks of an ensemble, made ready by their engines, and one pass of images through them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.apply import Logits
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.images import AskedPixels, refuse_broken
from ensembler.bundle.records import PackedMember
from ensembler.bundle.reference import draw_reference
from ensembler.data.images import ArrayImages
from ensembler.data.spec import InputSpec
from ensembler.errors import EnsemblerError, RequestError, StoreError
from ensembler.estimators.target_head import joined_logits
from ensembler.inference.engines.registry import (
    AUTO,
    check_engine,
    check_installed,
    named_engine,
)
from ensembler.progress import QUIET, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ensembler.inference.frozen import SharedFeatures
    from ensembler.inference.one_pass import PredictionRequest
    from ensembler.inference.predictor import Predictor as NetworkPredictor
    from ensembler.inference.views import View
    from ensembler.predictions.chunks import ChunkedLogits

_BATCHES = 100  # of a job whose length is not known, when engines are compared


@dataclass(frozen=True)
class Networks:
    """Makes checkpoints ready when they are first needed, and keeps them.

    An engine is compared with float32 on the drawn images of the reference, so that which engine
    computes does not depend on the images that are asked for.
    """

    ensemble: Ensemble
    device: str = "auto"
    engine: str | None = None
    progress: Progress = QUIET

    def logits(
        self,
        pixels_of: Callable[[InputSpec], AskedPixels],
        rows: NDArray[np.int64],
        folder: Path,
        progress: Progress = QUIET,
    ) -> Logits:
        """Logits of all checkpoints for the images at `rows`, kept in `folder` chunk by chunk.

        Members of one input share a pass over its pixels.
        """
        found: dict[str, list[NDArray[np.float32]]] = {}
        groups: dict[str, list[PackedMember]] = {}
        for member in self.ensemble.networks:
            groups.setdefault(member.input.model_dump_json(), []).append(member)
        for members in groups.values():
            pixels = pixels_of(members[0].input)
            kept = self._run(members, pixels, rows, folder, progress)
            for entry, one in zip(_entries(members), kept, strict=True):
                found.setdefault(entry[0].name, []).append(one.array)
        return found

    def _run(
        self,
        members: Sequence[PackedMember],
        pixels: AskedPixels,
        rows: NDArray[np.int64],
        folder: Path,
        progress: Progress,
    ) -> list[ChunkedLogits]:
        from ensembler.inference.one_pass import PredictionRequest, run_pass

        requests = [
            PredictionRequest(
                name=f"member {member.name!r}: {entry}",
                path=Path(entry),
                classes=member.n_logits,
                views=self._views[member.name],
                rows=(rows,),
                out=folder / f"{member.name}-{nth}.npy",
            )
            for member, nth, entry in _entries(members)
        ]

        def load(missing: Sequence[PredictionRequest]) -> list[NetworkPredictor]:
            return [self.ready(str(request.path)) for request in missing]

        return run_pass(requests, pixels, load, device=self.device, progress=progress)

    @cached_property
    def _views(self) -> dict[str, tuple[View, ...]]:
        return {m.name: self.ensemble.views(m) for m in self.ensemble.networks}

    @cached_property
    def _made(self) -> dict[str, NetworkPredictor]:
        return {}

    def ready(self, entry: str) -> NetworkPredictor:
        """A checkpoint as a function from pixels to logits."""
        if entry not in self._made:
            self._made[entry] = self._make_ready(entry)
        return self._made[entry]

    def _make_ready(self, entry: str) -> NetworkPredictor:
        from ensembler.inference.engines.choose import at_once, ready
        from ensembler.inference.predictor import in_batches

        member = next(m for m in self.ensemble.networks if entry in m.checkpoints)
        if member.frozen is not None:
            return self._heads(member, entry)
        network = self.ensemble.network(entry, self.device)
        engine = self._engine_of(member, network)
        most = at_once(engine, member.batch_size)
        targets = self.ensemble.record.targets
        with self._faults_named(member, entry):
            predictor = ready(
                engine,
                lambda: copy.deepcopy(network),
                self._sample(member.input)[:most],
                amp=member.amp,
                device=self.device,
                name=f"member {member.name!r}: {entry}",
                progress=self.progress,
                kinds=tuple(targets[name].named(name).kind for name in member.targets),
            )
        return _deterministic(in_batches(predictor, most), wanted=member.deterministic)

    def _heads(self, member: PackedMember, entry: str) -> NetworkPredictor:
        """The heads of a probe on features that all heads of its network share."""
        from ensembler.inference.frozen import SharedFeatures, feature_predictor

        key = f"{member.frozen} {member.input.model_dump_json()} {member.amp}"
        if key not in self._frozen:
            seen = member.input
            shape = (2, *seen.shape)
            with self._faults_named(member, str(member.frozen)):
                made = feature_predictor(
                    self.ensemble.frozen(member, self.device),
                    shape,
                    amp=member.amp,
                    device=self.device,
                    most=member.batch_size,
                )
            self._frozen[key] = SharedFeatures(made)
        heads, shared = self.ensemble.heads(entry), self._frozen[key]
        return lambda images: joined_logits(heads, tuple(member.targets), shared(images))

    @cached_property
    def _frozen(self) -> dict[str, SharedFeatures]:
        return {}

    @contextmanager
    def _faults_named(self, member: PackedMember, entry: str) -> Iterator[None]:
        """Turn what a network raises that cannot compute images of its input into a StoreError."""
        from ensembler.networks.memory import memory_advice

        size = member.input.size
        try:
            with memory_advice(batch_size=member.batch_size, size=size, amp=member.amp):
                yield
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, EnsemblerError):
                raise
            first = "".join(str(error).strip().splitlines()[:1])
            raise StoreError(
                f"{self.ensemble.where}: {entry} cannot compute images of {size} px ({first})"
            ) from error

    def _engine_of(self, member: PackedMember, network: nn.Module) -> str:
        from ensembler.networks.devices import pick_device

        wanted = self.engine or self._own_engine
        if wanted == AUTO:
            return self._fastest(member, network)
        return named_engine(wanted, pick_device(self.device).type)

    @cached_property
    def _own_engine(self) -> str:
        """The engine that the recipe asks for, or the default one where it is not there."""
        name = self.ensemble.record.engine
        try:
            check_installed(check_engine(name))
        except RequestError as error:
            self.progress.warn(f"{error}; the default engine predicts instead")
            return "default"
        return name

    def _fastest(self, member: PackedMember, network: nn.Module) -> str:
        key = f"{member.backbone} {member.input.size} {member.batch_size}"
        if key not in self._measured:
            from ensembler.inference.engines.choose import fastest

            choice = fastest(
                lambda: copy.deepcopy(network),
                self._sample(member.input),
                _BATCHES,
                networks=len(member.checkpoints),
                amp=member.amp,
                device=self.device,
                batch_size=member.batch_size,
            )
            self._measured[key] = choice.engine
            self.progress.note(f"{member.name} predicts by {choice.engine}")
        return self._measured[key]

    @cached_property
    def _measured(self) -> dict[str, str]:
        return {}

    def _sample(self, spec: InputSpec) -> NDArray[np.uint8]:
        images = ArrayImages(draw_reference(), "reference")
        return AskedPixels(images, spec, refuse_broken)[np.arange(len(images))]


def _entries(members: Sequence[PackedMember]) -> list[tuple[PackedMember, int, str]]:
    return [
        (member, nth, entry)
        for member in members
        for nth, entry in enumerate(member.checkpoints)
    ]


def _deterministic(predictor: NetworkPredictor, *, wanted: bool) -> NetworkPredictor:
    """A predictor that keeps to deterministic algorithms, as its member was trained by them."""
    from ensembler.training.randomness import only_deterministic

    if not wanted:
        return predictor

    def predict(images: Tensor) -> NDArray[np.float32]:
        with only_deterministic(True):
            return predictor(images)

    return predict
