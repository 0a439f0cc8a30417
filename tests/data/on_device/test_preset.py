import numpy as np
import pytest
import torch
from scipy import stats

from ensembler.data.augment import sample_seed
from ensembler.data.counters import Streams, keys_of
from ensembler.data.on_device.preset import device_preset
from ensembler.data.on_device.stages import Drawn, DrawnImages
from ensembler.data.preset_augment import PresetAugment
from ensembler.data.presets import PRESETS, Draw, Preset, draw

SIZE = 32
N = 3000


def smooth_images(n, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (n, channels, 6, 6)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(small), SIZE, mode="bilinear")
    return large.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def streams(n, seed=0):
    return Streams(keys_of((seed, 0, 1), np.arange(n), np.zeros(n, np.int64)))


def as_drawn(preset: Preset, draws: list[Draw], keys) -> DrawnImages:
    """What the host drew for each image, as the stages of the device take it."""
    n, white = len(draws), 255
    plain = np.hstack([np.eye(3), np.zeros((3, 1))])
    found = {
        "warp": np.array([d.warp for d in draws]).reshape(n, 6),
        "colours": np.array([plain if d.colours is None else d.colours for d in draws]),
        "blur": SIZE * np.array([[d.blur] for d in draws]),
        "noise": white * np.array([[d.noise] for d in draws]),
    }
    most = 0 if preset.holes is None else preset.holes.most
    boxes = np.zeros((n, most, 4))
    for i, d in enumerate(draws):
        for j, hole in enumerate(d.holes):
            top, left = hole.top, hole.left
            boxes[i, j] = np.rint(
                SIZE * np.array([top, left, top + hole.height, left + hole.width])
            )
    has = {
        "warp": preset.flip or preset.crop or preset.affine,
        "colours": preset.tone or preset.hue,
        "blur": preset.blur,
        "noise": preset.noise,
    }
    stages = []
    for name, is_there in has.items():
        values = found[name].reshape(n, -1).astype(np.float32)
        if is_there:
            happens = None if name in ("warp", "colours") else values[:, 0] > 0
            stages.append(Drawn(values, happens))
    if preset.holes:
        stages.append(Drawn(boxes.reshape(n, -1).astype(np.float32)))
    return DrawnImages(keys, tuple(stages))


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_numbers_give_the_picture_of_the_host(name, channels):
    preset = PRESETS[name]
    images = smooth_images(60, channels)
    draws = [draw(preset, seed) for seed in range(len(images))]
    # noise is drawn for each pixel, by another generator
    draws = [d.__class__(d.warp, d.colours, d.blur, 0.0, d.holes) for d in draws]
    host = PresetAugment(preset, SIZE, channels)
    augment = device_preset(preset, SIZE, channels)
    expected = np.stack(
        [host.apply(image, d, 0) for image, d in zip(images, draws, strict=True)]
    )
    keys = streams(len(images)).keys.view(np.int64)
    drawn = as_drawn(host.preset, draws, keys)
    found = augment.apply(torch.from_numpy(images).permute(0, 3, 1, 2), drawn)
    assert found.dtype == torch.uint8
    difference = np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    # OpenCV interpolates between 32 places of a pixel; an edge of a hole is one
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.999) <= 4


def parameters_on_host(preset):
    draws = [draw(preset, sample_seed("distribution", i)) for i in range(N)]
    return {
        "warp": np.array([d.warp for d in draws]).reshape(N, 6),
        "colours": np.array(
            [np.eye(3, 4) if d.colours is None else d.colours for d in draws]
        ).reshape(N, 12),
        "blur": SIZE * np.array([[d.blur] for d in draws]),
        "noise": 255 * np.array([[d.noise] for d in draws]),
        "holes": np.array(
            [
                [h.top + h.height / 2, h.left + h.width / 2, h.height * h.width]
                for d in draws
                for h in (d.holes or [None])
                if h
            ]
        ),
    }


def test_both_draw_from_the_same_distributions():
    preset = PRESETS["heavy"]
    host = parameters_on_host(preset)
    stages = device_preset(preset, SIZE, 3).stages
    drawn = [stage.draw(streams(N)) for stage in stages]
    for name, found in zip(("warp", "colours", "blur", "noise"), drawn, strict=False):
        assert host[name].shape == found.values.shape
        for one, other in zip(host[name].T, found.values.T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > 1e-3, name
    boxes = drawn[4].values[drawn[4].happens] / SIZE
    assert abs(len(boxes) - len(host["holes"])) < 4 * np.sqrt(N * 0.24)
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    for one, other in (
        (host["holes"][:, 0], (boxes[:, 0] + boxes[:, 2]) / 2),
        (host["holes"][:, 1], (boxes[:, 1] + boxes[:, 3]) / 2),
        (host["holes"][:, 2], height * width),
    ):
        # those of the device are whole pixels
        assert np.abs(np.quantile(one, Q) - np.quantile(other, Q)).max() < 1.5 / SIZE


Q = np.linspace(0.05, 0.95, 10)


def test_what_a_preset_draws_is_drawn_independently():
    drawn = [s.draw(streams(N)) for s in device_preset(PRESETS["heavy"], SIZE, 3).stages]
    warp, colours, blur, noise, holes = drawn
    determinant = np.linalg.det(warp.values.reshape(N, 2, 3)[:, :, :2])
    table = [determinant < 0, np.abs(np.abs(determinant) - 1) > 1e-6]
    table += [colours.values[:, 0] != 1, *(d.happens for d in (blur, noise, holes))]
    correlations = np.corrcoef(np.array(table, float)) - np.eye(6)
    assert np.abs(correlations).max() < 0.1


def test_an_image_is_augmented_alike_in_any_batch():
    augment = device_preset(PRESETS["heavy"], SIZE, 3)
    images = torch.from_numpy(smooth_images(40)).permute(0, 3, 1, 2)
    drawn = augment.draw(streams(40)).on(images.device)
    whole = augment.apply_placed(images, drawn, slice(0, 40))
    for start, stop in ((0, 7), (7, 8), (8, 40)):
        part = augment.apply_placed(images[start:stop], drawn, slice(start, stop))
        assert torch.equal(part, whole[start:stop])


def test_noise_is_as_strong_as_it_says_and_differs_between_images():
    preset = Preset(noise=PRESETS["heavy"].noise.__class__(1, (0.04, 0.04)))
    augment = device_preset(preset, 64, 3)
    flat = torch.full((3, 3, 64, 64), 90, dtype=torch.uint8)
    noisy = augment.apply(flat, augment.draw(streams(3))).float()
    assert (noisy.mean() - 90).abs() < 0.3
    assert (noisy.std() - 10.2).abs() < 0.3
    assert stats.kurtosis(noisy[0].flatten().numpy()) == pytest.approx(0, abs=0.15)
    assert not torch.equal(noisy[0], noisy[1])


def test_a_mirror_image_is_exact():
    augment = device_preset(Preset(flip=1), SIZE, 3)
    images = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    assert torch.equal(augment.apply(images, augment.draw(streams(4))), images.flip(3))
