import pytest
import torch

from ensembler.networks import devices, devices_here


@pytest.fixture
def two_cards(monkeypatch):
    """Two cards, the second of which torch was not built for."""

    class Properties:
        name, total_memory = "Card", 16_000_000_000

    reasons = {0: None, 1: "no kernel image"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setattr(devices, "capability_text", lambda _: "8.6")
    monkeypatch.setattr(devices, "autocast_type", lambda *_: torch.bfloat16)
    monkeypatch.setattr(devices, "why_unusable", lambda device: reasons[device.index])


def test_every_device_is_described_with_memory_and_precision(two_cards):
    found, _ = devices_here.devices_here()
    assert found[0] == "cuda:0 Card, capability 8.6, 16.0 GB, computes in bfloat16"
    assert found[-1].startswith("cpu, ")


def test_a_card_that_cannot_compute_is_a_problem_with_its_reason(two_cards):
    _, problems = devices_here.devices_here()
    (problem,) = problems
    assert problem.startswith("cuda:1 cannot compute with this torch (no kernel image)")


def test_without_torch_there_is_nothing_to_train_on(monkeypatch):
    monkeypatch.setattr(devices_here, "find_spec", lambda _: None)
    found, problems = devices_here.devices_here()
    assert found == ("none for training: torch is not installed",)
    assert problems == ()


def test_a_torchvision_of_another_torch_is_a_problem(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(devices_here, "import_module", broken)
    _, problems = devices_here.devices_here()
    assert any(
        "torchvision does not load (operator torchvision::nms" in text for text in problems
    )
