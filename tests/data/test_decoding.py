"""Image files decoded: the very pixels, and every fault named."""

import io

import numpy as np
import pytest
from images import PIXELS, RNG
from PIL import Image

from ensembler.data.decoding import decode
from ensembler.errors import DataError


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp"])
def test_lossless_files_give_their_very_pixels(save, name):
    options = {"lossless": True} if name == "x.webp" else {}
    assert np.array_equal(decode(save(Image.fromarray(PIXELS), name, **options)), PIXELS)


def test_an_exif_rotation_is_applied(save):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(
        Image.fromarray(PIXELS).rotate(90, expand=True), "x.jpg", exif=exif, quality=95
    )
    assert decode(path).shape == (24, 32, 3)
    assert np.abs(decode(path).astype(int) - PIXELS).mean() < 12


def test_the_first_frame_of_an_animation_counts(save):
    first, second = (
        Image.new("RGB", (8, 8), (250, 0, 0)),
        Image.new("RGB", (8, 8), (0, 0, 250)),
    )
    got = decode(save(first, "x.gif", save_all=True, append_images=[second]))
    assert got[0, 0, 0] > 200


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello", "not an image in a format that can be read"),
        (jpeg()[:900], "broken or cut short"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "broken or cut short|not an image"),
    ],
    ids=["empty", "text", "truncated", "half a header"],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cat\.jpg: ({message})"):
        decode(path)


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), AssertionError(), RuntimeError("decoder"), ZeroDivisionError("by 0")],
)
def test_whatever_a_decoder_raises_the_file_is_named(save, monkeypatch, error):
    def load(self):
        raise error

    path = save(Image.fromarray(PIXELS), "cat.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(DataError, match=r"cat\.png: broken or cut short"):
        decode(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: there is no such image"):
        decode(tmp_path / "gone.png")


# --- JPEG: OpenCV gives the pixels that Pillow gives
# -----------------------------------------------------------------
