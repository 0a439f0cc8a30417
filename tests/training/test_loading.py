import os
import time
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from ensembler.data.augment import build_augment
from ensembler.errors import TrainingError
from ensembler.networks import devices
from ensembler.progress import RecordedProgress
from ensembler.training import loading
from ensembler.training.batches import BatchSource
from ensembler.training.loading import Loader

CPU = torch.device("cpu")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)


def turned(image, seed):
    return image[::-1].copy()


def source(pixels, augment=turned):
    return BatchSource(
        pixels, np.arange(12), np.split(np.arange(12), 3), augment, (0, 0, 1)
    )


def batches(loader, of):
    with loader.batches(of) as found:
        return list(found)


def little_room(monkeypatch, free):
    state = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: state)


@pytest.mark.parametrize("free", [0, 8192])
def test_without_shared_memory_the_same_batches_come_through_pipes_and_it_is_said_once(
    pixels, monkeypatch, free
):
    of, progress = source(pixels, build_augment("light", 16, 3)), RecordedProgress()
    usual = batches(Loader(0, CPU), of)
    little_room(monkeypatch, free)
    loader = Loader(2, CPU, progress)
    for _ in range(2):
        for (one, label), (other, same_label) in zip(
            usual, batches(loader, of), strict=True
        ):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()
            assert torch.equal(label, same_label)
    assert len(progress.notes) == (1 if free < 2 * usual[0][0].nbytes else 0)
    assert all(
        "too little shared memory" in note and "--shm-size" in note
        for note in progress.notes
    )


def test_room_that_another_process_took_first_is_done_without(pixels, monkeypatch):
    def full(_):
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: No space left on device "
            "(28)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    progress = RecordedProgress()
    found = batches(Loader(1, CPU, progress), source(pixels))
    assert all(
        torch.equal(a, b)
        for (a, _), (b, _) in zip(
            found, batches(Loader(0, CPU), source(pixels)), strict=True
        )
    )
    assert len(progress.notes) == 1


@pytest.mark.parametrize(
    ("signal", "told"), [(7, "SIGBUS"), (9, "SIGKILL, perhaps for want of memory")]
)
def test_a_loader_process_that_dies_is_an_error_with_advice(pixels, signal, told):
    def die(image, seed):
        os.kill(os.getpid(), signal)

    with pytest.raises(
        TrainingError,
        match=rf"a loader process died \({told}\); --workers 0 .*--shm-size=1g",
    ):
        batches(Loader(1, CPU), source(pixels, die))


def test_a_loader_process_that_hangs_is_an_error_with_advice(pixels, monkeypatch):
    def hang(image, seed):
        time.sleep(60)

    monkeypatch.setattr(loading, "PATIENCE", 1.0)
    with pytest.raises(
        TrainingError, match=r"no loader process made a batch within 1 s; --workers 0"
    ):
        batches(Loader(1, CPU), source(pixels, hang))


def test_an_error_of_the_training_is_not_taken_for_one_of_the_loader(pixels):
    with (
        pytest.raises(RuntimeError, match=r"^its own$"),
        Loader(1, CPU).batches(source(pixels)) as found,
    ):
        next(found)
        raise RuntimeError("its own")


def test_loader_processes_that_cannot_be_started_are_done_without(pixels, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def __iter__(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(loading, "DataLoader", Full)
    progress = RecordedProgress()
    assert len(batches(Loader(2, CPU, progress), source(pixels))) == 3
    assert progress.notes == [
        "loader processes cannot be started ([Errno 28] No space left on device); the training "
        "process makes the batches"
    ]


class Recorded(torch.Tensor):
    """A tensor that remembers how it was copied, and stays where it is."""

    asked: ClassVar[list] = []

    def to(self, device, **options):
        Recorded.asked.append(
            (torch.device(device).type, options.get("non_blocking", False))
        )
        return self


@pytest.mark.parametrize(("device", "early"), [("mps", False), ("cuda", True)])
def test_only_copies_to_cuda_are_left_to_themselves(pixels, monkeypatch, device, early):
    from ensembler.inference import predictor

    Recorded.asked.clear()
    there = torch.device(device)
    made = torch.zeros(4, 3, 2, 2).as_subclass(Recorded)
    list(Loader(0, there)._on_device(iter([(made, made)])))
    monkeypatch.setattr(predictor, "pick_device", lambda _: there)
    monkeypatch.setattr(
        predictor.torch, "from_numpy", lambda a: torch.zeros(a.shape).as_subclass(Recorded)
    )
    predictor.as_images(pixels[:2], device)
    assert Recorded.asked == [(device, early)] * 3
    assert devices.copies_early(there) == early
