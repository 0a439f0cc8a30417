import numpy as np
import pytest
from PIL import Image

from ensembler import Recipe
from ensembler.audit.contact_sheet import write_preview
from ensembler.data.images import fit_to_input
from ensembler.data.prepare import build_steps, prepare, without_background
from ensembler.data.spec import InputSpec
from ensembler.demo.shapes import write_shapes
from ensembler.errors import RequestError, UnknownNameError


@pytest.fixture
def photograph():
    """A bright disc before a noisy dark background."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:80, :100]
    disc = (y - 40) ** 2 + (x - 50) ** 2 < 22**2
    image = np.where(disc[:, :, None], [220, 60, 50], [30, 70, 40]) + rng.normal(
        0, 6, (80, 100, 3)
    )
    return np.clip(image, 0, 255).astype(np.uint8), disc


def test_a_centre_crop_keeps_the_share_in_the_middle(photograph):
    image, _ = photograph
    cropped = prepare(image, build_steps([{"center_crop": 0.5}]))
    assert cropped.shape == (40, 50, 3)
    assert np.array_equal(cropped, image[20:60, 25:75])
    assert prepare(image, build_steps([{"crop": [0, 0, 0.5, 1]}])).shape == (80, 50, 3)


def test_steps_follow_each_other_and_grey_is_grey(photograph):
    image, _ = photograph
    out = prepare(image, build_steps([{"center_crop": 0.5}, "grey", {"clahe": 3}]))
    assert out.shape == (40, 50)
    assert fit_to_input(out, 16, 3, "stretch").shape == (16, 16, 3)


def test_clahe_raises_contrast_and_keeps_colour_images_in_colour():
    dull = np.linspace(100, 130, 64 * 64).reshape(64, 64).astype(np.uint8)
    image = np.stack([dull, dull, dull // 2], axis=2)
    out = prepare(image, build_steps(["clahe"]))
    assert out.std() > image.std()
    assert out.shape == image.shape


def test_grabcut_finds_the_disc_and_greys_what_is_behind_it(photograph):
    image, disc = photograph
    out = without_background(image, (0.1, 0.05, 0.9, 0.95))
    kept = (out != 127).any(axis=2)
    assert (kept == disc).mean() > 0.97
    assert np.array_equal(out[kept], image[kept])
    assert np.array_equal(out, without_background(image, (0.1, 0.05, 0.9, 0.95)))


def test_grabcut_leaves_an_image_without_a_foreground_alone():
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert np.array_equal(without_background(flat, (0.1, 0.1, 0.9, 0.9)), flat)


def test_a_function_of_ones_own_prepares_and_is_checked(tmp_path, monkeypatch, photograph):
    (tmp_path / "mine.py").write_text(
        "def flip(image): return image[::-1]\ndef wrong(image): return image / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    image, _ = photograph
    assert np.array_equal(prepare(image, build_steps(["mine:flip"])), image[::-1])
    with pytest.raises(
        RequestError, match=r"returned float64 \[80, 100, 3\], expected uint8"
    ):
        prepare(image, build_steps(["mine:wrong"]))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("grabkut", "did you mean 'grabcut'"),
        ({"center_crop": 2}, "expected the share"),
        ({"crop": [0.5, 0, 0.2, 1]}, r"expected \[left, top, right, bottom\]"),
        ({"clahe": -1}, "expected a clip limit"),
        ({"grey": 3}, "takes no argument"),
        ({"a": 1, "b": 2}, "expected a name"),
        ("rembg", "nothing is downloaded"),
    ],
)
def test_steps_that_do_not_fit_are_refused(step, message, monkeypatch, tmp_path):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    with pytest.raises((RequestError, UnknownNameError), match=message):
        build_steps([step])


def test_padding_repeats_the_edges():
    wide = (
        np.arange(40, dtype=np.uint8).reshape(1, 40, 1).repeat(20, axis=0).repeat(3, axis=2)
    )
    padded = fit_to_input(wide, 40, 3, "pad")
    assert padded.shape == (40, 40, 3)
    assert np.array_equal(padded[0], padded[20])
    assert (fit_to_input(wide, 40, 3, "fit")[0] == 0).all()


def test_prepared_pixels_have_a_cache_of_their_own_and_reach_the_sheet(tmp_path):
    from ensembler.data.pixels import prepare_pixels
    from ensembler.data.samples import read_samples

    write_shapes(tmp_path, n=20)
    text = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(
        text.replace("{size: 32}", "{size: 32, prepare: [{center_crop: 0.5}]}")
    )
    spec = Recipe.load(tmp_path / "recipe.yaml").spec
    images = read_samples(spec.data, spec.folds).images
    plain = prepare_pixels(images, InputSpec(size=32), tmp_path / "cache")
    cropped = prepare_pixels(images, spec.input, tmp_path / "cache")
    assert not np.array_equal(plain, cropped)
    assert np.array_equal(
        cropped[3], fit_to_input(images.read(3)[12:36, 12:36], 32, 3, "stretch")
    )
    write_preview(spec, tmp_path / "a", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (96 * 5, 96 * 8)
    with pytest.raises(RequestError, match="expected the name of a PNG"):
        write_preview(spec, tmp_path / "a", tmp_path / "sheet.jpg")
