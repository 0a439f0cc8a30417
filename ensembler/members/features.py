"""Frozen features of all images, computed once for all heads, folds and runs.

They lie in the cache beside the prepared pixels, under a digest of the network, the images and how
these are prepared. Deleting them costs time only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixel_key import pixels_key
from ensembler.data.size import sides
from ensembler.errors import NotFiniteError, RequestError, StoreError, TrainingError
from ensembler.files import claim, fingerprint, read_json, write_json
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.plan import MemberPlan
from ensembler.predictions.chunks import ChunkedLogits
from ensembler.predictions.members import FEATURES
from ensembler.predictions.store import cache_folder
from ensembler.training.spec import FeaturesSpec, ProbeSpec
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from ensembler.inference.one_pass import PredictionRequest
    from ensembler.inference.predictor import Predictor
    from ensembler.inference.views import View

_VERSION = 1


@dataclass(frozen=True)
class FeatureTable:
    """Features of one view of all images, `[images, features]`, and what computing them took."""

    x: NDArray[np.float32]
    seconds: float = 0.0


@dataclass(frozen=True)
class FrozenFeatures:
    """The features of a probe whose network looks at the images."""

    plan: MemberPlan
    execution: Execution = DEFAULT_EXECUTION

    @property
    def _workspace(self) -> Workspace:
        return self.plan.workspace

    @property
    def _spec(self) -> FeaturesSpec:
        spec = self.plan.member.spec
        assert isinstance(spec, ProbeSpec)
        return spec.features

    @cached_property
    def folder(self) -> Path:
        """Where the network and its features are, by what decides the network."""
        from ensembler.networks.devices import pick_device

        plan, spec = self.plan, self._spec
        key = fingerprint(
            [
                _VERSION,
                plan.network_options,
                plan.seed if spec.is_random else None,
                [plan.input.size, plan.input.channels],
                [spec.amp, pick_device(self.execution.device).type],
            ]
        )
        return cache_folder(self._workspace.artifacts) / "features" / key[:24]

    @property
    def network_path(self) -> Path:
        """The file of the frozen network."""
        return self.folder / FEATURES

    def tables(self, views: Sequence[View]) -> dict[str, FeatureTable]:
        """The features of all images under each of `views`, by its name.

        What is missing is computed, one pass for all views. Raises TrainingError when a feature is
        not finite, RequestError for a network without features.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with claim(self.folder / ".lock", wait=True):
            n_features = self._n_features()
            kept = {view.name: self._open(view, n_features) for view in views}
            if not all(one.is_whole for one in kept.values()):
                kept = self._computed(views, n_features)
        return {
            name: FeatureTable(one.array[0], sum(one.seconds.values()))
            for name, one in kept.items()
        }

    def _n_features(self) -> int:
        """How many features the network has; it is built where it is not there yet."""
        record = self.folder / "features.json"
        if self.network_path.is_file() and record.is_file():
            return int(read_json(record)["features"])
        n_features = self._build()
        write_json(record, {"features": n_features})
        return n_features

    def _build(self) -> int:
        import torch

        from ensembler.networks.build import build_network
        from ensembler.networks.checkpoint import save_checkpoint
        from ensembler.training.randomness import own_randomness, seed_all

        plan, network = self.plan, self._spec.network
        if self._spec.is_random:
            self._workspace.progress.warn(
                f"{plan.member.name}: the weights of {network.backbone} are random, for its "
                "features name neither pretrained: true nor checkpoint: FILE"
            )
        shape: dict[str, Any] = {
            "classes": 0,
            "size": plan.input.size,
            "channels": plan.input.channels,
        }
        with own_randomness(torch.device("cpu")):
            seed_all(plan.seed)
            built = build_network(network, **shape)
        n_features = _width(built.eval(), network.backbone, shape)
        save_checkpoint(self.network_path, built, network, shape, {"features": n_features})
        return n_features

    def _open(self, view: View, n_features: int) -> ChunkedLogits:
        return ChunkedLogits.open(self._path(view), 1, (self._n_images,), n_features)

    @property
    def _n_images(self) -> int:
        return len(self._workspace.samples.images)

    def _path(self, view: View) -> Path:
        custom = {v.name: v for v in plan_views(self.plan) if not isinstance(v, str)}
        said: Any = view.name
        if view.name in custom:
            said = custom[view.name].model_dump(mode="json")
        key = fingerprint([self._pixels_key, said])
        return self.folder / f"{key[:24]}.npy"

    @cached_property
    def _pixels_key(self) -> str:
        workspace = self._workspace
        images, cache = workspace.samples.images, cache_folder(workspace.artifacts)
        return pixels_key(images, self.plan.input, cache)

    def _computed(self, views: Sequence[View], n_features: int) -> dict[str, ChunkedLogits]:
        from ensembler.inference.one_pass import PredictionRequest, run_pass

        name, rows = self.plan.member.name, np.arange(self._n_images, dtype=np.int64)
        requests = [
            PredictionRequest(
                name=f"features of {name}",
                path=self.network_path,
                classes=n_features,
                views=(view,),
                rows=(rows,),
                out=self._path(view),
            )
            for view in views
        ]
        predictor = probe_predictor(self.plan, self.network_path, self.execution)

        def load(missing: Sequence[PredictionRequest]) -> list[Predictor]:
            return [predictor] * len(missing)

        try:
            found = run_pass(
                requests,
                self.plan.pixels,
                load,
                device=self.execution.device,
                progress=self._workspace.progress,
                step=f"features of {name}",
            )
        except NotFiniteError as error:
            raise TrainingError(
                f"features of {self._spec.backbone} are not finite; amp: off may help"
            ) from error
        return {view.name: one for view, one in zip(views, found, strict=True)}


def plan_views(plan: MemberPlan) -> tuple[Any, ...]:
    """All views that the recipe says something of, those that heads are fitted on among them."""
    spec = plan.member.spec
    own = spec.features.views if isinstance(spec, ProbeSpec) else ()
    return (*plan.workspace.spec.views, *own)


def _width(network: Any, backbone: str, shape: Mapping[str, Any]) -> int:
    """How many features a network without a head gives for an image."""
    import torch

    size = shape["size"]
    pixels = torch.zeros((2, shape["channels"], *sides(size)), dtype=torch.uint8)
    with torch.inference_mode():
        found = network(pixels)
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or not found.shape[1]:
        shown = (
            list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        )
        raise RequestError(
            f"backbone {backbone!r} without a head gives {shown}, expected features "
            "[images, features]; pool says how positions become one feature, and a factory of "
            "your own has to leave its head out for num_classes=0"
        )
    return int(found.shape[1])


def probe_predictor(plan: MemberPlan, path: Path, execution: Execution) -> Predictor:
    """The frozen network in `path`, from pixels to features `[images, features]`."""
    from ensembler.inference.frozen import feature_predictor
    from ensembler.networks.checkpoint import load_checkpoint

    base, seen = plan.member.base, plan.input
    return feature_predictor(
        load_checkpoint(path, execution.device, base),
        (2, *seen.shape),
        amp=base.amp,
        device=execution.device,
        most=base.batch_size,
    )


def copy_network(source: Path, folder: Path) -> str:
    """Put a frozen network beside the heads of a member; its sha256."""
    from ensembler.files import sha256_of, write_bytes

    path = folder / FEATURES
    wanted = sha256_of(source)
    if not path.is_file() or sha256_of(path) != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, source.read_bytes())
    if sha256_of(path) != wanted:
        raise StoreError(f"{path} is not what was written to it; is the disk in order?")
    return wanted
