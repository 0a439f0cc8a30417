"""Image files decoded: the very pixels, within limits, and every fault named."""

import io
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from ensembler.data import decoding, decoding_memory
from ensembler.data.decoding import Decoding, decode
from ensembler.data.formats import read_header
from ensembler.errors import DataError, RequestError

RNG = np.random.default_rng(0)
PIXELS = np.kron(
    RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)
)  # 24 x 32


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
    assert decode(save(Image.fromarray(PIXELS).convert("CMYK"), "c.jpg")).shape == (
        24,
        32,
        3,
    )


def test_transparency_is_laid_on_white(save):
    rgba = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    assert (decode(save(Image.fromarray(rgba), "x.png")) == 255).all()


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


def test_warnings_are_as_they_were_after_many_threads_have_decoded(save):
    path = save(Image.fromarray(PIXELS), "x.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [path] * 64))
    assert warnings.filters == before


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # by the reference
def test_broken_exif_is_no_reason_to_fail(save):
    path = save(Image.fromarray(PIXELS), "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    np.testing.assert_array_equal(decode(path), by_pillow(path))


# --- grey levels
# -----------------------------------------------------------------------------------------------------


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

PEAK = """
import resource, sys
from pathlib import Path
import cv2
from PIL import Image
from ensembler.data.decoding import decode
Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = decode(Path(sys.argv[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * 1024 / (image.shape[0] * image.shape[1]))
"""


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "x.png"), ("RGBA", "x.png"), ("I;16", "x.png"), ("F", "x.tif")],
)
def test_a_large_image_takes_a_few_bytes_a_pixel(save, mode, name):
    path = save(Image.new(mode, (4000, 4000)), name)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < decoding_memory.BYTES_OF_OTHERS


def test_threads_wait_for_each_other_when_memory_is_short(save, monkeypatch):
    path = save(Image.fromarray(PIXELS), "x.png")
    cost = PIXELS.shape[0] * PIXELS.shape[1] * decoding_memory.BYTES_OF_OTHERS
    monkeypatch.setattr(
        decoding_memory, "_memory", decoding_memory.DecodingMemory(2 * cost)
    )
    lock, at_work, most = threading.Lock(), 0, 0
    convert = decoding.to_uint8

    def slow(image, bits):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return convert(image, bits)

    monkeypatch.setattr(decoding, "to_uint8", slow)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [path] * 16))
    assert most == 2


def test_an_image_larger_than_all_memory_is_decoded_alone(save, monkeypatch):
    monkeypatch.setattr(decoding_memory, "_memory", decoding_memory.DecodingMemory(10))
    path = save(Image.fromarray(PIXELS), "x.png")
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(image, PIXELS) for image in pool.map(decode, [path] * 8))


def test_a_process_made_while_others_decode_does_not_wait_for_them(save):
    path = save(Image.fromarray(PIXELS), "x.png")
    code = f"""
import os, sys, threading
from pathlib import Path
from ensembler.data import decoding, decoding_memory
held = threading.Event()
def hold():
    with decoding_memory._memory.taken(10**18):
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(decoding.decode(Path({str(path)!r})).shape[0])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["24"]
