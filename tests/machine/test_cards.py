"""Cards as files of the system describe them, drawn up in folders of the test."""

import subprocess

import pytest

from ensembler.machine import cards
from ensembler.machine.cards import Cards, cards_here, hidden_by


@pytest.fixture
def system(tmp_path, monkeypatch):
    """An empty machine, to which the test adds files."""
    monkeypatch.setattr(cards, "KERNEL", tmp_path / "proc")
    monkeypatch.setattr(cards, "PCI", tmp_path / "pci")
    monkeypatch.setattr(cards, "CONTROL", tmp_path / "nvidiactl")
    monkeypatch.setattr(cards, "WSL", tmp_path / "dxg")
    monkeypatch.setattr(cards.shutil, "which", lambda _: None)
    return tmp_path


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_without_cards_has_none(system):
    assert cards_here() == Cards((), None, may_open=False)


def test_the_driver_names_its_cards_and_its_version(system):
    write(system / "proc/gpus/0000:41:00.0/information", "Model: \t\t NVIDIA L4\nIRQ: 17\n")
    write(
        system / "proc/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 2023\nGCC\n",
    )
    write(system / "nvidiactl")
    assert cards_here() == Cards(("NVIDIA L4",), "535.129.03", may_open=True)
    (system / "nvidiactl").unlink()
    assert not cards_here().may_open


def test_the_open_kernel_module_says_its_version_too(system):
    write(system / "proc/gpus/a/information", "Model: X")
    text = (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build"
    )
    write(system / "proc/version", text)
    assert cards_here().driver == "580.82.07"


def test_without_a_driver_the_bus_shows_that_a_card_is_plugged_in(system):
    for name, vendor, kind in [
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its sound
        ("0000:00:02.0", "0x8086", "0x030000"),
    ]:
        write(system / f"pci/{name}/vendor", f"{vendor}\n")
        write(system / f"pci/{name}/class", f"{kind}\n")
    assert cards_here().names == ("NVIDIA card at PCI 0000:01:00.0",)


def test_nvidia_smi_is_asked_where_the_kernel_has_no_files(system, monkeypatch):
    monkeypatch.setattr(cards.shutil, "which", lambda _: "nvidia-smi")
    told = subprocess.CompletedProcess([], 0, "RTX 4090, 551.23\nRTX 4090, 551.23\n", "")
    monkeypatch.setattr(cards.subprocess, "run", lambda *_, **__: told)
    write(system / "dxg")
    assert cards_here() == Cards(("RTX 4090", "RTX 4090"), "551.23", may_open=True)

    def hangs(*_, **__):
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(cards.subprocess, "run", hangs)
    assert cards_here().names == ()


@pytest.mark.parametrize(
    ("given", "hides"), [("", True), ("-1", True), ("0", False), (None, False)]
)
def test_cards_can_be_hidden_from_a_process(monkeypatch, given, hides):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert (hidden_by() is not None) == hides
