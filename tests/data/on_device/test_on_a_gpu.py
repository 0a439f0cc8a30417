"""What only CUDA does, compared with the processor; skipped where no CUDA device is found."""

import numpy as np
import odd_augments
import pytest
import torch

from ensembler.data.augment import build_augment
from ensembler.data.counters import Streams, keys_of
from ensembler.data.on_device.card import CudaCard
from ensembler.data.on_device.choose import device_augment, fault_on
from ensembler.data.on_device.feed import DeviceFeed
from ensembler.data.on_device.store import DeviceStore
from ensembler.training.batches import BatchSource
from ensembler.training.host_workers import POOLS
from ensembler.training.loading import Loader

pytestmark = pytest.mark.gpu

N, SIZE = 200, 32
OF_ONE = SIZE * SIZE * 3
CUDA = "cuda"


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)


def orders(seed=0, size=32):
    rows = np.random.default_rng(seed).permutation(N)
    return [rows[start : start + size] for start in range(0, N, size)]


@pytest.mark.parametrize("budget", [0, 50 * OF_ONE, 10**9])
def test_the_same_batches_come_whatever_fits_on_the_card(pixels, budget):
    feed = DeviceFeed(DeviceStore(CudaCard(torch.device(CUDA)), budget), pixels)
    for epoch in range(3):
        with feed.batches(orders(epoch)) as found:
            # computed with at once, as a network would
            sums = [batch.float().sum((1, 2, 3)) for batch in found]
        expected = [pixels[rows].sum((1, 2, 3)) for rows in orders(epoch)]
        for one, other in zip(sums, expected, strict=True):
            assert one.device.type == CUDA
            np.testing.assert_array_equal(one.cpu().numpy(), other)


def test_pixels_that_leave_stay_for_the_fold_that_still_computes_with_them(pixels):
    card = CudaCard(torch.device(CUDA))
    here = DeviceStore(card, pixels.nbytes)
    here.place(pixels, None)
    busy = torch.zeros(4096, 4096, device=CUDA)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        with DeviceFeed(here, pixels).batches([np.arange(N)]) as found:
            for _ in range(50):
                busy = busy @ busy  # so that the batch is gathered later
            batch = next(found)
        del found
    # what takes the place of pixels that left, on the stream for which these were placed
    here.clear()
    for _ in range(8):
        card.empty((N, SIZE, SIZE, 3)).fill_(255)
    torch.cuda.synchronize()
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1).cpu().numpy(), pixels)


@pytest.mark.parametrize(
    "spec",
    ["light", "medium", "heavy", ({"Rotate": {}}, {"GaussNoise": {}}, {"ToGray": {}})],
)
def test_a_card_augments_as_a_processor_does(pixels, spec):
    augment = device_augment(spec, SIZE, 3)
    assert fault_on(torch.device(CUDA), augment, SIZE, 3) is None
    drawn = augment.draw(Streams(keys_of((0, 0, 1), np.arange(N), np.zeros(N, np.int64))))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # TF32 must not move a pixel
        found = augment.apply(images.to(CUDA), drawn).cpu().int()
    finally:
        torch.set_float32_matmul_precision(before)
    difference = (found - augment.apply(images, drawn).int()).abs()
    assert (difference > 1).float().mean() < 0.002


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["host", "device"])
def test_a_loader_gives_the_same_epoch_on_a_card(pixels, workers, where):
    augment = (build_augment if where == "host" else device_augment)("heavy", SIZE, 3)
    of = BatchSource(pixels, np.arange(N), orders(), augment, (0, 0, 1))
    with Loader(workers, torch.device(CUDA)).batches(of) as found:
        there = [(images.cpu(), targets.cpu()) for images, targets in found]
    with Loader(0, torch.device("cpu")).batches(of) as found:
        here = list(found)
    for (one, labels), (other, same_labels) in zip(there, here, strict=True):
        assert torch.equal(labels, same_labels)
        assert ((one.int() - other.int()).abs() > 1).float().mean() < 0.002
    POOLS.end()


def test_shared_memory_is_pinned():
    of = BatchSource(
        np.zeros((N, SIZE, SIZE, 3), np.uint8),
        np.arange(N),
        orders(),
        odd_augments.turned,
        (0, 1),
    )
    with Loader(1, torch.device(CUDA)).batches(of) as found:
        next(found)
        list(found)
    (pool,) = POOLS.free(1)
    seen = pool.memory._pinned
    assert seen is not None
    assert seen[1].is_pinned()
    POOLS.end()
