import numpy as np
import pytest
import torch

from ensembler.data.on_device import choose
from ensembler.data.on_device.choose import choose_augment, device_augment, fault_on
from ensembler.data.on_device.stages import DeviceAugment
from ensembler.data.preset_augment import PresetAugment


def chosen(spec, device, kept=None):
    return choose_augment(spec, 24, 3, device=torch.device(device), kept=kept)


@pytest.fixture(autouse=True)
def a_card_that_computes_as_a_processor(monkeypatch):
    """Devices are only named here: none is there to be tried."""
    monkeypatch.setattr(choose, "fault_on", lambda *_: None)


@pytest.mark.parametrize(
    ("spec", "device", "kept", "on"),
    [
        ("light", "cpu", None, "host"),
        ("light", "cuda", None, "device"),
        ("light", "mps", None, "device"),
        ({"preset": "light", "on": "auto"}, "cpu", None, "host"),
        ({"preset": "light", "on": "device"}, "cpu", None, "device"),
        ({"preset": "light", "on": "host"}, "cuda", None, "host"),
        ({"preset": "light", "on": "cpu"}, "cuda", None, "host"),
        ("light", "cuda", "host", "host"),
        ("light", "cpu", "device", "device"),
        ({"preset": "light", "on": "device"}, "cuda", "host", "device"),
    ],
)
def test_a_fold_is_augmented_where_it_is_wanted_or_was_begun(spec, device, kept, on):
    found = chosen(spec, device, kept)
    assert (found.on, found.where, found.note) == (on, on, "")
    kind = DeviceAugment if on == "device" else PresetAugment
    assert isinstance(found.augment, kind)


def test_nothing_to_do_is_nowhere():
    for device in ("cpu", "cuda"):
        found = chosen("none", device)
        assert found.augment is None
        assert found.where is None


def test_a_transform_that_a_device_does_not_know_is_named_and_left_to_the_host():
    found = chosen(({"ElasticTransform": {"p": 1}},), "cuda")
    assert found.on == "host"
    assert "ElasticTransform is not known on a device" in found.note
    assert np.shape(found.augment(np.zeros((24, 24, 3), np.uint8), 0)) == (24, 24, 3)


def test_a_state_of_the_other_place_is_that_of_another_training():
    assert chosen("light", "cpu").identity("abc") == "abc"
    assert chosen("light", "cuda").identity("abc") != "abc"
    assert device_augment("none", 24, 3) is None


def test_a_device_that_cannot_augment_leaves_it_to_the_host(monkeypatch):
    monkeypatch.setattr(choose, "fault_on", fault_on)
    here = DeviceAugment.apply

    def apply(augment, images, drawn):
        if images.device.type == "meta":
            raise NotImplementedError("grid_sampler_2d is not implemented for it\nmore")
        return here(augment, images, drawn)

    monkeypatch.setattr(DeviceAugment, "apply", apply)
    found = chosen("light", "meta")
    assert found.on == "host"
    told = "meta cannot augment (grid_sampler_2d is not implemented for it): images are augmented"
    assert found.note == f"{told} on the host"
    assert fault_on(torch.device("cpu"), device_augment("light", 24, 3), 24, 3) is None


def test_a_device_that_computes_something_else_is_not_trusted():
    class Shifting:
        """An augmentation that is another one each time, as on a device with a fault."""

        times = 0

        def draw(self, streams):
            return None

        def apply(self, images, drawn):
            self.times += 1
            return torch.full((4,), 10 * self.times)

    fault = fault_on(torch.device("meta"), Shifting(), 4, 1)
    assert fault == "100% of the pixels are wrong"
