"""Lists on a device beside the same lists on the host: equal numbers, equal pictures."""

import numpy as np
import pytest
import torch
from scipy import stats

from ensembler.data.augment import build_augment, sample_seed
from ensembler.data.counters import Streams, keys_of
from ensembler.data.on_device.choose import device_augment
from ensembler.data.on_device.geometry import Geometry
from ensembler.data.on_device.parts import NotOnDevice

SIZE = 24
N = 400


def picture(channels=3):
    """A picture that looks different turned, mirrored, moved and in each colour."""
    small = (
        np.random.default_rng(3).integers(0, 256, (1, channels, 5, 5)).astype(np.float32)
    )
    large = torch.nn.functional.interpolate(torch.from_numpy(small), SIZE, mode="bicubic")
    return large.clamp(0, 255).byte()[0].permute(1, 2, 0).contiguous().numpy()


def on_host(spec, n, channels=3):
    augment = build_augment(spec, SIZE, channels)
    image = picture(channels)
    return np.stack([augment(image, sample_seed("host", i)) for i in range(n)])


def on_device(spec, n, channels=3):
    augment = device_augment(spec, SIZE, channels)
    streams = Streams(keys_of((0, 0, 1), np.arange(n), np.zeros(n, np.int64)))
    images = torch.from_numpy(np.repeat(picture(channels)[None], n, axis=0))
    found = augment.apply(images.permute(0, 3, 1, 2), augment.draw(streams))
    return found.permute(0, 2, 3, 1).numpy()


def torchvision(*steps):
    return {"torchvision": list(steps)}


# Without anything left to chance, both give one picture; the last number is the largest part of
# values that may differ by more than 3: torchvision blends what is beyond the edges another way.
CERTAIN = [
    (({"HorizontalFlip": {"p": 1}},), 0),
    (({"VerticalFlip": {"p": 1}},), 0),
    (({"Transpose": {"p": 1}},), 0),
    (({"Rotate": {"limit": [17, 17], "p": 1}},), 0.02),
    (({"Rotate": {"limit": [17, 17], "fill": 90, "p": 1}},), 0.02),
    (({"Rotate": {"limit": [-30, -30], "border_mode": 2, "p": 1}},), 0.02),
    (
        (
            {
                "Affine": {
                    "scale": {"x": [1.2, 1.2], "y": [0.8, 0.8]},
                    "translate_percent": {"x": [0.1, 0.1], "y": [-0.2, -0.2]},
                    "rotate": [25, 25],
                    "shear": {"x": [10, 10], "y": [-5, -5]},
                    "p": 1,
                }
            },
        ),
        0.03,
    ),
    (({"Affine": {"translate_px": {"x": [3, 3], "y": [-2, -2]}, "p": 1}},), 0),
    (
        (
            {
                "RandomBrightnessContrast": {
                    "brightness_limit": [0.1, 0.1],
                    "contrast_limit": [-0.2, -0.2],
                    "p": 1,
                }
            },
        ),
        0,
    ),
    (({"ToGray": {"p": 1}},), 0),
    (({"InvertImg": {"p": 1}},), 0),
    (torchvision({"RandomHorizontalFlip": {"p": 1}}), 0),
    (torchvision({"RandomVerticalFlip": {"p": 1}}), 0),
    (torchvision({"RandomRotation": {"degrees": [33, 33]}}), 0.02),
    (
        torchvision(
            {
                "RandomRotation": {
                    "degrees": [-12, -12],
                    "interpolation": "bilinear",
                    "fill": 70,
                }
            }
        ),
        0.08,
    ),
    (
        torchvision(
            {
                "RandomAffine": {
                    "degrees": [20, 20],
                    "scale": [1.1, 1.1],
                    "shear": [8, 8, -6, -6],
                    "interpolation": "bilinear",
                }
            }
        ),
        0.08,
    ),
    (torchvision({"RandomGrayscale": {"p": 1}}), 0),
    (torchvision({"RandomInvert": {"p": 1}}), 0),
    (torchvision({"ColorJitter": {"brightness": [1.3, 1.3]}}), 0),
    (torchvision({"ColorJitter": {"contrast": [0.6, 0.6]}}), 0),
    (torchvision({"ColorJitter": {"saturation": [1.8, 1.8]}}), 0),
    (torchvision({"GaussianBlur": {"kernel_size": 5, "sigma": [1.3, 1.3]}}), 0),
    # a warp that looks beyond the edges after a crop is one of its own
    (
        (
            {"VerticalFlip": {"p": 1}},
            {"Rotate": {"limit": [17, 17], "p": 1}},
            {"Rotate": {"limit": [-40, -40], "p": 1}},
            {"Transpose": {"p": 1}},
        ),
        0.03,
    ),
]


