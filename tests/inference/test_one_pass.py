import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ensembler.data.on_device.feed import MappedFeed
from ensembler.errors import StoreError
from ensembler.inference import one_pass
from ensembler.inference.engines.eager import plain
from ensembler.inference.fetching import PlainFetches
from ensembler.inference.one_pass import PredictionRequest, run_pass
from ensembler.inference.predict import predict_logits
from ensembler.inference.views import expand_views
from ensembler.predictions import chunks
from ensembler.predictions.chunks import ChunkedLogits
from ensembler.progress import RecordedProgress


def network(seed=0, classes=3):
    torch.manual_seed(seed)
    layers = [
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, classes),
    ]
    return AsFloats(*layers).eval()


class AsFloats(torch.nn.Sequential):
    def forward(self, pixels):
        return super().forward(pixels.float() / 255)


class CountedPixels:
    """Pixels that know which images were read, and may end the process or the pass at some batch."""

    def __init__(self, n, stop_at=None, stop=None):
        self.array = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        self.shape, self.read, self.stop_at, self.stop, self.batches = (
            self.array.shape,
            [],
            stop_at,
            stop,
            0,
        )

    def __getitem__(self, rows):
        self.batches += 1
        if self.batches == self.stop_at:
            self.stop()
        self.read += list(np.atleast_1d(rows))
        return self.array[rows]


VIEWS = expand_views(["identity", "hflip", "rot90"])
NETWORKS = {name: network(seed) for seed, name in enumerate(["a0", "a1", "b0", "b1"])}


def load(asked):
    return [plain(NETWORKS[one.name], "cpu") for one in asked]


def ask(folder, n=150, views=None):
    """Two members of two folds each; the last rows are test images."""
    rows, test = np.arange(100), np.arange(100, n)
    folds = {"0": rows[::2], "1": rows[1::2]}
    chosen = views or {}
    return [
        PredictionRequest(
            name,
            folder,
            3,
            chosen.get(name, VIEWS),
            (folds[name[1]], test),
            folder / f"{name}.npy",
        )
        for name in NETWORKS
    ]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 32)
    monkeypatch.setattr(one_pass, "BATCH", 16)


def interrupt():
    raise KeyboardInterrupt


def test_one_pass_gives_the_bits_of_each_network_alone_and_reads_every_image_once(tmp_path):
    pixels = CountedPixels(150)
    asked = ask(tmp_path)
    for one, found in zip(asked, run_pass(asked, pixels, load, device="cpu"), strict=True):
        rows = np.concatenate(one.rows)
        alone = predict_logits(
            [NETWORKS[one.name]],
            pixels.array,
            rows,
            VIEWS,
            classes=3,
            device="cpu",
            amp="off",
        )
        assert np.array_equal(found.array, alone[0])
    assert sorted(pixels.read) == list(range(150))


def test_the_pass_of_a_device_writes_what_that_of_the_processor_does(tmp_path, monkeypatch):
    monkeypatch.setattr(one_pass, "ON_DEVICE", 16)
    views = {"b0": expand_views(["rot90", "identity"]), "b1": expand_views(["vflip"])}
    whole = run_pass(
        ask(tmp_path / "a", views=views), CountedPixels(150), load, device="cpu"
    )
    asked = ask(tmp_path / "b", views=views)
    cards = SimpleNamespace(type="cuda")
    monkeypatch.setattr(one_pass, "pick_device", lambda _: cards)
    monkeypatch.setattr(
        "ensembler.data.on_device.feed.feed_of", lambda pixels, _: MappedFeed(pixels)
    )
    monkeypatch.setattr("ensembler.inference.fetching.fetches_of", lambda _: PlainFetches())
    pixels, progress = CountedPixels(150), RecordedProgress()
    found = run_pass(asked, pixels, load, device="cpu", progress=progress)
    for ours, theirs in zip(found, whole, strict=True):
        assert np.array_equal(ours.array, theirs.array)
        assert ours.is_whole
    assert sorted(pixels.read) == list(range(150))
    assert progress.steps[-1] == ("predicting", 150, 150)
    again = run_pass(
        asked, pixels, lambda _: pytest.fail("nothing is missing"), device="cpu"
    )
    assert all(one.is_whole for one in again)


