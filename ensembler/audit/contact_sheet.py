"""A contact sheet: images as prepared, and as the augmentation of each member changes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment import build_augment, sample_seed
from ensembler.data.images import ChosenImages, fit_to_input
from ensembler.data.pixels import prepare_pixels
from ensembler.data.samples import read_samples
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

    A row shows the image as read, prepared, and augmented three times in each way. The images are
    of as many classes as possible; the augmentations are those of the recipe and of its members.
    """
    check_preview(out)
    samples = read_samples(spec.data, spec.folds)
    rows = _some_rows(samples.table[samples.targets[0]].to_numpy(dtype=object))
    chosen = ChosenImages(samples.images, rows)
    pixels = prepare_pixels(chosen, spec.input, cache_folder(artifacts))
    own = [
        m.augment
        for m in spec.members.values()
        if not isinstance(m, WITHOUT_EPOCHS) and m.augment is not None
    ]
    ways = {str(a): a for a in [spec.augment, *own]}
    augments = [
        build_augment(way, spec.input.size, spec.input.channels) for way in ways.values()
    ]
    lines = []
    for i in range(len(rows)):
        tiles = [_tile(chosen.read(i)), _tile(pixels[i])]
        for augment in augments:
            seen = [
                pixels[i] if augment is None else augment(pixels[i], sample_seed(i, d))
                for d in range(DRAWS)
            ]
            tiles += [_tile(image) for image in seen]
        lines.append(np.concatenate(tiles, axis=1))
    write_output(out, _png(np.concatenate(lines)))


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
