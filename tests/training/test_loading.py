import gc
import os
import pickle
import subprocess

import numpy as np
import odd_augments
import pytest
import torch

from ensembler.data.augment import build_augment
from ensembler.data.on_device.card import PlainCard
from ensembler.errors import DataError, TrainingError
from ensembler.networks import devices
from ensembler.progress import RecordedProgress
from ensembler.training import host_workers
from ensembler.training.batches import BatchSource
from ensembler.training.host_workers import POOLS, SharedMemory
from ensembler.training.loading import Loader

CPU = torch.device("cpu")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (13, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(autouse=True, scope="module")
def no_process_is_left():
    yield
    POOLS.end()


def source(pixels, augment=odd_augments.turned, epoch=1):
    # a row comes twice, and the last batch is the largest one
    rows = [np.array([0, 1, 2, 3]), np.array([4, 0, 6]), np.arange(7, 13), np.array([5])]
    return BatchSource(pixels, np.arange(13), rows, augment, (0, 0, epoch))


def batches(loader, of):
    with loader.batches(of) as found:
        return list(found)


def same(some, others):
    for (one, label), (other, same_label) in zip(some, others, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert torch.equal(label, same_label)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_processes_make_the_same_batches_and_live_on(pixels, tmp_path, workers):
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    progress = RecordedProgress()
    loader = Loader(workers, CPU, progress)
    for epoch, given in ((1, pixels), (2, mapped), (3, pixels[:, :8, :8].copy())):
        augment = build_augment("heavy", given.shape[1], 3)
        of = source(given, augment, epoch)
        same(batches(loader, of), batches(Loader(0, CPU), of))
    assert not progress.notes
    processes = process_ids(workers)
    batches(Loader(workers, CPU), source(pixels))
    assert process_ids(workers) == processes


def process_ids(workers):
    return [[worker.process.pid for worker in pool.workers] for pool in POOLS.free(workers)]


def no_memory(*_):
    raise OSError(38, "Function not implemented")


@pytest.mark.slow
def test_without_shared_memory_the_same_batches_come_through_pipes_and_it_is_said_once(
    pixels, monkeypatch
):
    monkeypatch.setattr(os, "memfd_create", no_memory)
    POOLS.end()
    of, progress = source(pixels, build_augment("light", 16, 3)), RecordedProgress()
    loader = Loader(2, CPU, progress)
    for _ in range(2):
        same(batches(loader, of), batches(Loader(0, CPU), of))
    assert len(progress.notes) == 1
    assert "go through pipes" in progress.notes[0]
    POOLS.end()


def test_memory_that_the_system_does_not_give_is_done_without(monkeypatch):
    memory = SharedMemory()
    monkeypatch.setattr(os, "posix_fallocate", no_memory)
    assert memory.of_size(1 << 20, PlainCard(CPU)) is None
    memory.close()


class PinningCard(PlainCard):
    """A card that remembers which memory is pinned."""

    def __init__(self):
        super().__init__(CPU)
        self.pinned_now = {}

    def pin(self, memory):
        self.pinned_now[memory.data_ptr()] = memory.nbytes

    def unpin(self, memory):
        del self.pinned_now[memory.data_ptr()]


def test_shared_memory_is_pinned_once_and_let_go_when_it_grows_or_ends():
    memory, card = SharedMemory(), PinningCard()
    for size in (4096, 4096, 1000, 8192):
        seen = memory.of_size(size, card)
        assert len(card.pinned_now) == 1
        assert card.pinned_now[seen.data_ptr()] >= size
    memory.close()
    assert not card.pinned_now
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("augment", "told"),
    [
        (odd_augments.bus_error, "SIGBUS"),
        (odd_augments.killed, "SIGKILL, perhaps for want of memory"),
    ],
)
def test_a_loader_process_that_dies_is_an_error_with_advice(pixels, augment, told):
    with pytest.raises(
        TrainingError, match=rf"a loader process died \({told}\); --workers 0 "
    ):
        batches(Loader(1, CPU), source(pixels, augment))
    # and the next training has new ones
    same(batches(Loader(1, CPU), source(pixels)), batches(Loader(0, CPU), source(pixels)))


@pytest.mark.slow
def test_a_loader_process_that_hangs_is_an_error_with_advice(pixels, monkeypatch):
    loader = Loader(1, CPU)
    batches(loader, source(pixels))
    monkeypatch.setattr(host_workers, "PATIENCE", 1.0)
    with pytest.raises(
        TrainingError, match=r"no loader process made a batch within 1 s; --workers 0"
    ):
        batches(loader, source(pixels, odd_augments.hangs))


@pytest.mark.slow
def test_what_fails_in_a_process_is_told_with_its_name(pixels):
    with pytest.raises(TrainingError, match="ZeroDivisionError: by nothing") as error:
        batches(Loader(1, CPU), source(pixels, odd_augments.fails))
    assert "odd_augments.py" in error.value.__notes__[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_an_error_for_the_user(workers):
    with pytest.raises(DataError, match="this image"):
        batches(Loader(workers, CPU), source(odd_augments.Unreadable()))


@pytest.mark.slow
def test_an_epoch_that_ends_early_leaves_nothing_for_the_next_one(pixels):
    loader = Loader(2, CPU)
    with (
        pytest.raises(RuntimeError, match=r"^its own$"),
        loader.batches(source(pixels, build_augment("heavy", 16, 3))) as found,
    ):
        next(found)
        raise RuntimeError("its own")
    processes = process_ids(2)
    same(batches(loader, source(pixels)), batches(Loader(0, CPU), source(pixels)))
    assert process_ids(2) == processes


def test_loader_processes_that_cannot_be_started_are_done_without(pixels, monkeypatch):
    def full(*_, **__):
        raise OSError(11, "Resource temporarily unavailable")

    POOLS.end()
    monkeypatch.setattr(subprocess, "Popen", full)
    progress = RecordedProgress()
    loader = Loader(2, CPU, progress)
    loader.get_ready(odd_augments.turned)
    assert len(batches(loader, source(pixels))) == 4
    assert progress.notes == [
        "loader processes cannot be started ([Errno 11] Resource temporarily unavailable); the "
        "training process makes the batches"
    ]


def test_what_cannot_be_sent_to_processes_is_done_here(pixels):
    progress = RecordedProgress()
    found = batches(Loader(1, CPU, progress), source(pixels, lambda *given: given[0]))
    assert len(found) == 4
    assert "cannot be started" in progress.notes[0]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(lambda: 0)


def test_no_process_is_started_where_the_host_does_not_augment(pixels):
    POOLS.end()
    loader = Loader(4, CPU)
    loader.get_ready(None)
    batches(loader, source(pixels, None))
    assert not POOLS.free(4)


@pytest.mark.slow
def test_two_epochs_at_the_same_time_do_not_mix(pixels):
    one, other = (source(pixels, build_augment("heavy", 16, 3), epoch) for epoch in (1, 2))
    loader = Loader(1, CPU)
    with loader.batches(one) as first, loader.batches(other) as second:
        found = list(zip(first, second, strict=True))
    same([batch for batch, _ in found], batches(Loader(0, CPU), one))
    same([batch for _, batch in found], batches(Loader(0, CPU), other))
    assert len(POOLS.free(1)) == 2
    POOLS.end()


class Recorded(torch.Tensor):
    """A tensor that remembers how it was copied, and stays where it is."""

    asked = []  # noqa: RUF012

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
    list(Loader(0, there)._on_device(iter([made])))
    monkeypatch.setattr(predictor, "pick_device", lambda _: there)
    monkeypatch.setattr(
        predictor.torch, "from_numpy", lambda a: torch.zeros(a.shape).as_subclass(Recorded)
    )
    predictor.as_images(pixels[:2], device)
    assert Recorded.asked == [(device, early)] * 2
    assert devices.copies_early(there) == early
