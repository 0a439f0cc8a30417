from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ensembler.data.augment import (
    POLICIES,
    augment_version,
    build_augment,
    check_augment,
    sample_seed,
)
from ensembler.data.preset_augment import PresetAugment
from ensembler.data.presets import (
    PRESETS,
    Affine,
    Crop,
    Holes,
    Hue,
    Noise,
    Preset,
    Tone,
    draw,
)
from ensembler.errors import RequestError
from ensembler.training.batches import BatchSource

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)


LISTED = (
    {"Affine": {"rotate": [-20, 20], "p": 0.7}},
    {"OneOf": ["VerticalFlip", {"GaussNoise": {"p": 1}}]},
)


@pytest.mark.parametrize(
    "spec", [*[n for n in [*PRESETS, *POLICIES] if n != "none"], LISTED], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_augmentation_keeps_shape_and_depends_on_its_seed_alone(spec, channels):
    augment = build_augment(spec, 24, channels)
    image = np.ascontiguousarray(IMAGE[..., :channels])
    outs = [augment(image, seed) for seed in range(8)]
    assert all((o.shape, o.dtype) == (image.shape, np.uint8) for o in outs)
    assert len({o.tobytes() for o in outs}) > 2
    fresh = build_augment(spec, 24, channels)
    assert np.array_equal(fresh(image, 5), outs[5])


# Two transforms that leave a trace of their own in this image: what happened can be read off the
# corners.
CORNER = np.zeros((8, 8, 3), np.uint8)
CORNER[0, 0] = 255
MIRRORS = ("HorizontalFlip", "VerticalFlip")


def happened(spec, n=500):
    """Whether the white corner moved sideways, and whether it moved down, for `n` seeds: `[n, 2]`."""
    augment = build_augment(spec, 8, 3)
    corners = [
        np.argwhere(augment(CORNER, sample_seed("independence", i))[..., 0] == 255)[0]
        for i in range(n)
    ]
    return np.array(corners)[:, ::-1] > 0


@pytest.mark.parametrize(
    "spec",
    [
        tuple({name: {"p": 0.5}} for name in MIRRORS),
        tuple({"OneOf": {"transforms": [{name: {"p": 1}}], "p": 0.5}} for name in MIRRORS),
        tuple(
            {"Sequential": {"transforms": [{name: {"p": 1}}], "p": 0.5}} for name in MIRRORS
        ),
        ({"Sequential": {"transforms": [{name: {"p": 0.5}} for name in MIRRORS], "p": 1}},),
        (
            {"HorizontalFlip": {"p": 0.5}},
            {"OneOf": {"transforms": [{"Sequential": [{"VerticalFlip": {}}]}], "p": 1}},
        ),
        tuple(
            {"OneOf": {"transforms": [{name: {"p": 1}}, {"NoOp": {"p": 1}}], "p": 1}}
            for name in MIRRORS
        ),
        tuple({"torchvision": [f"Random{name}"]} for name in MIRRORS),
        "serialised",
    ],
    ids=[
        "list",
        "one-of",
        "sequential",
        "inside-sequential",
        "nested",
        "choices",
        "torchvision",
        "serialised",
    ],
)
def test_transforms_of_one_image_are_drawn_independently(spec):
    if spec == "serialised":
        import albumentations as A

        spec = A.to_dict(
            A.Compose([A.Compose([A.HorizontalFlip(p=0.5)]), A.VerticalFlip(p=0.5)])
        )
    seen = happened(spec)
    assert np.abs(seen.mean(axis=0) - 0.5).max() < 0.1
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.2


def test_what_a_preset_draws_is_drawn_independently():
    draws = [draw(PRESETS["heavy"], sample_seed("draws", i)) for i in range(1000)]
    mirrored = [np.linalg.det(np.array(d.warp)[:, :2]) < 0 for d in draws]
    warped = [abs(np.linalg.det(np.array(d.warp)[:, :2])) != 1 for d in draws]
    table = [
        mirrored,
        warped,
        *zip(
            *((d.colours is None, d.blur, d.noise, len(d.holes)) for d in draws),
            strict=True,
        ),
    ]
    correlations = np.corrcoef(np.array(table, float)) - np.eye(6)
    assert np.abs(correlations).max() < 0.15


def test_heavy_leaves_hardly_an_image_untouched():
    augment = build_augment("heavy", 24, 3)
    untouched = [
        np.array_equal(augment(IMAGE, sample_seed("untouched", i)), IMAGE)
        for i in range(2000)
    ]
    assert np.mean(untouched) < 0.02


def test_no_augmentation_is_nothing_to_do():
    assert build_augment("none", 24, 3) is None
    assert build_augment((), 24, 3) is None


def test_lists_serialised_forms_and_torchvision_transforms_are_taken():
    import albumentations as A

    listed = build_augment(
        ("HorizontalFlip", {"OneOf": ["VerticalFlip", {"Blur": {"p": 1}}]}), 24, 3
    )
    mixed = build_augment(
        (
            {"HorizontalFlip": {"p": 0.5}},
            {"torchvision": [{"RandomRotation": {"degrees": 20}}]},
        ),
        24,
        3,
    )
    serialised = build_augment(A.to_dict(A.Compose([A.HorizontalFlip(p=1)])), 24, 3)
    for augment in (listed, mixed):
        assert augment(IMAGE, 1).shape == IMAGE.shape
    assert np.array_equal(serialised(IMAGE, 0), IMAGE[:, ::-1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lite", "did you mean 'light'"),
        (("HorizontalFlipp",), "did you mean 'HorizontalFlip'"),
        (({"HorizontalFlip": {"prob": 1}},), "unknown argument 'prob' of HorizontalFlip"),
        (({"Affine": {"scale": "big"}},), "Affine"),
        (({"torchvision": ["RandAugmentt"]},), "did you mean 'RandAugment'"),
        (({"a": 1, "b": 2},), "one name with its arguments"),
        (
            {"transform": {"__class_fullname__": "os.system"}},
            "unknown albumentations transform 'system'",
        ),
        ({"nonsense": 1}, "serialised form"),
    ],
)
def test_what_is_not_there_is_named(spec, message):
    with pytest.raises(RequestError, match=message):
        check_augment(spec)


def test_no_two_samples_or_epochs_share_a_stream():
    seeds = {
        sample_seed(0, fold, epoch, row)
        for fold in range(3)
        for epoch in range(3)
        for row in range(300)
    }
    assert len(seeds) > 2690
    pixels = np.repeat(IMAGE[None], 6, axis=0)
    augment = build_augment("medium", 24, 3)
    rows = [np.arange(6)]
    one, two = (
        BatchSource(pixels, np.zeros(6, int), rows, augment, (0, 0, e)).images(0).numpy()
        for e in (1, 2)
    )
    assert len({image.tobytes() for image in one}) > 3
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"torchvision": [], "on": "gpu"}, "on: 'gpu'"),
        ({"torchvision": [], "where": "device"}, "'where'"),
        ({"preset": "light", "torchvision": []}, "'torchvision'"),
        ({"preset": "lite"}, "did you mean 'light'"),
        ({"preset": []}, "preset: .*name"),
        ({"transforms": "HorizontalFlip"}, "expected a list"),
    ],
)
def test_where_to_augment_is_checked(spec, message):
    with pytest.raises(RequestError, match=message):
        check_augment(spec)


