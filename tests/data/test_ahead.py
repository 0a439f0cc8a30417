import threading
import time

import numpy as np
import pytest

from ensembler.data.ahead import PixelsAhead, prepared_ahead, settled
from ensembler.data.images import ArrayImages
from ensembler.data.pixels import prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.errors import DataError, ImageError
from ensembler.progress import RecordedProgress

SPEC = InputSpec(size=8)
ARRAY = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)


class Held(ArrayImages):
    """Images that can be read once `let_go` is set; the third is broken when it says so."""

    let_go = threading.Event()
    n_read = 0
    broken = False

    def read(self, index, how=None):
        assert self.let_go.wait(30)
        type(self).n_read += 1
        if self.broken and index == 3:
            raise ImageError.of("x.png", "is broken")
        return self.array[index]


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setattr(Held, "let_go", threading.Event())
    monkeypatch.setattr(Held, "n_read", 0)
    return Held(ARRAY, "held")


def test_the_block_goes_on_until_it_asks_for_an_image(held, tmp_path):
    progress = RecordedProgress()
    with prepared_ahead(held, SPEC, tmp_path, progress) as pixels:
        assert isinstance(pixels, PixelsAhead)
        assert pixels.shape == ARRAY.shape
        assert held.n_read == 0
        held.let_go.set()
        assert np.array_equal(pixels[np.array([2, 1])], ARRAY[[2, 1]])
        whole = settled(pixels)
    assert np.array_equal(whole, prepare_pixels(held, SPEC, tmp_path))
    assert settled(whole) is whole
    assert progress.steps[-1] == ("decoding images", 70, 70)


def test_what_is_wrong_with_images_is_said_to_whoever_asks_for_one(
    held, tmp_path, monkeypatch
):
    monkeypatch.setattr(Held, "broken", True)
    held.let_go.set()
    with prepared_ahead(held, SPEC, tmp_path) as pixels:
        with pytest.raises(DataError, match="1 images cannot be read"):
            pixels[0]
        with pytest.raises(DataError, match="1 images cannot be read"):
            settled(pixels)


def test_a_block_that_fails_ends_the_preparing(held, tmp_path):
    began = time.monotonic()
    with pytest.raises(KeyError), prepared_ahead(held, SPEC, tmp_path):
        threading.Timer(0.05, held.let_go.set).start()
        raise KeyError("weights")
    assert time.monotonic() - began < 30
    assert not list(tmp_path.glob("pixels-*.npy"))
