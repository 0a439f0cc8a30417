"""Pixels of every kind become uint8: nothing is clipped, and nothing goes dark."""

import cv2
import numpy as np
import pytest
from images import PIXELS
from PIL import Image

from ensembler.data.decoding import Decoding, decode
from ensembler.data.formats import read_header


def test_sixteen_bits_are_scaled_not_clipped(save):
    grey = (PIXELS[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    assert np.array_equal(decode(save(Image.fromarray(grey), "x.png")), PIXELS[..., 0])


def test_dark_sixteen_bit_images_stay_dark(save):
    values = np.full((4, 4), 200, np.uint16)
    assert decode(save(Image.fromarray(values), "dark.png")).max() <= 1


def test_grey_stays_grey_and_palettes_and_cmyk_become_colour(save):
    assert decode(save(Image.fromarray(PIXELS[..., 0]), "g.png")).ndim == 2
    assert decode(save(Image.fromarray(PIXELS).convert("P"), "p.png")).shape == (24, 32, 3)
    assert decode(save(Image.fromarray(PIXELS).convert("CMYK"), "c.jpg")).shape == (
        24,
        32,
        3,
    )


def test_transparency_is_laid_on_white(save):
    rgba = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    assert (decode(save(Image.fromarray(rgba), "x.png")) == 255).all()


def test_a_tiff_of_twelve_bits_uses_all_grey_levels(tmp_path):
    levels = np.linspace(0, 4095, 64).astype(np.uint16).reshape(4, 16)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff_of_12_bits(levels))
    assert read_header(path).bits == 12
    np.testing.assert_array_equal(
        decode(path), np.round(levels * (255 / 4095)).astype(np.uint8)
    )


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_twelve_bits_use_all_levels_when_it_is_said(tmp_path, name, channels):
    levels = (
        np.linspace(0, 4095, 8 * 8 * channels).astype(np.uint16).reshape(8, 8, channels)
    )
    levels[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / name), levels)  # as blue, green, red
    expected = np.round(levels[..., 2::-1] * (255 / 4095)).astype(np.uint8)
    assert np.array_equal(decode(tmp_path / name, Decoding(bits=12)), expected)
    assert decode(tmp_path / name).max() < 17


def tiff_of_12_bits(levels):
    """A grey TIFF whose samples are packed, two in three bytes."""
    height, width = levels.shape
    pairs = levels.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12) | pairs[:, 1]
    data = (
        np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
        .astype(np.uint8)
        .tobytes()
    )
    tags = [
        (256, width),
        (257, height),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
    ]
    entries = [(tag, value) for tag, value in [*tags, (279, len(data))]]
    ifd = len(entries).to_bytes(2, "little")
    for tag, value in entries:
        ifd += (
            tag.to_bytes(2, "little")
            + (4).to_bytes(2, "little")
            + (1).to_bytes(4, "little")
        )
        ifd += value.to_bytes(4, "little")
    return b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data + ifd + bytes(4)


def test_a_float_image_with_holes_is_read(tmp_path):
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "x.tif")
    out = decode(tmp_path / "x.tif")
    assert out[0, 0] == 0
    assert (out[1:] == 128).all()


# --- memory
# ----------------------------------------------------------------------------------------------------------
