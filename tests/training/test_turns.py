"""Several folds in one process, by threads: each ends with the bits of the fold trained alone."""

import threading

import numpy as np
import pytest
import torch

from ensembler.data.augment import build_augment
from ensembler.machine.execution import Execution
from ensembler.stop import Stopped
from ensembler.training import fold
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec
from ensembler.training.turns import Baton, Shared

TINY = {
    "backbone": f"{__name__}:tiny",
    "epochs": 2,
    "batch_size": 8,
    "lr": 0.01,
    "amp": "off",
    "mixup": 0.4,
}


def tiny(num_classes, in_chans):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, 4, 3, stride=2),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, num_classes),
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 12, 12, 3), dtype=np.uint8)
    return FoldData(pixels, np.arange(40) % 2, np.arange(30), np.arange(30, 40), 2)


def train(data, number, device="cpu", **more):
    spec = MemberSpec(**TINY, **more.pop("options", {}))
    weights = ("last", "swa", "ema") if "swa" in spec.also else ()
    # a policy of torchvision draws from torch's global generator
    augment = build_augment("trivialaugment", 12, 3)
    setup = FoldSetup(spec, data, weights, augment=augment, seed=3, fold=number)
    return fold.train_fold(setup, execution=Execution(device, 0), **more)


def together(turns, *folds):
    """Run functions in threads that take turns; what they return or raise."""
    found = [None] * len(folds)

    def work(i):
        try:
            with turns.baton.held():
                found[i] = folds[i]()
        except Exception as error:
            found[i] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(folds))]
    # all of them ask before the first one begins
    with turns.baton.held():
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    return found


def same(one, other):
    return all(
        torch.equal(value, other.networks[name].state_dict()[key])
        for name, network in one.networks.items()
        for key, value in network.state_dict().items()
    )


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    "options", [{}, {"deterministic": True, "also": ("swa", "ema")}], ids=["plain", "all"]
)
def test_folds_that_take_turns_end_with_the_bits_of_folds_alone(data, device, options):
    if device == "cuda":
        options = {**options, "deterministic": True, "step": "graph"}
    alone = [train(data, number, device, options=dict(options)) for number in (0, 1)]
    passed, turns = [], Shared()
    pass_on = turns.baton.pass_on
    turns.baton.pass_on = lambda: (passed.append(threading.get_ident()), pass_on())
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    at_once = together(
        turns,
        lambda: train(data, 0, device, options=dict(options), turns=turns),
        lambda: train(data, 1, device, options=dict(options), turns=turns),
    )
    for one, other in zip(alone, at_once, strict=True):
        assert same(one, other)
        assert [r.loss for r in one.history] == [r.loss for r in other.history]
    # they did take turns, and nothing of it is left in the process
    assert passed[:4] == [passed[0], passed[1]] * 2
    assert len(set(passed)) == 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_fold_that_took_turns_resumes_alone(data, tmp_path):
    alone, turns, steps = train(data, 0), Shared(), []

    def counted():
        steps.append(1)
        if len(steps) == 8:  # in the second epoch
            turns.ends.request("interrupted")

    def first():
        return train(data, 0, state_path=tmp_path / "state", turns=turns)

    def second():
        while not turns.ends:
            counted()
            turns.baton.pass_on()

    stopped, _ = together(turns, first, second)
    assert isinstance(stopped, Stopped)
    resumed = train(data, 0, state_path=tmp_path / "state")
    assert same(alone, resumed)
    assert len(resumed.history) == 2


def test_the_baton_goes_round_in_the_order_of_asking():
    order, turns = [], Shared()

    def ask(name):
        def work():
            for _ in range(3):
                order.append(name)
                turns.baton.pass_on()

        return work

    together(turns, ask("a"), ask("b"), ask("c"))
    assert order[:3] * 3 == order
    assert sorted(order[:3]) == ["a", "b", "c"]


def test_a_baton_that_nobody_else_wants_is_kept():
    baton = Baton()
    with baton.held():
        baton.pass_on()
        assert not baton.is_asked_for
