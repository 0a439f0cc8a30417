"""Updates taken as a graph are those taken eagerly, one by one."""

from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from recorded_graph import RecordingGraphs

from ensembler.machine.execution import Execution
from ensembler.networks.graphs import graphs_on
from ensembler.progress import Progress, RecordedProgress
from ensembler.training import fold, graphed, parts
from ensembler.training.fold_data import FoldData
from ensembler.training.graphed import average_in
from ensembler.training.learner import LearningRate
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec
from ensembler.training.step_choice import StepDecision

TINY = {
    "backbone": f"{__name__}:tiny",
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.01,
    "amp": "off",
}


def tiny(num_classes, in_chans):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, 4, 3, stride=2, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, num_classes),
    )


def asking(num_classes, in_chans):
    """A network that asks the device for a value in every step."""

    class Asking(torch.nn.Sequential):
        def forward(self, images):
            logits = super().forward(images)
            return logits if float(logits.detach().sum()) < 1e9 else logits * 0

    return Asking(*tiny(num_classes, in_chans))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 2
    pixels = (
        rng.integers(0, 100, (40, 12, 12, 3), dtype=np.uint8)
        + (targets * 100).astype(np.uint8)[:, None, None, None]
    )
    # 29 train rows: three whole batches and a short one
    return FoldData(pixels, targets, np.arange(29), np.arange(29, 40), 2)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return request.param


@pytest.fixture
def graphs(device, monkeypatch):
    """What records: a fake of CUDA's graphs on the processor."""
    found = RecordingGraphs() if device == "cpu" else graphs_on(torch.device(device))
    monkeypatch.setattr(fold, "graphs_on", lambda _: found)
    monkeypatch.setattr(parts, "FUSED", parts.FUSED_ON_CUDA)
    return found


@pytest.fixture
def walk(monkeypatch):
    """The weights after every update of the latest training."""
    seen = []
    after = LearningRate.after

    def remember(self, updates, epoch):
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        seen.append([p.detach().cpu().clone() for p in weights])
        after(self, updates, epoch)

    monkeypatch.setattr(LearningRate, "after", remember)
    return seen


def train(data, device, step, options, **more):
    spec = MemberSpec(**{**TINY, **options}, step=step)
    wanted = more.pop("weights", ())
    setup = FoldSetup(spec, data, wanted, seed=3, fold=1)
    return fold.train_fold(setup, execution=Execution(device, 0), **more)


def both_ways(data, device, walk, options, **more):
    """Train eagerly and as a graph: the networks, and the weights after every update."""
    found = []
    for step in ("eager", "graph"):
        walk.clear()
        found.append((train(data, device, step, options, **more), list(walk)))
    return found