@pytest.mark.parametrize(
    ("spec", "plain"),
    [
        ({"preset": "heavy", "on": "device"}, "heavy"),
        ({"preset": "randaugment"}, "randaugment"),
        (
            {"transforms": [{"HorizontalFlip": {"p": 1}}], "on": "cpu"},
            ({"HorizontalFlip": {"p": 1}},),
        ),
        (
            {"torchvision": ["RandAugment"], "on": "host"},
            ({"torchvision": ["RandAugment"]},),
        ),
    ],
    ids=str,
)
def test_the_place_where_it_is_wanted_changes_nothing_on_the_host(spec, plain):
    one, other = build_augment(spec, 24, 3), build_augment(plain, 24, 3)
    assert augment_version(spec) == augment_version(plain)
    for seed in range(5):
        assert np.array_equal(one(IMAGE, seed), other(IMAGE, seed))


def test_a_preset_s_geometry_is_the_map_that_torch_would_sample_by():
    preset = Preset(
        flip=0.5,
        crop=Crop(1, (0.5, 1.0)),
        affine=Affine(1, rotate=20, scale=0.2, shift=0.1),
    )
    smooth = np.random.default_rng(1).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(smooth).resize((32, 32), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    for seed in range(20):
        theta = torch.tensor(draw(preset, seed).warp)[None]
        grid = torch.nn.functional.affine_grid(
            theta, list(pixels.shape), align_corners=False
        )
        sampled = torch.nn.functional.grid_sample(
            pixels, grid, padding_mode="reflection", align_corners=False
        )
        expected = sampled[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(
            PresetAugment(preset, 32, 3)(image, seed), expected, atol=4
        )


@pytest.mark.parametrize("size", [23, 24])
def test_a_mirror_image_is_exact(size):
    image = IMAGE[:size, :size]
    assert np.array_equal(PresetAugment(Preset(flip=1), size, 3)(image, 0), image[:, ::-1])
    still = Preset(
        flip=1, affine=Affine(1, rotate=0, scale=0, shift=0), crop=Crop(1, (1, 1), (1, 1))
    )
    assert np.array_equal(PresetAugment(still, size, 3)(image, 0), image[:, ::-1])


def test_grey_stays_grey_and_a_grey_image_is_lit_as_a_colour_image():
    preset = Preset(tone=Tone(1, 0.3, 0.3), hue=Hue(1, 90, 0.5))
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    for seed in range(10):
        lit = PresetAugment(preset, 24, 3)(grey, seed)
        assert np.array_equal(lit, np.repeat(lit[..., :1], 3, axis=2))
        no_hue = replace(preset, hue=None)
        alone = PresetAugment(no_hue, 24, 1)(grey[..., :1], seed)
        np.testing.assert_array_equal(
            alone, PresetAugment(no_hue, 24, 3)(grey, seed)[..., :1]
        )


def test_colours_turn_by_the_angle_and_keep_their_mean():
    turned = [draw(Preset(hue=Hue(1, 40, 0)), seed).colours for seed in range(50)]
    for matrix in map(np.array, turned):
        assert np.allclose(matrix[:, 3], 0)
        assert np.allclose(matrix[:, :3].sum(axis=0), 1)
        assert np.allclose(matrix[:, :3] @ matrix[:, :3].T, np.eye(3))  # a rotation
        angle = np.degrees(np.arccos(np.clip((np.trace(matrix[:, :3]) - 1) / 2, -1, 1)))
        assert angle <= 40 + 1e-6


def test_holes_are_of_the_mean_colour_and_noise_is_as_strong_as_it_says():
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert np.array_equal(PresetAugment(Preset(holes=Holes(1, 3)), 64, 3)(flat, 1), flat)
    image = flat.copy()
    image[:32] = 150
    holed = PresetAugment(Preset(holes=Holes(1, 1, (0.25, 0.25))), 64, 3)(image, 1)
    assert (holed == 120).all(axis=2).sum() == 16 * 16
    noisy = PresetAugment(Preset(noise=Noise(1, (0.04, 0.04))), 64, 3)(flat, 1)
    assert abs(noisy.std() - 10.2) < 0.3
    assert abs(noisy.mean() - 90) < 0.3


def test_only_what_other_words_cannot_say_has_a_version():
    assert augment_version("light") != augment_version("medium")
    assert (
        augment_version(("HorizontalFlip",))
        == augment_version({"transform": {}})
        is not None
    )
    assert augment_version(({"torchvision": ["RandAugment"]}, "HorizontalFlip")) is not None
    for spec in (
        "none",
        (),
        "randaugment",
        ({"torchvision": ["RandAugment"]},),
        {"torchvision": [], "on": "device"},
    ):
        assert augment_version(spec) is None


def test_a_policy_of_torchvision_seeds_the_cpu_alone_and_puts_its_stream_back(monkeypatch):
    augment = build_augment("randaugment", 24, 3)
    policy = augment.pipeline
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)
    expected = []
    for seed in range(5):
        torch.manual_seed(seed)
        expected.append(policy(pixels).permute(1, 2, 0).numpy())

    def never(seed):
        raise AssertionError("another device was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", never)
    monkeypatch.setattr(torch.mps, "manual_seed", never)
    before = torch.get_rng_state()
    for seed, image in enumerate(expected):
        np.testing.assert_array_equal(augment(IMAGE, seed), image)
    assert torch.equal(torch.get_rng_state(), before)
