"""Devices that are not here, simulated: which are used, and in which precision."""

from types import SimpleNamespace

import pytest
import torch

from ensembler.errors import RequestError
from ensembler.machine import doctor
from ensembler.networks import devices
from ensembler.networks.build import Normalised
from ensembler.networks.devices import (
    autocast_type,
    pick_device,
    place_for_training,
    predicting_precisions,
    tf32,
)
from ensembler.networks.devices_here import devices_here


@pytest.fixture
def cards(monkeypatch):
    """CUDA devices by name, capability and gigabytes, as torch's own functions would describe them."""

    def simulate(*cards, hip=None, broken=()):
        def of(device=None):
            index = getattr(device, "index", device)
            return cards[index or 0]

        def compute(device):
            if (device.index or 0) in broken:
                raise RuntimeError(
                    "CUDA error: no kernel image is available for execution on the device\nadvice"
                )

        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(
            torch.cuda, "get_device_name", lambda device=None: of(device)[0]
        )
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device=None: of(device)[1]
        )
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda device=None: SimpleNamespace(
                name=of(device)[0],
                major=of(device)[1][0],
                minor=of(device)[1][1],
                total_memory=of(device)[2] * 10**9,
            ),
        )
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.version, "cuda", None if hip else "13.2")
        # A CPU would answer for them: torch finds out by making a tensor there.
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True: including_emulation,
        )
        monkeypatch.setattr(devices, "compute_something", compute)
        devices.why_unusable.cache_clear()

    yield simulate
    devices.why_unusable.cache_clear()


@pytest.mark.parametrize(
    ("name", "capability", "hip", "expected"),
    [
        ("Tesla P100", (6, 0), None, torch.float16),
        ("Tesla V100", (7, 0), None, torch.float16),
        ("Tesla T4", (7, 5), None, torch.float16),
        ("RTX 2080 Ti", (7, 5), None, torch.float16),
        ("A100", (8, 0), None, torch.bfloat16),
        ("RTX 3090", (8, 6), None, torch.bfloat16),
        ("L4", (8, 9), None, torch.bfloat16),
        ("H100", (9, 0), None, torch.bfloat16),
        ("RTX 5090", (12, 0), None, torch.bfloat16),
        ("MI250", (9, 0), "6.4", torch.bfloat16),
    ],
)
def test_mixed_precision_is_what_the_card_computes_itself(
    cards, name, capability, hip, expected
):
    cards((name, capability, 16), hip=hip)
    assert autocast_type("auto", torch.device("cuda")) == expected
    assert (
        autocast_type("bf16", torch.device("cuda")) == torch.bfloat16
    )  # whoever asks for it gets it
    assert autocast_type("off", torch.device("cuda")) is None


def test_the_very_device_is_asked_and_not_the_current_one(cards):
    cards(("A100", (8, 0), 80), ("Tesla T4", (7, 5), 16))
    assert autocast_type("auto", torch.device("cuda:0")) == torch.bfloat16
    assert autocast_type("auto", torch.device("cuda:1")) == torch.float16


def test_other_devices_compute_in_float32_unless_they_say_otherwise():
    assert autocast_type("auto", torch.device("mps")) is None
    assert autocast_type("fp16", torch.device("mps")) == torch.float16


def test_a_card_that_torch_was_not_built_for_is_refused_in_one_line(cards):
    cards(("Tesla P100", (6, 0), 16), ("Tesla T4", (7, 5), 16), broken=(0,))
    for name in ("auto", "cuda", "cuda:0"):
        with pytest.raises(
            RequestError,
            match=r"Tesla P100, capability 6\.0\) cannot compute.* --device cpu",
        ):
            pick_device(name)
    assert pick_device("cuda:1") == torch.device("cuda:1")


def test_the_doctor_shows_capability_memory_and_precision_and_what_cannot_compute(cards):
    cards(("Tesla P100", (6, 0), 16), ("A100", (8, 0), 80), broken=(0,))
    found = doctor.examine(devices_here)
    assert (
        found.devices[0]
        == "cuda:0 Tesla P100, capability 6.0, 16.0 GB, computes in float16"
    )
    assert found.devices[1] == "cuda:1 A100, capability 8.0, 80.0 GB, computes in bfloat16"
    assert any(
        "cuda:0 cannot compute with this torch (CUDA error: no kernel image" in p
        for p in found.problems
    )


def test_images_and_convolutions_of_mps_are_not_laid_out_channels_last(monkeypatch):
    moved = []
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, *_, **options: moved.append(options) or self
    )
    seen = []
    inner = torch.nn.Conv2d(3, 4, 3)
    inner.register_forward_pre_hook(lambda _, given: seen.append(given[0].is_contiguous()))
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    for device, plain in (("cpu", False), ("cuda", False), ("mps", True)):
        network = place_for_training(
            Normalised(inner, (0.5,) * 3, (0.25,) * 3), "off", torch.device(device)
        )
        network(pixels)
        assert seen[-1] == plain
        assert moved[-1] == {
            "memory_format": torch.contiguous_format if plain else torch.channels_last
        }


@pytest.mark.parametrize(
    ("capability", "amp", "expected"),
    [
        ((7, 5), "auto", ("fp16",)),
        ((9, 0), "auto", ("fp16", "bf16")),
        ((9, 0), "bf16", ("bf16",)),
        ((9, 0), "off", ("off",)),
    ],
)
def test_cuda_predicts_in_float16_first_unless_the_recipe_says_otherwise(
    cards, capability, amp, expected
):
    cards(("card", capability, 16))
    assert predicting_precisions(amp, torch.device("cuda")) == expected
    assert predicting_precisions(amp, torch.device("cpu")) == (amp,)


def test_tensor_cores_multiply_float32_only_while_asked():
    before = torch.get_float32_matmul_precision()
    with tf32(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    with tf32(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before


def test_float32_is_tf32_in_a_training_unless_it_says_amp_off():
    cuda = torch.device("cuda")

    def flags():
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        )

    before = flags()
    with devices.training_math(cuda, "auto", deterministic=False):
        assert flags() == ("high", True, True)
    with devices.training_math(cuda, "off", deterministic=True):
        assert flags() == ("highest", False, False)
        with devices.tf32(cuda):
            assert flags()[:2] == ("high", True)
        with devices.ieee_float32(cuda):
            assert flags()[:2] == ("highest", False)
    assert flags() == before
    with devices.training_math(torch.device("cpu"), "auto", deterministic=False):
        assert flags() == before


@pytest.mark.parametrize(
    ("name", "n", "found"),
    [
        ("auto", 2, ("cuda:0", "cuda:1")),
        ("cuda", 1, ("cuda:0",)),
        ("cuda:1", 2, ("cuda:1",)),
        ("auto", 0, ()),
        ("cpu", 2, ()),
        ("mps", 0, ()),
    ],
)
def test_the_cards_of_a_job(monkeypatch, name, n, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    assert devices.cards(name) == found


def test_float32_is_no_tf32_on_a_card_that_was_picked(cards, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    cards(("A100", (8, 0), 80))
    devices.pick_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    devices.pick_device("cuda")
    assert not torch.backends.cudnn.allow_tf32
