import numpy as np
import pytest
import torch

from ensembler.data.augment import POLICIES, PRESETS, build_augment, check_augment, sample_seed
from ensembler.errors import RequestError
from ensembler.training.batches import BatchSource, iterate

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [n for n in [*PRESETS, *POLICIES] if n != "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_preset_keeps_shape_and_depends_on_its_seed_alone(name, channels):
    augment = build_augment(name, 24, channels)
    image = np.ascontiguousarray(IMAGE[..., :channels])
    outs = [augment(image, seed) for seed in range(8)]
    assert all((o.shape, o.dtype) == (image.shape, np.uint8) for o in outs)
    assert len({o.tobytes() for o in outs}) > 2
    fresh = build_augment(name, 24, channels)
    assert np.array_equal(fresh(image, 5), outs[5])


def test_no_augmentation_is_nothing_to_do():
    assert build_augment("none", 24, 3) is None
    assert build_augment((), 24, 3) is None


def test_lists_serialised_forms_and_torchvision_transforms_are_taken():
    import albumentations as A

    listed = build_augment(("HorizontalFlip", {"OneOf": ["VerticalFlip", {"Blur": {"p": 1}}]}), 24, 3)
    mixed = build_augment(
        ({"HorizontalFlip": {"p": 0.5}}, {"torchvision": [{"RandomRotation": {"degrees": 20}}]}), 24, 3
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
        (({"HorizontalFlip": {"prob": 1}},), "unknown argument of HorizontalFlip 'prob'"),
        (({"Affine": {"scale": "big"}},), "Affine"),
        (({"torchvision": ["RandAugmentt"]},), "did you mean 'RandAugment'"),
        (({"a": 1, "b": 2},), "one name with its arguments"),
        ({"transform": {"__class_fullname__": "os.system"}}, "unknown albumentations transform 'system'"),
        ({"nonsense": 1}, "serialised form"),
    ],
)
def test_what_is_not_there_is_named(spec, message):
    with pytest.raises(RequestError, match=message):
        check_augment(spec)


def test_no_two_samples_or_epochs_share_a_stream():
    seeds = {sample_seed(0, fold, epoch, row) for fold in range(3) for epoch in range(3) for row in range(300)}
    assert len(seeds) > 2690
    pixels = np.repeat(IMAGE[None], 6, axis=0)
    augment = build_augment("medium", 24, 3)
    rows = [np.arange(6)]
    one, two = (BatchSource(pixels, np.zeros(6, int), rows, augment, (0, 0, e))[0][0].numpy() for e in (1, 2))
    assert len({image.tobytes() for image in one}) > 3
    assert not np.array_equal(one, two)


def test_batches_augmented_on_the_device_are_those_augmented_image_by_image():
    steps = [{"RandomRotation": {"degrees": 20}}, {"RandomHorizontalFlip": {"p": 0.5}}, "RandAugment"]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 24, 24, 3), dtype=np.uint8)
    rows = [np.array([3, 1, 8, 0]), np.array([7, 2])]
    batches = []
    for spec in ({"torchvision": steps}, {"torchvision": steps, "on": "device"}):
        source = BatchSource(pixels, np.arange(9), rows, build_augment(spec, 24, 3), (0, 0, 1))
        batches.append([(x.numpy(), y.tolist()) for x, y in iterate(source, 0, torch.device("cpu"))])
    for (one, labels), (other, same_labels) in zip(*batches, strict=True):
        assert labels == same_labels
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"torchvision": [], "on": "gpu"}, "on: 'gpu'"),
        ({"torchvision": [], "where": "device"}, "'where'"),
    ],
)
def test_where_to_augment_is_checked(spec, message):
    with pytest.raises(RequestError, match=message):
        check_augment(spec)


def test_transforms_on_the_device_keep_the_form_of_images():
    augment = build_augment({"torchvision": [{"Resize": {"size": [12, 12]}}], "on": "device"}, 24, 3)
    with pytest.raises(RequestError, match="on: device"):
        augment.on_batch(torch.zeros(2, 3, 24, 24, dtype=torch.uint8), [1, 2])
