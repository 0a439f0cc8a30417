"""What every way of training a fold owes, held to one contract."""

import dataclasses

import numpy as np
import pytest
import torch

from ensembler.data.augment import build_augment
from ensembler.data.on_device.choose import device_augment
from ensembler.errors import OutOfMemoryError, TrainingError
from ensembler.machine.execution import Execution
from ensembler.networks.build import sum_networks
from ensembler.networks.checkpoint import load_checkpoint, save_checkpoint
from ensembler.progress import Progress, RecordedProgress
from ensembler.training import ensembles, fold
from ensembler.training.ensembles import CLASSES, train_ensemble
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.soup import average_weights
from ensembler.training.spec import EnsembleSpec, MemberSpec

TINY = {
    "backbone": f"{__name__}:tiny",
    "epochs": 4,
    "batch_size": 7,
    "lr": 0.01,
    "amp": "off",
}
ALSO = ("last", "ema", "swa", "last_2")
KINDS = {
    "further": (MemberSpec(**TINY, also=ALSO[1:]), ALSO),
    "cyclic": (MemberSpec(**TINY, snapshots="cyclic", cycles=2), ("c1", "c2")),
} | {method: (EnsembleSpec(**TINY, method=method, estimators=2), ()) for method in CLASSES}


def tiny(num_classes, in_chans, width=4):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, width, 3, stride=2),
        torch.nn.BatchNorm2d(width),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, num_classes),
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 2
    pixels = rng.integers(0, 100, (40, 12, 12, 3), dtype=np.uint8)
    pixels += (targets * 100).astype(np.uint8)[:, None, None, None]
    return FoldData(pixels, targets, np.arange(29), np.arange(29, 40), 2)


SETUP = ("weights", "identity", "augment", "seed", "fold")


def train_fold(spec, data, *, workers=None, **options):
    """Train on the processor; options of the setup are told from the others."""
    setup = {name: options.pop(name) for name in SETUP if name in options}
    execution = Execution("cpu", workers)
    return fold.train_fold(FoldSetup(spec, data, **setup), execution=execution, **options)


def train(kind, data, **options):
    spec, wanted = KINDS[kind]
    options = {"augment": build_augment("light", 12, 3), "seed": 1, **options}
    if isinstance(spec, MemberSpec):
        return train_fold(spec, data, weights=wanted, **options)
    return train_ensemble(spec, data, device="cpu", **options)


