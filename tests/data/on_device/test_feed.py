import numpy as np
import pytest
import torch

from ensembler.data.on_device import store as stores
from ensembler.data.on_device.card import PlainCard
from ensembler.data.on_device.feed import DeviceFeed, MappedFeed, batches_of, feed_of
from ensembler.data.on_device.store import DeviceStore, device_budget
from ensembler.errors import DataError, RequestError
from ensembler.progress import RecordedProgress

CPU = torch.device("cpu")
OF_ONE = 4 * 4 * 3
N = 20
BATCHES = [
    np.array(rows) for rows in ([3, 1, 19, 3], [0], [7, 8, 9, 10, 11], [19, 18], [2])
]


class RecordingCard(PlainCard):
    """A card whose memory is this machine's, which remembers what it was asked for."""

    def __init__(self, fails=False):
        super().__init__(CPU)
        self.calls = []
        self.kept = []
        self.fails = fails
        self.begun = 0

    def free_bytes(self):
        return 1000

    def empty(self, shape):
        if self.fails and shape[0] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().empty(shape)

    def copy(self, pinned, out):
        super().copy(pinned, out)
        self.begun += 1
        self.calls.append(("copy", self.begun))
        return self.begun

    def use(self, mark):
        self.calls.append(("use", mark))

    def keep(self, tensor):
        self.kept.append(tensor)

    def finish(self, mark):
        self.calls.append(("finish", mark))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)


def store(budget=10**9, **options):
    return DeviceStore(RecordingCard(**options), budget)


def given(feed, batches=BATCHES):
    with feed.batches(batches) as found:
        return list(found)


def plain(pixels, batches=BATCHES):
    return [torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2) for rows in batches]


