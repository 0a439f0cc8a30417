"""Folds that run out of memory go on with parts of their batches, as lock and record say."""

import numpy as np
import pytest
import torch

from ensembler import Recipe
from ensembler.machine.execution import Execution
from ensembler.pipeline.train import train_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import RecordedProgress
from ensembler.training.learner import Learner, parts_of


def train(recipe, folder="artifacts", folds=None, progress=None):
    loaded = Recipe.load(recipe, ["defaults.epochs=1"])
    return train_recipe(
        loaded,
        recipe.parent / folder,
        execution=Execution("cpu"),
        members=["narrow"],
        folds=folds,
        progress=progress or RecordedProgress(),
    )


@pytest.fixture
def small_memory(monkeypatch):
    """Memory for five images at once; the sizes of what was tried."""
    loss, tried = Learner.loss, []

    def short(self, batch, network):
        tried.append(len(batch[1]))
        if len(batch[1]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss(self, batch, network)

    monkeypatch.setattr(Learner, "loss", short)
    return tried


def test_a_fold_goes_on_with_halves_of_its_batches_and_the_others_begin_so(
    recipe, small_memory
):
    progress = RecordedProgress()
    found = train(recipe, progress=progress)
    assert found.failures == ()
    assert found.complete == ("narrow",)
    assert [n for n in small_memory if n > 5] == [16, 8]  # each once, by the first fold
    parts = [note for note in progress.notes if "out of memory" in note]
    assert len(parts) == 2
    assert parts[1] == (
        "narrow fold 0 ran out of memory: batches of 16 go through the network in parts of 4 "
        "images, with steps as large as before"
    )
    store = RunStore(recipe.parent / "artifacts" / "shapes")
    assert store.member("narrow").record.images_at_once == (4, 4, 4)
    assert store.lock.choices["images_at_once"]["narrow"].chosen == {"images_at_once": 4}


def test_a_later_start_begins_with_what_the_lock_says(recipe, small_memory, monkeypatch):
    train(recipe, folds=[0])
    small_memory.clear()
    train(recipe)
    assert max(small_memory) <= 5


def test_what_does_not_fit_in_parts_of_two_fails_with_advice(recipe, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Learner, "loss", full)
    (failure,) = train(recipe).failures
    assert "needs less" in failure.message


@pytest.mark.parametrize(
    ("n", "at_most", "sizes"),
    [
        (16, None, [16]),
        (16, 16, [16]),
        (16, 8, [8, 8]),
        (15, 8, [8, 7]),
        (5, 2, [3, 2]),  # no single image
        (3, 2, [3]),
        (1, 2, [1]),
    ],
)
def test_parts_are_as_equal_as_can_be_and_never_one_image(n, at_most, sizes):
    images = torch.arange(n)
    parts = parts_of((images, images + 1), at_most)
    assert [len(part) for part, _ in parts] == sizes
    assert torch.equal(torch.cat([targets for _, targets in parts]), images + 1)


def test_parts_give_the_gradients_of_the_whole_batch(monkeypatch):
    def gradients(at_once):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 4)
        learner = Learner.__new__(Learner)
        learner.network, learner.compiled = network, None
        learner.spec = type("Spec", (), {"batch_size": 10, "amp": "off"})
        learner.device, learner.total = torch.device("cpu"), torch.zeros(())
        learner.criterion = torch.nn.CrossEntropyLoss()
        learner.scaler = torch.amp.GradScaler("cpu", enabled=False)
        learner.images_at_once = at_once
        images, targets = torch.randn(10, 3), torch.arange(10) % 4
        learner.learn_from((images, targets), 2)
        return network.weight.grad, learner.total

    (whole, total), (added, sum_of_parts) = gradients(None), gradients(4)
    np.testing.assert_allclose(whole, added, atol=1e-7)
    np.testing.assert_allclose(total, sum_of_parts, rtol=1e-6)
