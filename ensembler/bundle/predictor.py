"""A bundle as a function of images, for programs and notebooks."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.ensemble import Ensemble
from ensembler.data.decoding import AS_IT_IS, Decoding, decode, pixels_of_opened
from ensembler.data.formats import Header
from ensembler.data.images import checksum
from ensembler.errors import MissingExtraError, RequestError
from ensembler.targets.target import Target

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ensembler.bundle.networks import Networks

    AnyImage = str | Path | Image | NDArray[np.uint8] | Tensor


class Predictor:
    """The ensemble of a bundle: give it images, get probabilities `[images, classes]`.

    Images are paths, PIL images, numpy arrays (uint8 `[height, width, 3]` in RGB, or `[height,
    width]`) or torch tensors (uint8 or float 0..1, `[3, height, width]`), one, several, or a batch
    of arrays or tensors, of any size and number. It may be called from several threads at once.

    Examples:
        >>> predictor = Predictor.load("clothes.ens")  # doctest: +SKIP
        >>> predictor(["a.jpg", "b.jpg"])  # doctest: +SKIP
        >>> predictor.predict("a.jpg")  # doctest: +SKIP
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        device: str = "auto",
        engine: str | None = None,
        trust_code: bool = False,
        check: bool = True,
    ) -> Self:
        """Open a bundle and make its networks ready.

        With `check` the images that were drawn for it are predicted first: a StoreError when they
        do not get the probabilities that they got when it was packed. `engine` is what computes
        (default: what the recipe said). Code that the bundle brings along is run only with
        `trust_code`.
        """
        if find_spec("torch") is None:
            raise MissingExtraError("Predictor", "train")
        from ensembler.bundle.check import check_reference
        from ensembler.bundle.networks import Networks
        from ensembler.bundle.open import open_bundle

        ensemble = open_bundle(Path(bundle), trust_code=trust_code)
        networks = Networks(ensemble, device, engine)
        if check:
            check_reference(networks)
        return cls(networks)

    @property
    def ensemble(self) -> Ensemble:
        """What predicts: members, checkpoints and blends."""
        return self._networks.ensemble

    @cached_property
    def classes_(self) -> NDArray[np.str_]:
        """The class names in the order of the probabilities."""
        return np.array(self._target.classes)

    @property
    def _target(self) -> Target:
        return self.ensemble.record.target_of(self.ensemble.record.answers[0])

    def __call__(self, images: AnyImage | Iterable[AnyImage]) -> NDArray[np.float32]:
        """Probabilities `[images, classes]`; one image is a batch of one."""
        return self.by_target(images)[self._target.name]

    def by_target(
        self, images: AnyImage | Iterable[AnyImage]
    ) -> dict[str, NDArray[np.float32]]:
        """The probabilities `[images, classes]` of every target that the bundle predicts."""
        from ensembler.bundle.apply import answers_of
        from ensembler.bundle.images import AskedPixels, refuse_broken

        given, record = GivenImages(as_images(images)), self.ensemble.record
        targets = {name: record.target_of(name) for name in record.answers}
        if len(given) == 0:
            return {
                target.name: np.empty((0, len(target.classes)), np.float32)
                for target in targets.values()
            }
        rows = np.arange(len(given), dtype=np.int64)
        with tempfile.TemporaryDirectory() as folder, self._lock:
            logits = self._networks.logits(
                lambda spec: AskedPixels(given, spec, refuse_broken), rows, Path(folder)
            )
            answers = answers_of(self.ensemble, logits)
        return {targets[name].name: answers[name].probs for name in targets}

    def predict_proba(self, images: AnyImage | Iterable[AnyImage]) -> NDArray[np.float32]:
        """The same, by scikit-learn's name."""
        return self(images)

    def predict(self, images: AnyImage | Iterable[AnyImage]) -> NDArray[np.str_]:
        """The answer for each image: a class, or the labels of a multi-label target as one text."""
        return np.array(self._target.write(self(images)))


@dataclass(frozen=True)
class GivenImages:
    """Images that are given by value or by path."""

    values: Sequence[Path | NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.values)

    def name(self, index: int) -> str:
        """The path, or the position."""
        value = self.values[index]
        return str(value) if isinstance(value, Path) else f"image {index}"

    def fingerprint(self, index: int) -> str:
        """The checksum of the content."""
        return self.content(index)

    def content(self, index: int) -> str:
        """The checksum of the content."""
        return checksum(self.read(index).tobytes())

    def header(self, index: int) -> Header | None:  # noqa: ARG002 nothing asks for it
        """Nothing is known before an image is read."""
        return None

    def read(self, index: int, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:
        """The pixels."""
        value = self.values[index]
        return decode(value, how) if isinstance(value, Path) else value


def as_images(given: Any) -> list[Path | NDArray[np.uint8]]:
    """The images in whatever was given, as paths and as uint8 arrays, channels last.

    RequestError for what is no image.
    """
    if _is_one(given):
        return [_as_image(given)]
    if isinstance(given, (dict, bytes)) or not isinstance(given, Iterable):
        raise RequestError(
            f"a {type(given).__name__} is no image and no images; expected paths, PIL images, "
            "arrays or tensors"
        )
    return [_as_image(one) for one in given]


def _is_one(given: Any) -> bool:
    if isinstance(given, (str, Path)) or _is_pil(given):
        return True
    if _is_tensor(given):
        return bool(given.ndim < 4)
    return isinstance(given, np.ndarray) and _is_one_array(given)


def _is_one_array(array: NDArray[Any]) -> bool:
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))


def _is_pil(given: Any) -> bool:
    return type(given).__module__.startswith("PIL.")


def _is_tensor(given: Any) -> bool:
    return type(given).__module__.partition(".")[0] == "torch"


def _as_image(given: Any) -> Path | NDArray[np.uint8]:
    if isinstance(given, (str, Path)):
        return Path(given)
    if _is_pil(given):
        return _of_pil(given)
    if _is_tensor(given):
        return _of_tensor(given)
    array = np.asarray(given)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    ):
        raise RequestError(
            f"an array {array.dtype} {list(array.shape)} is no image; expected uint8 "
            "[height, width, 3] in RGB, or [height, width]"
        )
    if 0 in array.shape:
        raise RequestError(f"an array {list(array.shape)} has no pixels")
    return array


def _of_pil(image: Any) -> NDArray[np.uint8]:
    """The pixels of a PIL image, as those of a file are read: upright, on white, 8 bits."""
    return pixels_of_opened(image)


def _of_tensor(tensor: Any) -> NDArray[np.uint8]:
    array = tensor.detach().cpu().numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8:
        array = _bytes_of(array)
    found = _as_image(np.ascontiguousarray(array))
    assert isinstance(found, np.ndarray)
    return found


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    is_share = array.dtype.kind == "f" and bool(np.isfinite(array).all())
    if not is_share or array.min() < 0 or array.max() > 1:
        raise RequestError(
            f"a tensor of {array.dtype} should hold values from 0 to 1, or be uint8 (0 to 255)"
        )
    return np.round(array * 255).astype(np.uint8)