@pytest.mark.parametrize(("spec", "share"), CERTAIN, ids=str)
def test_equal_numbers_give_the_picture_of_the_host(spec, share):
    host, device = (made(spec, 2)[0].astype(int) for made in (on_host, on_device))
    difference = np.abs(host - device)
    assert (difference > 3).mean() <= share
    assert difference.mean() < 1.5
    assert np.abs(host - picture()).mean() > 2  # something happened


@pytest.mark.parametrize("name", ["ToGray", "ColorJitter"])
def test_a_grey_image_stays_what_it_is_where_only_colour_is_taken(name):
    spec = (
        torchvision({"ColorJitter": {"saturation": [0, 3]}})
        if name == "ColorJitter"
        else torchvision({"RandomGrayscale": {"p": 1}})
    )
    found = on_device(spec, 3, channels=1)
    assert np.abs(found.astype(int) - picture(1)).max() <= 1


CHANCES = [
    ("HorizontalFlip", {"VerticalFlip": {"p": 0.3}}),
    ("Transpose",),
    ("RandomRotate90",),
    ("D4",),
    ("SquareSymmetry",),
    ({"Rotate": {"limit": 40}},),
    (
        {
            "Affine": {
                "scale": [0.7, 1.2],
                "translate_percent": [-0.2, 0.1],
                "rotate": [-10, 40],
                "shear": [-10, 20],
                "p": 0.8,
            }
        },
    ),
    (
        {
            "Affine": {
                "translate_px": [-3, 5],
                "keep_ratio": True,
                "scale": [0.8, 1.3],
                "p": 1,
            }
        },
    ),
    ({"RandomResizedCrop": {"scale": [0.2, 0.8], "ratio": [0.5, 1.5]}},),
    ({"RandomResizedCrop": {"scale": [0.9, 1.0], "ratio": [0.4, 3.0]}},),
    ({"RandomBrightnessContrast": {"p": 0.7}},),
    ({"ToGray": {"p": 0.4}}, {"InvertImg": {"p": 0.6}}),
    ({"GaussNoise": {"std_range": [0.02, 0.1], "p": 0.8}},),
    ({"CoarseDropout": {"num_holes_range": [1, 3], "p": 0.7}},),
    (
        {
            "CoarseDropout": {
                "hole_height_range": [3, 8],
                "hole_width_range": [2, 5],
                "fill": 128,
            }
        },
    ),
    torchvision("RandomHorizontalFlip", {"RandomVerticalFlip": {"p": 0.3}}),
    torchvision({"RandomRotation": {"degrees": 30}}),
    torchvision(
        {
            "RandomAffine": {
                "degrees": 20,
                "translate": [0.1, 0.3],
                "scale": [0.7, 1.2],
                "shear": 15,
            }
        }
    ),
    torchvision({"RandomResizedCrop": {"scale": [0.2, 0.9]}}),
    torchvision({"ColorJitter": {"brightness": 0.4, "contrast": 0.5, "saturation": 0.6}}),
    torchvision({"RandomErasing": {"p": 0.6}}),
    torchvision({"RandomErasing": {"value": 77, "scale": [0.5, 0.99], "ratio": [0.5, 2]}}),
    torchvision({"GaussianBlur": {"kernel_size": 5}}),
    ({"HorizontalFlip": {"p": 0.5}}, torchvision({"RandomRotation": {"degrees": 30}})),
]