def same(one, other):
    return all(
        torch.equal(a, b) and a.stride() == b.stride()
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("budget", [0, OF_ONE, 7 * OF_ONE + 5, N * OF_ONE, 10**9])
@pytest.mark.parametrize("first", [None, np.array([19, 3, 8])])
def test_the_same_batches_come_whatever_fits_on_the_device(pixels, budget, first):
    feed = DeviceFeed(store(budget), pixels, first)
    for _ in range(2):
        assert same(given(feed), plain(pixels))
    assert same([feed.batch(BATCHES[0])], plain(pixels)[:1])
    assert feed.store.nbytes <= budget


def test_a_processor_reads_the_array_as_it_is(pixels):
    feed = feed_of(pixels, CPU)
    assert isinstance(feed, MappedFeed)
    assert same(given(feed), plain(pixels))
    assert feed.device == CPU


def test_pixels_are_copied_once_for_all_who_use_them(pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    here = store()
    for _ in range(3):
        # each time mapped anew, as another workspace would
        given(DeviceFeed(here, np.load(tmp_path / "pixels.npy", mmap_mode="r")))
    assert here.card.begun == 1


def test_train_rows_come_first_and_the_rest_is_said_once(pixels):
    here, progress = store(4 * OF_ONE), RecordedProgress()
    first = np.array([15, 3, 8])
    placed = here.place(pixels, first, progress)
    assert np.flatnonzero(placed.place_of >= 0).tolist() == [0, 3, 8, 15]
    given(DeviceFeed(here, pixels, first, progress))
    assert len(progress.notes) == 1
    assert "4 of 20 images fit" in progress.notes[0]
    assert "ENS_DEVICE_CACHE_GB" in progress.notes[0]


def test_the_memory_of_pixels_is_kept_for_each_fold_that_computes_with_them(pixels):
    here = store()
    placed = here.place(pixels, None)
    for _ in range(2):
        given(DeviceFeed(here, pixels))
    assert [kept is placed.pixels for kept in here.card.kept] == [True, True]


@pytest.mark.parametrize("fails", [False, True])
def test_where_not_even_train_rows_fit_they_are_placed_once(pixels, fails):
    here = store(6 * OF_ONE, fails=fails)
    train, others = np.arange(10), np.arange(10, 20)
    placed = here.place(pixels, train)
    assert np.flatnonzero(placed.place_of >= 0).tolist() == ([] if fails else [*range(6)])
    for first in (train, train[::-1], train[:5], None):
        assert here.place(pixels, first) is placed
    # others take their place, where there is any
    assert (here.place(pixels, others) is placed) == fails


def test_the_input_used_least_recently_leaves():
    one, other, third = (np.full((10, 4, 4, 3), i, np.uint8) for i in range(3))
    here = store(20 * OF_ONE)
    for pixels in (one, other, one, third):
        here.place(pixels, None)
    assert here.card.begun == 3
    here.place(one, None)
    assert here.card.begun == 3
    here.place(other, None)
    assert here.card.begun == 4
    assert here.nbytes == 20 * OF_ONE


def test_an_array_that_is_gone_takes_no_room():
    pixels, here = np.zeros((10, 4, 4, 3), np.uint8), store()
    here.place(pixels, None)
    del pixels
    assert here.nbytes == 0


def test_memory_that_runs_out_while_pixels_are_placed_makes_them_stream(pixels):
    here, progress = store(fails=True), RecordedProgress()
    feed = DeviceFeed(here, pixels, progress=progress)
    for _ in range(2):
        assert same(given(feed), plain(pixels))
    assert len(progress.notes) == 1
    assert "no room for" in progress.notes[0]


def test_two_batches_are_on_their_way_before_one_is_used(pixels):
    feed = DeviceFeed(store(0), pixels)
    feed.store.place(pixels, None)
    feed.store.card.calls.clear()
    before = feed.store.card.begun
    given(feed)
    calls = [(what, mark - before) for what, mark in feed.store.card.calls]
    for nth in range(1, len(BATCHES) + 1):
        used = calls.index(("use", nth))
        assert calls.index(("finish", nth)) == used + 1
        assert calls.index(("copy", min(nth + 2, len(BATCHES)))) < used
    # never further ahead, so that buffers are enough
    for nth in range(4, len(BATCHES) + 1):
        assert calls.index(("copy", nth)) > calls.index(("finish", nth - 3))


def test_what_cannot_be_read_is_raised_where_batches_are_used():
    class Broken:
        shape = (N, 4, 4, 3)

        def __getitem__(self, rows):
            raise DataError("this image")

    with pytest.raises(DataError, match="this image"):
        given(DeviceFeed(store(0), Broken()))


def test_a_loop_that_ends_early_leaves_no_thread(pixels):
    import threading

    with DeviceFeed(store(0), pixels).batches(BATCHES) as found:
        next(found)
    assert not [t for t in threading.enumerate() if t.name == "pixels"]


def test_half_of_the_free_memory_is_for_pixels_unless_something_else_is_said(monkeypatch):
    monkeypatch.delenv("ENS_DEVICE_CACHE_GB", raising=False)
    assert device_budget(RecordingCard()) == 500
    monkeypatch.setenv("ENS_DEVICE_CACHE_GB", "0.25")
    assert device_budget(RecordingCard()) == 250_000_000
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("ENS_DEVICE_CACHE_GB", wrong)
        with pytest.raises(RequestError, match="ENS_DEVICE_CACHE_GB"):
            device_budget(RecordingCard())


def test_rows_in_batches_keep_their_order():
    assert [b.tolist() for b in batches_of(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


def test_large_inputs_are_copied_in_parts(pixels, monkeypatch):
    monkeypatch.setattr(stores, "CHUNK", 3 * OF_ONE)
    here = store()
    placed = here.place(pixels, None)
    assert here.card.begun == 7
    assert np.array_equal(placed.pixels.numpy(), pixels)


def test_pixels_are_given_up_for_good_where_memory_is_short(pixels, monkeypatch):
    here = store()
    monkeypatch.setattr(stores, "_stores", {CPU: here})
    assert not stores.give_up_pixels()
    feed = DeviceFeed(here, pixels)
    given(feed)
    assert stores.give_up_pixels()
    assert here.nbytes == 0
    assert same(given(feed), plain(pixels))
    assert here.nbytes == 0
    assert not stores.give_up_pixels()


def test_a_device_has_one_store(monkeypatch):
    monkeypatch.setattr(stores, "_stores", {})
    assert stores.store_of(CPU) is stores.store_of(torch.device("cpu"))
