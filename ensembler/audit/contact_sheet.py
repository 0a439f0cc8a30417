"""A contact sheet: images as prepared, and as the augmentation of each member changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment import build_augment, sample_seed
from ensembler.data.augment_steps import Augment
from ensembler.data.images import ChosenImages, fit_to_input
from ensembler.data.pixels import Pixels, prepare_pixels
from ensembler.data.samples import read_samples
from ensembler.data.spec import AugmentSpec, InputSpec
from ensembler.errors import RequestError
from ensembler.outputs import check_output, write_output
from ensembler.predictions.store import cache_folder
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import WITHOUT_EPOCHS

ROWS = 8
TILE = 96
DRAWS = 3  # augmented versions for each augmentation


def write_preview(spec: RecipeSpec, artifacts: Path, out: Path) -> None:
    """Write a PNG with one row for each of some train images.

    A row shows the image as read, then for the recipe's input and each one of a member's own the
    image prepared, and augmented three times in each way. The images are of as many classes as
    possible; the augmentations are those of the recipe and of its members.
    """
    check_preview(out)
    write_output(out, _png(np.concatenate(preview_lines(spec, artifacts))))


def preview_lines(spec: RecipeSpec, artifacts: Path) -> list[NDArray[np.uint8]]:
    """The rows of the sheet as images, one for each of some train images."""
    samples = read_samples(spec.data, spec.folds)
    rows = _some_rows(samples.table[samples.targets[0]].to_numpy(dtype=object))
    chosen = ChosenImages(samples.images, rows)
    ways = [
        _Way.of(seen, augments, chosen, artifacts) for seen, augments in _ways_to_see(spec)
    ]
    lines = []
    for i in range(len(rows)):
        tiles = [_tile(chosen.read(i))]
        for way in ways:
            tiles += way.tiles(i)
        lines.append(np.concatenate(tiles, axis=1))
    return lines


def _ways_to_see(spec: RecipeSpec) -> list[tuple[InputSpec, list[AugmentSpec]]]:
    """The inputs of the recipe and its members, each with how its images are augmented."""
    found: dict[str, tuple[InputSpec, dict[str, AugmentSpec]]] = {}
    usual = (spec.input, spec.augment)
    own = [
        (member.seen_input(spec.input), member.augment or spec.augment)
        for member in spec.members.values()
        if not isinstance(member, WITHOUT_EPOCHS)
    ]
    for seen, augment in [usual, *own]:
        _, augments = found.setdefault(seen.model_dump_json(), (seen, {}))
        augments[str(augment)] = augment
    return [(seen, list(augments.values())) for seen, augments in found.values()]


@dataclass(frozen=True)
class _Way:
    """Images prepared in one way, and how they are augmented."""

    pixels: Pixels
    augments: Sequence[Augment | None]

    @classmethod
    def of(
        cls,
        seen: InputSpec,
        augments: Sequence[AugmentSpec],
        images: ChosenImages,
        artifacts: Path,
    ) -> _Way:
        pixels = prepare_pixels(images, seen, cache_folder(artifacts))
        built = [build_augment(augment, seen.size, seen.channels) for augment in augments]
        return cls(pixels, built)

    def tiles(self, i: int) -> list[NDArray[np.uint8]]:
        """An image as it is prepared, then as each augmentation draws it."""
        tiles = [_tile(self.pixels[i])]
        for augment in self.augments:
            drawn = [
                self.pixels[i]
                if augment is None
                else augment(self.pixels[i], sample_seed(i, d))
                for d in range(DRAWS)
            ]
            tiles += [_tile(image) for image in drawn]
        return tiles


def check_preview(out: Path) -> None:
    """Raise RequestError when no preview can be written to `out`."""
    if out.suffix.lower() != ".png":
        raise RequestError(f"--preview {out}: expected the name of a PNG file")
    check_output(out)


def _some_rows(labels: NDArray[np.object_]) -> list[int]:
    """Rows of as many classes as possible, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    known = [i for i in rng.permutation(len(labels)).tolist() if isinstance(labels[i], str)]
    first_of_class = {labels[i]: i for i in reversed(known)}
    rest = [i for i in known if i not in set(first_of_class.values())]
    return [*first_of_class.values(), *rest][:ROWS]


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    tile = fit_to_input(squeezed, TILE - 4, 3, "fit")
    return np.pad(tile, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _png(sheet: NDArray[np.uint8]) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    return buffer.getvalue()