@pytest.mark.parametrize("spec", CHANCES, ids=str)
def test_pictures_of_both_are_distributed_alike(spec):
    host, device = traits(on_host(spec, N)), traits(on_device(spec, N))
    for name in host:
        assert stats.ks_2samp(host[name], device[name], method="asymp").pvalue > 1e-3, name


def traits(images):
    """Where pictures are bright, by colour, and how much they vary: what any change changes.

    Rounded, so that the small differences of interpolation make no ties into differences.
    """
    x = np.linspace(-1, 1, SIZE)
    weights = images.astype(float)
    return {
        "red": (weights[..., 0].mean(axis=(1, 2)) / 2).round(),
        "blue": (weights[..., 2].mean(axis=(1, 2)) / 2).round(),
        "x": ((weights.mean(axis=3) * x).mean(axis=(1, 2)) / 2).round(),
        "y": ((weights.mean(axis=3) * x[:, None]).mean(axis=(1, 2)) / 2).round(),
        "deviation": (weights.std(axis=(1, 2, 3)) / 2).round(),
    }


def test_geometry_that_follows_geometry_is_one_warp_where_that_is_the_same():
    def warps(*steps):
        return [isinstance(s, Geometry) for s in device_augment(steps, SIZE, 3).stages]

    turn, crop = {"Rotate": {"limit": 10}}, "RandomResizedCrop"
    assert warps("HorizontalFlip", turn, crop, "Transpose") == [True]
    assert warps(crop, turn) == [True, True]
    assert warps("HorizontalFlip", "InvertImg", turn) == [True, False, True]


def test_each_transform_of_a_list_is_drawn_by_itself():
    spec = (
        {"HorizontalFlip": {"p": 0.5}},
        {"InvertImg": {"p": 0.5}},
        {"InvertImg": {"p": 0.5}},
    )
    augment = device_augment(spec, SIZE, 3)
    streams = Streams(keys_of((0, 0, 1), np.arange(2000), np.zeros(2000, np.int64)))
    flips, one, other = (drawn.values[:, 0] for drawn in augment.draw(streams).stages)
    correlations = np.corrcoef([flips, one, other]) - np.eye(3)
    assert np.abs(correlations).max() < 0.1


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (("HorizontalFlip", {"OneOf": ["VerticalFlip"]}), "OneOf"),
        (({"Rotate": {"crop_border": True}},), "Rotate with crop_border"),
        (({"Rotate": {"interpolation": 2}},), "Rotate with interpolation: 2"),
        (({"Affine": {"border_mode": 1}},), "Affine with border_mode: 1"),
        (({"CoarseDropout": {"fill": "random"}},), "CoarseDropout with fill: random"),
        (torchvision("RandAugment"), "RandAugment"),
        (torchvision({"ColorJitter": {"hue": 0.1}}), "ColorJitter with hue"),
        (
            torchvision({"RandomErasing": {"value": "random"}}),
            "RandomErasing with value: random",
        ),
        (({"HorizontalFlip": {}}, torchvision("AugMix")), "AugMix"),
        ({"transform": {}}, "serialised form"),
        ("randaugment", "randaugment"),
    ],
)
def test_what_a_device_does_not_know_is_named(spec, name):
    with pytest.raises(NotOnDevice, match=name):
        device_augment(spec, SIZE, 3)


def test_a_list_of_nothing_is_nothing_to_do():
    assert device_augment((), SIZE, 3) is None
    assert device_augment(("NoOp",), SIZE, 3) is None