def states(trained):
    return {
        f"{n}.{k}": v.clone()
        for n, net in trained.networks.items()
        for k, v in net.state_dict().items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bits_and_validation_rows_no_say(
    kind, data, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained = train(kind, data)
    scrambled = dataclasses.replace(
        data, pixels=data.pixels.copy(), targets=data.targets.copy()
    )
    scrambled.pixels[29:] = 255 - scrambled.pixels[29:]
    scrambled.targets[29:] = 1 - scrambled.targets[29:]
    assert same(states(trained), states(train(kind, scrambled)))
    assert not same(states(trained), states(train(kind, data, seed=2)))
    assert not any(network.training for network in trained.networks.values())
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", CLASSES)
def test_an_ensemble_tells_every_pass_and_gives_its_networks(method, data):
    spec, _ = KINDS[method]
    progress = RecordedProgress()
    trained = train(method, data, name="many", progress=progress)
    assert [e.epoch for e in progress.epochs] == list(range(1, spec.passes + 1))
    assert progress.epochs == [record.of("many", 0) for record in trained.history]
    assert all((e.loss is None) == spec.is_sum for e in progress.epochs)
    assert list(trained.networks) == (["sum"] if spec.is_sum else ["e1", "e2"])


def test_an_ensemble_without_enough_memory_says_what_needs_less(data, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ensembles, "place_for_training", full)
    with pytest.raises(
        OutOfMemoryError,
        match=r"^out of memory with batch_size \d+ at 12 px; batch_size: \d+ or a size",
    ):
        train("voting", data)


def test_the_networks_of_fast_geometric_are_kept_at_rates_that_suit_the_optimizer(
    data, monkeypatch
):
    rates = []
    step = torch.optim.AdamW.step

    def record(optimizer, *given):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    spec = EnsembleSpec(**TINY, method="fast_geometric", estimators=2)
    train_ensemble(spec, data, device="cpu")
    assert max(rates) <= spec.lr


def test_the_networks_of_an_ensemble_differ(data):
    for method in ("voting", "bagging", "fusion"):
        first, second = train(method, data).networks.values()
        assert not same(first.state_dict(), second.state_dict())


def test_the_class_that_no_train_row_has_keeps_its_logit(data):
    trained = train("voting", dataclasses.replace(data, classes=3))
    assert trained.networks["e1"](torch.zeros(1, 3, 12, 12, dtype=torch.uint8)).shape == (
        1,
        3,
    )


@pytest.mark.parametrize("method", ["voting", "gradient_boosting"])
def test_an_ensemble_that_diverges_is_an_error_with_advice(method, data):
    spec = EnsembleSpec(
        **{**TINY, "lr": 1e30, "opt": "sgd", "sched": "none"}, method=method, estimators=2
    )
    with pytest.raises(TrainingError, match="not finite"):
        train_ensemble(spec, data, device="cpu")


def test_the_plain_weights_are_the_same_whatever_else_is_kept(data):
    alone = train_fold(MemberSpec(**TINY), data, seed=1)
    among = train_fold(KINDS["further"][0], data, weights=ALSO, seed=1)
    assert same(alone.network.state_dict(), among.networks["last"].state_dict())


def test_an_average_is_the_mean_of_the_epochs_it_names(data):
    """The average of the last two epochs is worked out again from trainings that end there."""
    spec = MemberSpec(**TINY, also=["last_2"], sched="none")
    average = train_fold(spec, data, weights=["last", "last_2"]).networks
    three = train_fold(MemberSpec(**{**TINY, "epochs": 3}, sched="none"), data).network
    for name, value in average["last_2"].named_parameters():
        expected = (three.state_dict()[name] + average["last"].state_dict()[name]) / 2
        assert torch.allclose(value, expected, atol=1e-6)


def test_swa_lr_holds_the_rate_in_the_last_quarter(data):
    spec = MemberSpec(**TINY, also=["swa"], swa_lr=0.005)
    rates = [record.lr for record in train_fold(spec, data).history]
    assert rates[0] == pytest.approx(0.01)
    assert rates[1] < rates[0]
    assert rates[2:] == pytest.approx([0.005, 0.005])


def test_the_rate_starts_again_with_every_cycle(data):
    spec = MemberSpec(**{**TINY, "epochs": 6}, snapshots="cyclic", cycles=2)
    rates = [record.lr for record in train_fold(spec, data, weights=["c1", "c2"]).history]
    assert rates[:3] == pytest.approx(rates[3:])
    assert rates[0] == pytest.approx(0.01)
    assert rates[0] > rates[1] > rates[2]


@pytest.mark.parametrize("kind", ["further", "bagging"])
def test_equal_seeds_give_equal_bits_where_the_device_augments(kind, data):
    augment = device_augment("heavy", 12, 3)
    one, other = (states(train(kind, data, augment=augment)) for _ in range(2))
    assert same(one, other)
    assert not same(one, states(train(kind, data, augment=None)))


@pytest.mark.parametrize("kind", ["further", "cyclic"])
def test_a_training_that_keeps_more_is_resumed_with_the_same_bits(kind, data, tmp_path):
    class Stop(Exception):
        pass

    class StopAfter3(Progress):
        def epoch(self, epoch):
            if epoch.epoch == 3:
                raise Stop

    whole = train(kind, data)
    with pytest.raises(Stop):
        train(kind, data, state_path=tmp_path / "state", progress=StopAfter3())
    assert same(states(whole), states(train(kind, data, state_path=tmp_path / "state")))


def test_a_sum_of_networks_gives_log_probabilities_and_survives_the_disk(data, tmp_path):
    spec, _ = KINDS["gradient_boosting"]
    network = train("gradient_boosting", data).networks["sum"]
    images = torch.from_numpy(data.pixels[:5]).permute(0, 3, 1, 2)
    logs = network(images)
    assert torch.allclose(logs.exp().sum(dim=1), torch.ones(5))
    terms = [
        inner((images.float() - network.mean) / network.std)
        for inner in network.network.networks
    ]
    assert torch.allclose(logs, torch.log_softmax(sum(terms), dim=1), atol=1e-6)
    save_checkpoint(
        tmp_path / "w.safetensors",
        network,
        spec,
        {"classes": 2, "size": 12, "channels": 3},
        {},
    )
    assert torch.equal(
        load_checkpoint(tmp_path / "w.safetensors", "cpu", spec)(images), logs
    )


def test_the_factor_of_a_sum_counts(data):
    first, second = train("voting", data).networks.values()
    images = torch.from_numpy(data.pixels[:5]).permute(0, 3, 1, 2)
    halves = sum_networks([first, second], 0.5)(images)
    assert torch.allclose(
        halves, torch.log_softmax((first(images) + second(images)) / 2, dim=1), atol=1e-6
    )


def test_a_soup_of_one_network_twice_is_that_network(data):
    network = train("voting", data).networks["e1"]
    assert same(average_weights([network, network]).state_dict(), network.state_dict())
