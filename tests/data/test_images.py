import io

import numpy as np
import pytest
from PIL import Image

from ensembler.data.images import MAX_PIXELS, decode, fit_to_input
from ensembler.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))  # 24 x 32


@pytest.fixture
def save(tmp_path):
    def save(image, name, **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp"])
def test_lossless_files_give_their_very_pixels(save, name):
    options = {"lossless": True} if name == "x.webp" else {}
    assert np.array_equal(decode(save(Image.fromarray(PIXELS), name, **options)), PIXELS)


def test_a_jpeg_gives_the_pixels_that_pillow_gives(save):
    path = save(Image.fromarray(PIXELS), "x.jpg", quality=85)
    assert np.array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


def test_sixteen_bits_are_scaled_not_clipped(save):
    grey = (PIXELS[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    assert np.array_equal(decode(save(Image.fromarray(grey), "x.png")), PIXELS[..., 0])


def test_dark_sixteen_bit_images_stay_dark(save):
    values = np.full((4, 4), 200, np.uint16)
    assert decode(save(Image.fromarray(values), "dark.png")).max() <= 1


def test_grey_stays_grey_and_palettes_and_cmyk_become_colour(save):
    assert decode(save(Image.fromarray(PIXELS[..., 0]), "g.png")).ndim == 2
    assert decode(save(Image.fromarray(PIXELS).convert("P"), "p.png")).shape == (24, 32, 3)
    assert decode(save(Image.fromarray(PIXELS).convert("CMYK"), "c.jpg")).shape == (24, 32, 3)


def test_transparency_is_laid_on_white(save):
    rgba = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    assert (decode(save(Image.fromarray(rgba), "x.png")) == 255).all()


def test_an_exif_rotation_is_applied(save):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(PIXELS).rotate(90, expand=True), "x.jpg", exif=exif, quality=95)
    assert decode(path).shape == (24, 32, 3)
    assert np.abs(decode(path).astype(int) - PIXELS).mean() < 12


def test_the_first_frame_of_an_animation_counts(save):
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
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


def test_a_decompression_bomb_is_refused_unread(save, monkeypatch):
    monkeypatch.setattr("ensembler.data.images.MAX_PIXELS", 500)
    assert MAX_PIXELS > 500
    for name in ("bomb.png", "bomb.jpg"):
        with pytest.raises(DataError, match="32 x 24 pixels are more than 500"):
            decode(save(Image.fromarray(PIXELS), name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: there is no such image"):
        decode(tmp_path / "gone.png")


@pytest.mark.parametrize("resize", ["stretch", "fit", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image", [PIXELS, PIXELS[..., 0], PIXELS[:1, :1]])
def test_every_image_fits_the_input(resize, channels, image):
    out = fit_to_input(image, 16, channels, resize)
    assert (out.shape, out.dtype) == ((16, 16, channels), np.uint8)


def test_fit_keeps_the_proportions_and_crop_the_centre():
    white = np.full((10, 20, 3), 255, np.uint8)
    assert (fit_to_input(white, 20, 3, "fit")[:, 0, 0] > 0).sum() == 10
    striped = np.zeros((10, 30, 3), np.uint8)
    striped[:, 10:20] = 255
    assert (fit_to_input(striped, 10, 3, "crop") == 255).all()
