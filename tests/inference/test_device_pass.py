"""The pass of a device, run on the processor: the order of its steps, and the values it writes."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ensembler.data.on_device.feed import feed_of
from ensembler.errors import NotFiniteError
from ensembler.inference import device_pass
from ensembler.inference.device_pass import Chunk, Wanted, predict_chunks, seen_by
from ensembler.inference.engines.eager import as_predictor
from ensembler.inference.fetching import CudaFetches, PlainFetches, fetches_of
from ensembler.inference.spec import CustomView
from ensembler.inference.views import expand_views

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
VIEWS = expand_views(["identity", "hflip"])


def means(images):
    return images.float().mean(dim=(2, 3)) * torch.arange(1, 4)


def half(images):
    return images[..., :4].float().mean(dim=(2, 3))


def chunk(rows, finished, predictors, name="a"):
    places = {view.name: np.full((len(rows), 3), np.nan, np.float32) for view in VIEWS}
    wanted = [Wanted(name, as_predictor(one, None, CPU), places) for one in predictors]
    return Chunk(np.array(rows), VIEWS, wanted, finished.append)


class RecordedFetches:
    """Hands logits out late, and notes what is asked for and what is waited for."""

    def __init__(self):
        self.events = []

    def start(self, logits):
        self.events.append("asked")
        found = PlainFetches().start(logits)
        return Late(self.events, found)


class Late:
    def __init__(self, events, found):
        self.events, self.found = events, found

    def wait(self):
        self.events.append("written")
        return self.found.wait()


def test_each_view_of_each_row_lands_in_its_place():
    finished = []
    chunks = [chunk(range(7, 30), finished, [half]), chunk([3, 1], finished, [half])]
    done = list(predict_chunks(chunks, feed_of(PIXELS, CPU), PlainFetches(), 10))
    assert done == chunks
    assert len(finished) == 2
    assert min(finished) >= 0
    for one in chunks:
        for view in VIEWS:
            shown = torch.from_numpy(view(PIXELS[one.rows])).permute(0, 3, 1, 2)
            assert np.array_equal(one.wanted[0].views[view.name], half(shown).numpy())


def test_logits_are_asked_for_while_the_first_are_waited_for():
    class OnceAllWereAsked(RecordedFetches):
        """Hands nothing out before all four were asked for: who waits for one waits for ever."""

        def __init__(self):
            super().__init__()
            self.all_asked = threading.Event()

        def start(self, logits):
            found = super().start(logits)
            if len(self.events) == 4:
                self.all_asked.set()
            return SimpleNamespace(wait=lambda: self.all_asked.wait(30) and found.wait())

    fetches, finished = OnceAllWereAsked(), []
    asked = [chunk(range(20), finished, [half])]
    assert list(predict_chunks(asked, feed_of(PIXELS, CPU), fetches, 10)) == asked
    assert fetches.events == ["asked"] * 4 + ["written"] * 4


def test_logits_that_are_not_finite_name_their_network_and_nothing_goes_on():
    def broken(images):
        return means(images) * float("nan")

    finished = []
    chunks = [chunk(range(10), finished, [broken], "b"), chunk(range(10), finished, [half])]
    with pytest.raises(NotFiniteError, match="b: its network gives logits"):
        list(predict_chunks(chunks, feed_of(PIXELS, CPU), PlainFetches(), 10))
    assert finished == []


def test_at_most_so_many_logits_are_on_their_way(monkeypatch):
    monkeypatch.setattr(device_pass, "ON_THEIR_WAY", 2)
    fetches, finished = RecordedFetches(), []
    list(
        predict_chunks(
            [chunk(range(40), finished, [half])], feed_of(PIXELS, CPU), fetches, 4
        )
    )
    ahead = 0
    for event in fetches.events:
        ahead += 1 if event == "asked" else -1
        assert ahead <= 4  # two that wait, one that is written, one that is about to wait
    assert ahead == 0


def test_a_view_of_the_users_own_is_made_by_the_host():
    (own,) = expand_views([CustomView(name="up", transform={"VerticalFlip": {}})])
    images = feed_of(PIXELS, CPU).batch(np.arange(4))
    shown = seen_by(own, images)
    assert np.array_equal(shown.permute(0, 2, 3, 1).numpy(), PIXELS[:4, ::-1])
    assert shown.is_contiguous(memory_format=torch.channels_last)


def test_what_fetches_is_chosen_by_the_device():
    assert fetches_of(torch.device("cuda", 0)) == CudaFetches(torch.device("cuda", 0))
    assert fetches_of(CPU) == PlainFetches()


@pytest.mark.gpu
def test_on_a_card_logits_come_back_whole_while_it_computes():
    device = torch.device("cuda")
    logits = torch.randn(64, 10, device=device)
    begun = [CudaFetches(device).start(logits * i) for i in range(20)]
    for i, one in enumerate(begun):
        found = one.wait()
        assert found.is_finite
        np.testing.assert_allclose(found.logits, (logits * i).cpu().numpy(), rtol=1e-6)
    spoilt = CudaFetches(device).start(torch.full((2, 2), float("inf"), device=device))
    assert not spoilt.wait().is_finite
