"""JPEG files give the pixels that Pillow gives, turned as they say."""

import numpy as np
import pytest
from images import PIXELS
from PIL import Image

from ensembler.data import decoding
from ensembler.data.decoding import decode


def test_a_jpeg_gives_the_pixels_that_pillow_gives(save):
    path = save(Image.fromarray(PIXELS), "x.jpg", quality=85)
    assert np.array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


def by_pillow(path):
    with Image.open(path) as opened:
        from PIL import ImageOps

        return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))


@pytest.fixture
def without_pillow(monkeypatch):
    def refuse(file):
        raise AssertionError("it went to Pillow")

    monkeypatch.setattr(decoding, "open_image", refuse)


def exif(orientation):
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    if orientation:
        tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(10))
def test_every_exif_orientation_is_applied_by_the_fast_decoder(
    save, without_pillow, orientation
):
    path = save(Image.fromarray(PIXELS[:17]), "x.jpg", exif=exif(orientation), quality=90)
    np.testing.assert_array_equal(decode(path), by_pillow(path))


XMP = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "options",
    [{"progressive": True}, {"keep_rgb": True}, {"subsampling": 0}, {"comment": "hi"}],
)
def test_jpegs_of_all_kinds_give_the_pixels_that_pillow_gives(
    save, without_pillow, options
):
    path = save(Image.fromarray(PIXELS), "x.jpg", quality=85, **options)
    np.testing.assert_array_equal(decode(path), by_pillow(path))


@pytest.mark.parametrize("orientation", [0, 1, 8])
def test_an_orientation_in_xmp_counts_where_exif_has_none(save, orientation):
    path = save(Image.fromarray(PIXELS), "x.jpg", exif=exif(orientation), xmp=XMP)
    np.testing.assert_array_equal(decode(path), by_pillow(path))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # by the reference
def test_broken_exif_is_no_reason_to_fail(save):
    path = save(Image.fromarray(PIXELS), "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    np.testing.assert_array_equal(decode(path), by_pillow(path))


# --- grey levels
# -----------------------------------------------------------------------------------------------------