def assert_the_same(eager, graphed):
    assert len(eager[1]) == len(graphed[1])
    for before, after in zip(eager[1], graphed[1], strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)
    for name, network in eager[0].networks.items():
        torch.testing.assert_close(
            graphed[0].networks[name].state_dict(),
            network.state_dict(),
            rtol=1e-4,
            atol=1e-6,
        )
    losses = [[record.loss for record in of[0].history] for of in (eager, graphed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


TRAPS = {
    "cosine": {},
    "warm-up": {"warmup_epochs": 1},
    "sgd with momentum": {"opt": "sgd", "momentum": 0.9},
    "rates of layers": {"layer_decay": 0.5, "backbone": "test_resnet"},
    "clipping": {"clip_grad": 0.1},
    "averaged weights": {"ema": 0.9},
    "accumulation": {"accumulate": 2},
    "mixup": {"mixup": 0.4, "cutmix": 0.5},
    "frozen epochs": {"freeze_epochs": 1},
    "a constant rate": {"sched": "none", "smoothing": 0.1},
    "all at once": {
        "warmup_epochs": 1,
        "ema": 0.9,
        "accumulate": 3,
        "clip_grad": 0.1,
        "mixup": 0.4,
        "freeze_epochs": 1,
    },
}


@pytest.mark.parametrize("options", TRAPS.values(), ids=TRAPS.keys())
def test_updates_of_a_graph_are_those_of_eager_steps_one_by_one(
    data, device, graphs, walk, options
):
    eager, graphed = both_ways(data, device, walk, options)
    assert_the_same(eager, graphed)
    if device == "cpu":
        epochs = TINY["epochs"] - options.get("freeze_epochs", 0)
        assert [graph.replays for graph in graphs.recorded] == [
            epochs * (3 // options.get("accumulate", 1))
        ]


def test_the_constant_rate_of_averaged_epochs_reaches_the_graph(data, device, graphs, walk):
    options = {"epochs": 8, "also": ("swa", "ema"), "swa_lr": 0.02}
    found = both_ways(data, device, walk, options, weights=("last", "swa", "ema"))
    assert_the_same(*found)


@pytest.mark.parametrize("clip", [{}, {"clip_grad": 1.0}], ids=["plain", "clipped"])
def test_float16_runs_as_a_graph_with_its_scaler(
    data, device, graphs, walk, clip, monkeypatch
):
    # the first scales are too large: their steps are skipped, and later the scale grows again
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**24, growth_interval=2)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    found = both_ways(data, device, walk, {"amp": "fp16", "ema": 0.9, **clip})
    assert_the_same(*found)
    walked = found[1][1]
    is_skipped = [
        all(map(torch.equal, before, after)) for before, after in pairwise(walked)
    ]
    assert is_skipped[1]
    assert not is_skipped[-1]


class StopAfter(Progress):
    def epoch(self, epoch):
        if epoch.epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("options", [{}, {"opt": "sgd", "momentum": 0.9, "ema": 0.9}])
def test_a_resume_in_the_middle_records_anew_and_goes_on(
    data, device, graphs, walk, tmp_path, options
):
    whole = train(data, device, "eager", options)
    walk.clear()
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        train(data, device, "graph", options, state_path=state, progress=StopAfter())
    resumed = train(data, device, "graph", options, state_path=state)
    torch.testing.assert_close(
        resumed.network.state_dict(), whole.network.state_dict(), rtol=1e-4, atol=1e-6
    )


REFUSED = RuntimeError("operation not permitted when stream is capturing\nand more")


def test_what_cannot_be_recorded_is_trained_eagerly_and_told_once(data, monkeypatch, walk):
    graphs = RecordingGraphs(fault=REFUSED)
    monkeypatch.setattr(fold, "graphs_on", lambda _: graphs)
    progress, decision = RecordedProgress(), StepDecision()
    eager = train(data, "cpu", "eager", {"accumulate": 2, "ema": 0.9})
    for _ in range(2):  # the folds of one training
        refused = train(
            data,
            "cpu",
            "graph",
            {"accumulate": 2, "ema": 0.9},
            progress=progress,
            step_decision=decision,
        )
        # to the bit: what the attempt moved was put back
        for name, value in eager.network.state_dict().items():
            assert torch.equal(value, refused.network.state_dict()[name])
    assert progress.notes == [
        "no CUDA graph: the steps are taken eagerly (operation not permitted when stream is "
        "capturing)"
    ]


def test_a_network_that_asks_for_values_is_found_out_by_recording(data, device, graphs):
    progress = RecordedProgress()
    asks = {"backbone": f"{__name__}:asking"}
    trained = train(data, device, "graph", asks, progress=progress)
    assert len(trained.history) == 3
    assert [note.partition(" (")[0] for note in progress.notes] == [
        "no CUDA graph: the steps are taken eagerly"
    ]


@contextmanager
def rates_of_the_host(self):
    yield


@pytest.mark.parametrize(
    ("place", "name", "instead"),
    [
        (graphed._Numbers, "in_place", rates_of_the_host),
        (graphed._Numbers, "fill", lambda *_: None),
        (graphed, "preserved", lambda _: nullcontext()),
    ],
    ids=["rates baked in", "numbers never filled", "warm-up left in"],
)
def test_these_comparisons_see_a_graph_that_trains_wrongly_and_fast(
    data, monkeypatch, walk, place, name, instead
):
    monkeypatch.setattr(fold, "graphs_on", lambda _: RecordingGraphs())
    monkeypatch.setattr(place, name, instead)
    found = both_ways(data, "cpu", walk, {})
    with pytest.raises(AssertionError):
        assert_the_same(*found)


def test_weights_are_averaged_as_timm_averages_them(device):
    from timm.utils import ModelEmaV3

    network = tiny(2, 3).to(device)
    average = ModelEmaV3(network, decay=0.9)
    ours = ModelEmaV3(network, decay=0.9).module
    network(torch.rand(4, 3, 12, 12, device=device)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.rand_like(parameter)
    average.update(network)
    average_in(ours, network, torch.tensor(0.1, device=device))
    torch.testing.assert_close(ours.state_dict(), average.module.state_dict())
    assert int(ours[1].num_batches_tracked) == 1
