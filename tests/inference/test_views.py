import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from ensembler import own_code
from ensembler.errors import RequestError, UnknownNameError
from ensembler.inference import views
from ensembler.inference.spec import CustomView
from ensembler.inference.views import (
    FIXED,
    GROUPS,
    NUMBERED,
    expand_views,
    find_view,
    view_names,
)
from ensembler.registry import Registry

BATCH = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["hflip", "vflip", "transpose", "rot180", "transverse"])
def test_a_mirror_twice_restores_the_image(name):
    view = find_view(name)
    assert np.array_equal(view(view(BATCH)), BATCH)
    assert not np.array_equal(view(BATCH), BATCH)


def test_four_quarter_turns_restore_the_image_and_rot270_undoes_rot90():
    turned = BATCH
    for _ in range(4):
        turned = find_view("rot90")(turned)
    assert np.array_equal(turned, BATCH)
    assert np.array_equal(find_view("rot270")(find_view("rot90")(BATCH)), BATCH)


def test_d4_is_eight_different_views_closed_under_composition():
    seen = {view(BATCH).tobytes() for view in expand_views(["d4"])}
    assert len(seen) == 8
    d4 = [FIXED[name] for name in GROUPS["d4"]]
    assert {b(a(BATCH)).tobytes() for a in d4 for b in d4} == seen


@pytest.mark.parametrize("name", [n for n in view_names() if n not in GROUPS])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_keeps_shape_and_type_and_leaves_its_input_alone(name, channels):
    batch = BATCH[..., :channels].copy()
    out = expand_views([name])[0](batch)
    assert (out.shape, out.dtype) == (batch.shape, np.uint8)
    assert out.flags.c_contiguous
    assert np.array_equal(batch, BATCH[..., :channels])


def test_a_shift_moves_by_its_fraction():
    assert np.array_equal(find_view("shift_left_0.25")(BATCH)[:, :, :12], BATCH[:, :, 4:])
    assert np.array_equal(find_view("shift_down_0.25")(BATCH)[:, 4:], BATCH[:, :12])


def test_scale_one_and_brightness_one_change_nothing():
    assert np.array_equal(find_view("scale_1.0")(BATCH), BATCH)
    assert np.array_equal(find_view("brightness_1.0")(BATCH), BATCH)


def test_crops_spell_out_their_names_once():
    assert [v.name for v in expand_views(["five_crop", "crop_center", "identity"])] == [
        *GROUPS["five_crop"],
        "identity",
    ]
    assert len(expand_views(["ten_crop"])) == 10


def test_a_random_transform_of_a_view_is_drawn_once_for_all_images_and_versions():
    import albumentations as A

    view = expand_views(
        [CustomView(name="turned", transform={"Affine": {"rotate": [-30, 30]}})]
    )[0]
    batch = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = [
        A.Compose([A.Affine(rotate=(-30, 30), p=1)], seed=0)(image=image)["image"]
        for image in batch
    ]
    np.testing.assert_array_equal(view(batch), expected)


def test_a_view_of_ones_own_is_an_albumentations_transform():
    view = expand_views(
        [CustomView(name="blurred", transform={"Blur": {"blur_limit": [3, 3]}})]
    )[0]
    assert view.name == "blurred"
    assert np.array_equal(view(BATCH), view(BATCH))
    with pytest.raises(UnknownNameError, match="did you mean 'Blur'"):
        expand_views([CustomView(name="x", transform={"Blurr": {}})])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hflop", "did you mean 'hflip'"),
        ("scale_9", "scale_0.9"),
        ("shift_left_2", "shift_left"),
    ],
)
def test_an_unknown_view_names_the_nearest(name, hint):
    with pytest.raises(UnknownNameError, match=hint):
        expand_views([name])


def test_no_view_at_all_is_an_error():
    with pytest.raises(RequestError, match="the plain image is the view called identity"):
        expand_views([])


@pytest.mark.parametrize("numbered", NUMBERED, ids=lambda numbered: numbered.base)
def test_a_numbered_view_is_one_entry_whose_example_is_a_view(numbered):
    assert numbered.example in view_names()
    assert find_view(numbered.example)(BATCH).shape == BATCH.shape
    with pytest.raises(UnknownNameError):
        find_view(f"{numbered.base}_999")


OWN = """
import numpy as np

def negative(batch):
    return 255 - batch

def floats(batch):
    return batch / 2

def broken(batch):
    raise KeyError("no such image")

NUMBER = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "own_views_a.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_views_a"
    sys.modules.pop("own_views_a", None)
    own_code._digest.cache_clear()


def test_a_view_of_ones_own_is_called_after_its_place_and_its_file(mine, tmp_path):
    (view,) = expand_views([f"{mine}:negative"])
    place, _, digest = view.name.partition("@")
    assert place == f"{mine}:negative"
    assert np.array_equal(view(BATCH), 255 - BATCH)
    assert expand_views([view.name])[0].name == view.name
    with pytest.raises(
        RequestError, match="has changed: its predictions were made by another"
    ):
        expand_views([f"{place}@{digest[::-1]}"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("floats", r"returned float64 .*; expected uint8 \[\d+, .* as it was given"),
        ("broken", "failed on images .*KeyError: 'no such image'"),
        ("NUMBER", "is not a function of a batch of images"),
        ("missing", "has no 'missing'"),
    ],
)
def test_every_fault_of_a_view_is_one_error_that_names_it(mine, name, said):
    with pytest.raises(RequestError, match=f"view '{mine}:{name}'.*{said}"):
        expand_views([f"{mine}:{name}"])[0](BATCH)


def test_other_packages_add_views_that_hide_none_of_ours(mine, monkeypatch):
    added = [
        EntryPoint("negative", f"{mine}:negative", "ensembler.views"),
        EntryPoint("hflip", f"{mine}:negative", "ensembler.views"),
    ]
    monkeypatch.setattr("ensembler.registry.entry_points", lambda **_: added)
    monkeypatch.setattr(views, "_PLUGINS", Registry("view", "ensembler.views", {}))
    assert np.array_equal(find_view("negative")(BATCH), 255 - BATCH)
    assert np.array_equal(find_view("hflip")(BATCH), BATCH[:, :, ::-1])
    assert "negative" in view_names()
