"""Sizes that are not square: what they are called, and what becomes of images and views."""

import numpy as np
import pytest
from pydantic import ValidationError

from ensembler.data.albumentations_augment import AlbumentationsAugment
from ensembler.data.augment import build_augment
from ensembler.data.images import ArrayImages, fit_to_input
from ensembler.data.pixels import FilePixels, prepare_pixels
from ensembler.data.size import area, shown, sides
from ensembler.data.spec import InputSpec
from ensembler.errors import RequestError
from ensembler.inference.views import check_views_fit, expand_views
from ensembler.training.spec import MemberSpec

WIDE = (24, 40)


def test_one_number_is_a_square_and_two_are_height_and_width():
    assert InputSpec(size=[48, 48]) == InputSpec(size=48)
    seen = InputSpec(size=[24, 40], channels=1)
    assert (seen.shape, shown(seen.size), area(seen.size)) == ((24, 40, 1), "24x40", 960)
    assert sides(16) == (16, 16)
    assert MemberSpec(backbone="x", size=[24, 40]).seen_input(InputSpec()).size == WIDE


def test_a_recorded_size_is_read_as_it_was_given():
    seen = InputSpec(size=[24, 40])
    assert InputSpec.model_validate(seen.model_dump(mode="json")) == seen


@pytest.mark.parametrize("size", [4, [4, 32], [32], [8, 16, 24], "large", [32, 4096]])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValidationError):
        InputSpec(size=size)


def a_picture(height, width):
    """Left half black, right half white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return image


@pytest.mark.parametrize("resize", ["stretch", "fit", "pad", "crop"])
@pytest.mark.parametrize("picture", [(30, 90), (90, 30), (24, 40), (100, 16)])
def test_every_way_to_resize_gives_height_and_width(resize, picture):
    out = fit_to_input(a_picture(*picture), WIDE, 3, resize)
    assert out.shape == (24, 40, 3)
    row = out[12, :, 0].astype(int)
    if resize == "fit":
        row = row[: row.argmax() + 1]  # what follows is its border
    assert (np.diff(row) >= 0).all()
    assert (row[0], row[-1]) == (0, 255)


def test_a_crop_keeps_the_ratio_of_the_sides_and_a_fit_all_of_the_picture():
    picture = np.broadcast_to(np.arange(120, dtype=np.uint8)[None, :, None], (24, 120, 3))
    crop = fit_to_input(picture, WIDE, 1, "crop")[..., 0]
    assert crop[0].tolist() == list(
        range(40, 80)
    )  # 40 of the 120 columns, about the centre
    fit = fit_to_input(np.full((24, 120, 3), 200, np.uint8), WIDE, 1, "fit")[..., 0]
    assert (fit[8:16] == 200).all()
    assert not fit[:8].any()
    assert not fit[16:].any()


def test_pixels_of_both_sides_are_kept_apart_from_square_ones(tmp_path):
    images = ArrayImages(np.stack([a_picture(30, 50)] * 3), "drawn")
    wide = prepare_pixels(images, InputSpec(size=WIDE), tmp_path)
    assert wide.shape == (3, 24, 40, 3) == FilePixels(images, InputSpec(size=WIDE)).shape
    assert prepare_pixels(images, InputSpec(size=[40, 24]), tmp_path).shape == (
        3,
        40,
        24,
        3,
    )
    assert len(list(tmp_path.glob("pixels-24x40x3-*.npy"))) == 1


@pytest.mark.parametrize(
    "augment", ["light", "heavy", "randaugment", ["Transpose", "RandomResizedCrop"]]
)
def test_augmented_images_keep_their_sides(augment):
    drawn = build_augment(augment, WIDE, 3)
    image = np.random.default_rng(0).integers(0, 256, (*WIDE, 3)).astype(np.uint8)
    for seed in range(4):
        out = drawn(image, seed)
        assert out.shape == (*WIDE, 3)
        assert (out == drawn(image, seed)).all()


def test_a_view_that_swaps_the_sides_is_refused_and_others_keep_them():
    for view in ("d4", "rot90", "transpose"):
        with pytest.raises(
            RequestError, match="swaps height and width, and images of 24x40"
        ):
            check_views_fit(expand_views([view]), WIDE)
    check_views_fit(expand_views(["d4"]), 24)
    kept = expand_views(["hflip", "rot180", "five_crop", "scale_0.8", "shift_left"])
    check_views_fit(kept, WIDE)
    batch = np.random.default_rng(0).integers(0, 256, (2, *WIDE, 3)).astype(np.uint8)
    assert {view(batch).shape for view in kept} == {batch.shape}


def test_a_transform_as_a_view_gives_images_of_both_sides():
    turned = AlbumentationsAugment([{"Transpose": {"p": 1.0}}], WIDE, 3)
    assert turned.as_view(a_picture(*WIDE)).shape == (*WIDE, 3)
