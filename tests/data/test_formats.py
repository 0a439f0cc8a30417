"""Which files are images, and how large they may be."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from images import PIXELS
from PIL import Image

from ensembler.data.decoding import decode
from ensembler.data.formats import read_header
from ensembler.errors import DataError, RequestError


def test_an_image_with_too_many_pixels_is_refused_unread_and_the_limit_can_be_raised(
    save, monkeypatch
):
    monkeypatch.setenv("ENS_MAX_MEGAPIXELS", "0.0005")
    for name in ("bomb.png", "bomb.jpg"):
        with pytest.raises(
            DataError,
            match=rf"{name}: 32 x 24 pixels are more than 0.0005 megapixels.*ENS_MAX_MEGAPIX",
        ):
            decode(save(Image.fromarray(PIXELS), name))
    monkeypatch.setenv("ENS_MAX_MEGAPIXELS", "0.001")
    assert decode(save(Image.fromarray(PIXELS), "large.png")).shape == PIXELS.shape


def test_thirty_megapixels_are_the_limit(tmp_path):
    Image.new("1", (6000, 5001)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="6000 x 5001 pixels are more than 30 megapixels"):
        decode(tmp_path / "bomb.png")


@pytest.mark.parametrize("given", ["many", "0", "-5", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(save, monkeypatch, given):
    path = save(Image.fromarray(PIXELS), "x.png")
    monkeypatch.setenv("ENS_MAX_MEGAPIXELS", given)
    with pytest.raises(RequestError, match="ENS_MAX_MEGAPIXELS"):
        decode(path)


def test_a_limit_above_that_of_pillow_holds(save, monkeypatch):
    path = save(Image.fromarray(PIXELS), "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(path).shape == PIXELS.shape


def test_postscript_that_is_called_an_image_starts_no_program(save, monkeypatch):
    started = []
    monkeypatch.setattr(
        "PIL.EpsImagePlugin.Ghostscript", lambda *given, **_: started.append(given)
    )
    path = save(Image.fromarray(PIXELS), "cat.png", format="EPS")
    with pytest.raises(
        DataError, match=r"cat\.png: not an image in a format that can be read \(JPEG, PNG"
    ):
        decode(path)
    assert not started
    assert read_header(path) is None


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "PCX", "JPEG2000"])
def test_formats_that_are_not_promised_are_refused_by_content(save, kind):
    path = save(Image.fromarray(PIXELS), "x.png", format=kind)
    with pytest.raises(DataError, match="not an image in a format that can be read"):
        decode(path)


def test_warnings_are_as_they_were_after_many_threads_have_decoded(save):
    path = save(Image.fromarray(PIXELS), "x.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [path] * 64))
    assert warnings.filters == before
