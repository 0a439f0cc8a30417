"""A card that is in the machine and that torch cannot use, simulated: what is said of it."""

import re

import pytest
import torch

from ensembler.errors import RequestError
from ensembler.machine.cards import Cards
from ensembler.networks import unused_cards
from ensembler.networks.devices import pick_device
from ensembler.networks.devices_here import devices_here
from ensembler.networks.unused_cards import built_for, why_no_card
from ensembler.pipeline.check import check_device
from ensembler.progress import RecordedProgress

L4 = Cards(("NVIDIA L4",), "535.129.03")


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")


def cannot_start(monkeypatch, message):
    def init():
        raise RuntimeError(message)

    monkeypatch.setattr(torch.cuda, "init", init)


def test_a_cpu_build_of_torch_is_named_with_the_build_that_helps(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA; install torch and torchvision in a build with CUDA" in str(
        why_no_card(L4)
    )


def test_an_old_driver_is_named_with_both_ways_out(monkeypatch):
    cannot_start(
        monkeypatch,
        "The NVIDIA driver on your system is too old (found version 12020). Please update",
    )
    told = why_no_card(L4)
    assert told.startswith("NVIDIA L4 is here, but its driver 535.129.03 is too old for")
    assert "update the driver to 580.65 or later" in told
    assert "built for CUDA 12.2 or earlier" in told


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        (Cards(("A", "B"), None), r"A \(and 1 more\) is here, but no NVIDIA driver"),
        (Cards(("A",), "535.1", may_open=False), "--gpus all"),
    ],
)
def test_a_missing_driver_and_a_closed_container_have_fixes_of_their_own(cards, said):
    assert re.search(said, why_no_card(cards))


def test_any_other_fault_is_told_in_the_words_of_torch(monkeypatch):
    cannot_start(monkeypatch, "CUDA unknown error - this may be due to x. Setting it\nmore")
    assert "cannot start CUDA (CUDA unknown error - this may be due to x)" in why_no_card(
        L4
    )


def test_nothing_is_said_without_cards_or_when_they_are_hidden(monkeypatch):
    assert why_no_card(Cards()) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert why_no_card(L4) is None
    with pytest.raises(RequestError, match="CUDA_VISIBLE_DEVICES='' hides"):
        pick_device("cuda")


def test_who_asks_for_cuda_is_told_why_there_is_none(monkeypatch):
    monkeypatch.setattr(unused_cards, "cards_here", lambda: Cards(("NVIDIA L4",), None))
    with pytest.raises(RequestError, match=r"'cuda:0': NVIDIA L4 is here, but no NVIDIA"):
        pick_device("cuda:0")
    monkeypatch.setattr(unused_cards, "cards_here", Cards)
    with pytest.raises(RequestError, match="sees no CUDA device here"):
        pick_device("cuda")


def test_a_job_on_auto_warns_and_computes_on_the_cpu(monkeypatch):
    monkeypatch.setattr(unused_cards, "cards_here", lambda: Cards(("NVIDIA L4",), None))
    for device, warnings in [("auto", 1), ("cpu", 0)]:
        progress = RecordedProgress()
        check_device(device, progress)
        assert len(progress.warnings) == warnings
    _, problems = devices_here()
    assert any(problem.startswith("NVIDIA L4 is here") for problem in problems)


def test_what_torch_was_built_for_is_said_in_words(monkeypatch):
    for found, said in [
        (["sm_75", "sm_90", "compute_90"], "sm_75 to sm_90"),
        (["gfx90a"], "gfx90a"),
        ([], "no card"),
    ]:
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda found=found: found)
        assert built_for() == said