def test_each_checkpoint_gets_its_own_views_in_its_own_order(tmp_path):
    pixels, views = (
        CountedPixels(150),
        {"b0": expand_views(["rot90", "identity"]), "b1": expand_views(["vflip"])},
    )
    asked = ask(tmp_path, views=views)
    for one, found in zip(asked, run_pass(asked, pixels, load, device="cpu"), strict=True):
        rows = np.concatenate(one.rows)
        alone = predict_logits(
            [NETWORKS[one.name]],
            pixels.array,
            rows,
            one.views,
            classes=3,
            device="cpu",
            amp="off",
        )
        assert np.array_equal(found.array, alone[0])
    assert len(pixels.read) == 150


def test_a_pass_that_was_ended_goes_on_with_the_chunks_that_are_missing(tmp_path):
    whole = run_pass(ask(tmp_path / "whole"), CountedPixels(150), load, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        run_pass(
            ask(tmp_path / "cut"), CountedPixels(150, 6, interrupt), load, device="cpu"
        )
    rest = CountedPixels(150)
    again = run_pass(ask(tmp_path / "cut"), rest, load, device="cpu")
    # Four batches made the two chunks of fold 0; the sixth was in the first chunk of the test
    # images.
    assert sorted(rest.read) == sorted([*range(1, 100, 2), *range(100, 150)])
    assert all(np.array_equal(a.array, b.array) for a, b in zip(whole, again, strict=True))
    third = CountedPixels(150)
    run_pass(
        ask(tmp_path / "cut"),
        third,
        lambda _: pytest.fail("nothing is missing"),
        device="cpu",
    )
    assert third.read == []


@pytest.mark.slow
def test_a_killed_pass_goes_on_too(tmp_path):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_one_pass as t
from pathlib import Path
t.chunks.CHUNK, t.one_pass.BATCH = 32, 16
pixels = t.CountedPixels(150, 6, lambda: os.kill(os.getpid(), signal.SIGKILL))
t.run_pass(t.ask(Path({str(tmp_path)!r})), pixels, t.load, device="cpu")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    rest = CountedPixels(150)
    again = run_pass(ask(tmp_path), rest, load, device="cpu")
    assert len(rest.read) == 100
    whole = run_pass(ask(tmp_path / "whole"), CountedPixels(150), load, device="cpu")
    assert all(np.array_equal(a.array, b.array) for a, b in zip(whole, again, strict=True))


def test_a_torn_chunk_or_line_is_predicted_again(tmp_path):
    before = [
        found.array.copy()
        for found in run_pass(ask(tmp_path), CountedPixels(150), load, device="cpu")
    ]
    array = np.load(tmp_path / "a0.npy", mmap_mode="r+")
    array[1, 40] = 0  # in the second chunk of fold 0: rows 64 to 98
    array.flush()
    log = tmp_path / "b1.chunks"
    # the line of its last chunk: images 65 to 99 of fold 1
    log.write_text(log.read_text()[:-20])
    pixels = CountedPixels(150)
    after = run_pass(ask(tmp_path), pixels, load, device="cpu")
    assert sorted(pixels.read) == list(range(64, 100))
    assert all(np.array_equal(a, b.array) for a, b in zip(before, after, strict=True))


def test_a_file_cut_short_is_begun_again(tmp_path):
    run_pass(ask(tmp_path), CountedPixels(150), load, device="cpu")
    content = (tmp_path / "a0.npy").read_bytes()
    (tmp_path / "a0.npy").write_bytes(content[: len(content) // 2])
    assert ChunkedLogits.open(tmp_path / "a0.npy", 3, (50, 50), 3).seconds == {}


def test_logits_that_are_not_finite_name_their_checkpoint(tmp_path):
    with pytest.raises(
        StoreError, match="b0: its network gives logits that are not finite"
    ):
        run_pass(
            ask(tmp_path),
            CountedPixels(150),
            lambda asked: [broken_b0(one) for one in asked],
            device="cpu",
        )


def broken_b0(one):
    good = plain(NETWORKS[one.name], "cpu")
    return (lambda images: good(images) * np.nan) if one.name == "b0" else good


def test_memory_does_not_grow_with_the_number_of_images_or_classes(tmp_path):
    def peak(n, classes):
        pixels = CountedPixels(n)
        asked = [
            PredictionRequest(
                "wide",
                tmp_path,
                classes,
                VIEWS,
                (np.arange(n),),
                tmp_path / f"{n}-{classes}.npy",
            )
        ]
        tracemalloc.start()
        run_pass(asked, pixels, lambda _: [plain(network(0, classes), "cpu")], device="cpu")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(64, 3)
    logits = 3 * 1500 * 400 * 4
    assert peak(1600, 400) - peak(100, 400) < logits / 10
