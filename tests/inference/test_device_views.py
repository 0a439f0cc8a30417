"""Views made on the device against the host's, on tensors of the CPU."""

import numpy as np
import pytest
import torch

from ensembler.inference.device_views import device_view
from ensembler.inference.spec import CustomView
from ensembler.inference.views import GROUPS, expand_views, view_names

BATCH = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
SCALED = [*(f"scale_{n}" for n in (0.2, 0.5, 0.55, 0.9, 1.1, 1.5, 3)), *GROUPS["ten_crop"]]
EXACT = sorted(
    {name for name in view_names() if name not in GROUPS and name not in SCALED}
    | {"shift_left_0.3", "shift_up_0.01", "brightness_0.73", "brightness_2", "scale_1.0"}
)


def both(name, batch):
    (view,) = expand_views([name])
    found = device_view(view)(torch.from_numpy(batch))
    assert (found.shape, found.dtype) == (torch.Size(batch.shape), torch.uint8)
    return found.numpy(), view(batch)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_flips_turns_shifts_and_brightness_are_the_hosts_to_the_bit(name, channels):
    on_device, on_host = both(name, np.ascontiguousarray(BATCH[..., :channels]))
    assert np.array_equal(on_device, on_host)


@pytest.mark.parametrize("side", [24, 31, 224])
@pytest.mark.parametrize("name", SCALED)
def test_what_is_scaled_is_the_hosts_to_the_bit(name, side):
    rng = np.random.default_rng(side)
    batch = rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    on_device, on_host = both(name, batch)
    assert np.array_equal(on_device, on_host)
    assert not np.array_equal(on_device, batch)


def test_an_image_does_not_depend_on_its_batch():
    for name in SCALED:
        view = device_view(expand_views([name])[0])
        whole = view(torch.from_numpy(BATCH))
        assert torch.equal(whole[3:4], view(torch.from_numpy(BATCH[3:4])))


def test_every_view_that_is_built_in_has_one():
    views = expand_views([name for name in view_names() if name not in GROUPS])
    assert all(view.built_in and device_view(view) is not None for view in views)


def test_a_view_of_the_users_own_is_left_to_the_host_whatever_it_is_called():
    (own,) = expand_views([CustomView(name="hflip", transform={"VerticalFlip": {}})])
    assert device_view(own) is None
