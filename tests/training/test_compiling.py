import numpy as np
import pytest
import torch
from torch import nn

from ensembler.errors import TrainingError
from ensembler.inference.engines import compiled as engine
from ensembler.machine.execution import Execution
from ensembler.networks.build import Normalised
from ensembler.progress import RecordedProgress
from ensembler.training import compiling, fold
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec
from ensembler.training.step_choice import StepDecision

PLAIN = MemberSpec(
    backbone=f"{__name__}:tiny",
    epochs=2,
    batch_size=8,
    lr=0.01,
    amp="off",
    checkpoint=None,
)
COMPILED = PLAIN.model_copy(update={"step": "compile"})


def tiny(num_classes, in_chans):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(in_chans * 64, num_classes),
        torch.nn.Dropout(0.1),
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (30, 8, 8, 3), dtype=np.uint8)
    return FoldData(pixels, np.arange(30) % 2, np.arange(20), np.arange(20, 30), 2)


def train_fold(spec, data, **options):
    return fold.train_fold(FoldSetup(spec, data), execution=Execution("cpu"), **options)


@pytest.fixture
def quick(monkeypatch):
    """Compiling without a code generator: the graph is captured and run as it is."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call: real(call, backend="eager"))


def test_a_compiled_training_is_the_plain_one(data, quick):
    # this compiler changes no bits
    plain, compiled = train_fold(PLAIN, data), train_fold(COMPILED, data)
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(compiled.network.state_dict()[name], value)


def test_a_network_that_cannot_be_compiled_says_how_to_do_without(data, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no compiler here")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call: real(call, backend=backend))
    with pytest.raises(TrainingError, match="step: eager"):
        train_fold(COMPILED, data)


@pytest.fixture
def broken_backward(monkeypatch):
    from torch._inductor.exc import InductorError

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(_, value):
            return value.clone()

        @staticmethod
        def backward(_, __):
            raise InductorError(RuntimeError("no code for this graph"), None)

    def compile_badly(call):
        return lambda network, images: Broken.apply(call(network, images))

    monkeypatch.setattr(torch, "compile", compile_badly)


def test_a_compiler_that_fails_in_the_backward_pass_is_no_fault_of_the_member(
    data, broken_backward
):
    # chosen where it worked
    progress, auto = RecordedProgress(), PLAIN.model_copy(update={"step": "auto"})
    train_fold(auto, data, step_decision=StepDecision("compile"), progress=progress)
    assert progress.notes == ["not compiled: torch cannot compile the network here"]
    with pytest.raises(TrainingError, match=r"no code for this graph.*step: eager"):
        train_fold(COMPILED, data)


ARCHITECTURES = {
    "linear": lambda: [nn.Flatten(), nn.Linear(192, 2)],
    "convolution": lambda: [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)],
    "pooled": lambda: [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2)],
}


def network_of_width(width):
    layers = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, width), torch.nn.Linear(width, 2)
    )
    return Normalised(layers, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def two_forms_of_each_function():
    """torch keeps two compiled forms of a function, not eight, before it goes on uncompiled."""
    with torch._dynamo.config.patch(recompile_limit=len(ARCHITECTURES) - 1):
        yield


def test_every_architecture_of_a_process_is_compiled_and_the_folds_of_one_share_it(
    monkeypatch, two_forms_of_each_function
):
    graphs, made = [], []

    def backend(graph, inputs):
        graphs.append(inputs)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: real(call, backend=backend))
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for layers in ARCHITECTURES.values():
        before = len(graphs)
        for _ in range(2):
            network = Normalised(nn.Sequential(*layers()), (0.5,) * 3, (0.25,) * 3)
            compiling.compiled(network)(images)
        made.append(len(graphs) - before)
    assert made == [1] * len(ARCHITECTURES)
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    # So are those of the engine, which stand side by side.
    graphs.clear()
    predictors = [
        engine.prepare(network_of_width(width).eval(), images, "off", "cpu")
        for width in range(20, 24)
    ]
    for _ in range(2):
        for predictor in predictors:
            predictor(images)
    assert len(graphs) == 4
