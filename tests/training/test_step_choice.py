"""How steps are taken: by recipe and device alone, or as a measurement chose."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded_graph import RecordingGraphs

from ensembler.progress import RecordedProgress
from ensembler.training import step_choice
from ensembler.training.distillation import SoftTargets
from ensembler.training.fold_data import FoldData
from ensembler.training.graphed import GraphedUpdates
from ensembler.training.learner import Learner
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec
from ensembler.training.step_choice import (
    StepChoice,
    StepChooser,
    StepDecision,
    Timing,
    kept_kind,
)

CPU = torch.device("cpu")
OPTIONS = {"backbone": "test_resnet", "epochs": 2, "batch_size": 8, "amp": "off"}


def tiny(num_classes, in_chans):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(in_chans * 64, num_classes),
        torch.nn.Dropout(0.1),
    )


def own_loss(logits, targets):
    return torch.nn.functional.cross_entropy(logits, targets)


def learner_of(teacher=None, **options):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (30, 8, 8, 3), dtype=np.uint8)
    data = FoldData(pixels, np.arange(30) % 2, np.arange(20), np.arange(20, 30), 2)
    data = replace(data, teacher=teacher)
    spec = MemberSpec(**{**OPTIONS, "backbone": f"{__name__}:tiny", **options})
    return Learner.build(FoldSetup(spec, data), CPU)


def example():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (8, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return images, torch.arange(8) % 2


def never():
    raise AssertionError("measured")


def choose(learner, graphs, decision=None, make=never, updates=10):
    progress = RecordedProgress()
    StepChooser(learner, graphs, decision or StepDecision(), progress).choose(make, updates)
    return progress.notes


@pytest.fixture
def timed(monkeypatch):
    """Milliseconds of an update by kind, in the place of a clock."""
    updates = {"eager": 10.0, "graph": 5.0, "compile": 4.0}

    def measure(self, steps, batch):
        is_graph = isinstance(steps, GraphedUpdates)
        kind = "compile" if self.learner.compiled is not None else "eager"
        kind = "graph" if is_graph and kind == "eager" else kind
        start = {"eager": 0.0, "graph": 1.0, "compile": 30.0}[kind]
        return Timing(updates[kind] / 1000, start)

    monkeypatch.setattr(StepChooser, "_time", measure)
    return updates


def test_without_a_word_steps_are_eager_on_a_processor_and_a_graph_where_it_can():
    learner = learner_of(backbone="test_resnet")
    assert choose(learner, None) == []
    assert learner.whole_updates is None
    assert choose(learner, RecordingGraphs()) == []
    assert isinstance(learner.whole_updates, GraphedUpdates)
    assert learner.compiled is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"backbone": "test_resnet", "opt": "lion"}, "opt: lion"),
        # not fused on a processor
        ({"backbone": "test_resnet", "opt": "sgd"}, "opt: sgd"),
        ({"backbone": "test_resnet", "loss": "soft_f1"}, "loss: soft_f1"),
        ({}, f"backbone: {__name__}:tiny"),
        (
            {"backbone": "test_resnet", "loss": f"{__name__}:own_loss"},
            f"loss: {__name__}:own_loss",
        ),
    ],
)
def test_what_no_graph_can_hold_is_left_to_eager_steps_by_name(options, named):
    learner, decision = learner_of(**options), StepDecision()
    notes = choose(learner, RecordingGraphs(), decision)
    assert notes == [f"no CUDA graph: {named} is for eager steps"]
    assert learner.whole_updates is None
    # the next fold of the training says nothing
    assert choose(learner_of(**options), RecordingGraphs(), decision) == []


def test_a_student_takes_eager_steps():
    teacher = SoftTargets(np.full((30, 2), 0.5, np.float32))
    learner = learner_of(teacher, backbone="test_resnet")
    notes = choose(learner, RecordingGraphs())
    assert notes == ["no CUDA graph: a student's loss is for eager steps"]
    assert learner.whole_updates is None


def test_code_of_ones_own_is_recorded_when_that_is_asked_for():
    learner = learner_of(step="graph")
    assert choose(learner, RecordingGraphs()) == []
    assert isinstance(learner.whole_updates, GraphedUpdates)
    assert choose(learner_of(step="graph"), None) == [
        "no CUDA graph: the device is not CUDA"
    ]


@pytest.mark.parametrize("graphs", [None, RecordingGraphs()])
def test_nothing_is_measured_on_a_processor_or_under_deterministic(timed, graphs):
    measured = []

    def keep(choice):
        measured.append(choice)
        return "eager"

    options = {"backbone": "test_resnet", "deterministic": graphs is not None}
    learner = learner_of(step="auto", **options)
    notes = choose(learner, graphs, StepDecision(keep=keep), example)
    assert (notes, measured) == ([], [])
    # what a recipe without a word gets
    by_itself = learner_of(**options)
    choose(by_itself, graphs)
    assert type(learner.whole_updates) is type(by_itself.whole_updates)


def test_auto_counts_what_measuring_and_compiling_cost(timed):
    def chosen(updates):
        kept = []

        def keep(choice):
            kept.append(choice)
            return choice.step

        learner = learner_of(backbone="test_resnet", step="auto")
        decision = StepDecision(keep=keep)
        choose(learner, RecordingGraphs(), decision, example, updates)
        return kept[0].step, sorted(kept[0].timings), learner

    assert chosen(100)[:2] == ("eager", ["eager", "graph"])
    step, kinds, learner = chosen(1000)
    assert (step, kinds) == ("graph", ["eager", "graph"])
    assert isinstance(learner.whole_updates, GraphedUpdates)
    # 29 s more of compiling are paid back after 29,000 updates, each 1 ms shorter
    assert chosen(28_000)[:2] == ("graph", ["compile", "eager", "graph"])
    step, _, learner = chosen(30_000)
    assert step == "compile"
    assert learner.compiled is not None
    timed["graph"] = timed["compile"] = 9.8
    # hardly faster: two timings of one thing differ as much
    assert chosen(10**6)[0] == "eager"


def test_a_choice_that_was_kept_counts_and_nothing_is_measured(monkeypatch):
    learner = learner_of(backbone="test_resnet", step="auto")
    choose(learner, RecordingGraphs(), StepDecision("graph"))
    assert isinstance(learner.whole_updates, GraphedUpdates)
    learner = learner_of(backbone="test_resnet", step="auto")
    choose(learner, RecordingGraphs(), StepDecision("eager"))
    assert learner.whole_updates is None


def test_the_choices_of_earlier_versions_are_read():
    assert kept_kind(None, None) is None
    assert kept_kind(None, {"compiled": True}) == "compile"
    assert kept_kind(None, {"compiled": False}) == "eager"
    assert kept_kind({"step": "graph"}, {"compiled": True}) == "graph"


@pytest.mark.parametrize("opt", ["adamw", "nadam"])
def test_measuring_leaves_no_trace_in_the_learner(opt, monkeypatch):
    monkeypatch.setattr(step_choice, "_own_code", lambda _: None)
    learner = learner_of(step="auto", opt=opt, ema=0.9)
    weights = {k: v.clone() for k, v in learner.network.state_dict().items()}
    before = torch.get_rng_state()
    notes = choose(learner, RecordingGraphs(), None, example)
    assert len(notes) == (1 if opt == "adamw" else 2)
    assert notes[-1].startswith("step: ")
    assert torch.equal(torch.get_rng_state(), before)
    for network in (learner.network, learner.ema.module):
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name])
    for state in learner.optimizer.state.values():
        assert all(not value.any() for value in state.values())
    assert float(learner.total) == 0


def test_a_choice_in_words():
    choice = StepChoice("graph", {"eager": Timing(0.01), "graph": Timing(0.005, 2.0)})
    assert choice.text == "step: graph (eager 10.0 ms, graph 5.0 ms after 2 s)"
    assert choice.to_json()["timings"]["graph"] == {"update": 0.005, "start": 2.0}
    assert step_choice.kept_kind(choice.to_json(), None) == "graph"
