"""The images of a run or recipe as small pictures on a page, within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import EnsemblerError
from ensembler.predictions.store import RunStore
from ensembler.recipe.load import Recipe
from ensembler.reporting.page import Picture, Pictures

if TYPE_CHECKING:
    from ensembler.data.images import Images

SIDE = 112  # pixels of a picture's longer side
MOST = 120  # pictures of a page unless more or fewer are asked for
LIMIT = 200  # pictures that may be asked for
MOST_BYTES = 1_000_000  # of all pictures of a page
_QUALITY = 72


@dataclass
class Gallery:
    """Pictures of samples by their id, until the budget is used up."""

    images: Images
    position: dict[str, int]
    left: int = MOST
    bytes_left: int = MOST_BYTES
    unreadable: list[str] = field(default_factory=list)

    def sheet(
        self, title: str, ids: Sequence[str], lines: Sequence[Sequence[str]]
    ) -> Pictures | None:
        """The pictures of these samples with lines below each; None when none can be shown."""
        shown = []
        for name, said in zip(ids, lines, strict=True):
            picture = self.picture(name, said)
            if picture is not None:
                shown.append(picture)
        return Pictures(title, tuple(shown)) if shown else None

    def picture(self, name: str, lines: Sequence[str]) -> Picture | None:
        """One picture; None when the budget is used up or the image cannot be read."""
        if name not in self.position or self.left <= 0:
            return None
        source = self._source(self.position[name], name)
        if source is None or len(source) > self.bytes_left:
            return None
        self.left -= 1
        self.bytes_left -= len(source)
        return Picture(source, f"image {name}: {', '.join(lines)}", (name, *lines))

    def _source(self, position: int, name: str) -> str | None:
        from ensembler.data.decoding import Decoding

        try:
            image = self.images.read(position, Decoding(at_least=SIDE))
        except (EnsemblerError, OSError) as error:
            self.unreadable.append(f"image {name}: {error}")
            return None
        return as_source(image)


def as_source(image: NDArray[np.uint8], side: int = SIDE) -> str:
    """An image as a data URI, at most `side` pixels wide and high."""
    from PIL import Image

    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    picture = Image.fromarray(np.ascontiguousarray(squeezed))
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def gallery_of_run(store: RunStore, most: int) -> Gallery | str:
    """The images of a run; where there are none, why."""
    if not store.recipe_path.is_file():
        return "the run was not made from a recipe: there are no pictures to show"
    if not images_can_be_read():
        return "pictures need the extra 'train'"
    from ensembler.data.samples import read_samples

    try:
        spec = Recipe.load_recorded(store.recipe_path).spec
        samples = read_samples(spec.data, spec.folds, [])
    except (EnsemblerError, OSError) as error:
        return f"the run's images cannot be read: {error}"
    position = {name: i for i, name in enumerate(samples.table["id"].tolist())}
    return Gallery(samples.images, position, min(most, LIMIT))


def images_can_be_read() -> bool:
    """Whether what decodes images is installed."""
    return find_spec("cv2") is not None and find_spec("PIL") is not None
