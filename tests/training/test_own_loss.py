"""Losses of one's own: functions, classes, and what is said of those that cannot be used."""

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from torch import nn

from ensembler import own_code
from ensembler.errors import RequestError
from ensembler.registry import Registry
from ensembler.training import losses
from ensembler.training.catalogue import LOSSES
from ensembler.training.losses import build_label_set_loss, build_loss, check_loss
from ensembler.training.spec import MemberSpec

CODE = """
import torch
from torch import nn

def plain(logits, targets):
    return nn.functional.cross_entropy(logits, targets)

def each(logits, targets):
    return nn.functional.cross_entropy(logits, targets, reduction="none")

def sets(logits, targets):
    return nn.functional.binary_cross_entropy_with_logits(logits, targets)

class Smoothed(nn.Module):
    def __init__(self, task):
        super().__init__()
        self.loss = nn.CrossEntropyLoss(weight=task.weights, label_smoothing=task.smoothing)
        assert task.n_classes == len(task.counts)

    def forward(self, logits, targets):
        return self.loss(logits, targets)

class Alone(nn.Module):
    def forward(self, logits, targets):
        return logits.sum() * 0

def made_of_nothing(task):
    return None

def one(logits):
    return logits.sum()
"""
LOGITS, Y = (
    torch.randn(6, 3, generator=torch.Generator().manual_seed(0)),
    torch.arange(6) % 3,
)
COUNTS = np.array([50, 30, 20])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "own_losses_a.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_losses_a"
    sys.modules.pop("own_losses_a", None)
    own_code._digest.cache_clear()


def spec(loss, **options):
    return MemberSpec(backbone="resnet18", loss=loss, **options)


def test_a_function_of_logits_and_targets_is_a_loss(mine):
    ours, theirs = (
        build_loss(spec(loss), COUNTS) for loss in ("cross_entropy", f"{mine}:plain")
    )
    assert torch.isclose(theirs(LOGITS, Y), ours(LOGITS, Y))


def test_a_class_that_takes_the_task_is_told_weights_and_smoothing(mine):
    given = {"class_weights": "balanced", "smoothing": 0.1}
    check_loss(spec(f"{mine}:Smoothed", **given))
    loss = build_loss(spec(f"{mine}:Smoothed", **given), COUNTS)
    ours = build_loss(spec("cross_entropy", **given), COUNTS)
    assert torch.isclose(loss(LOGITS, Y), ours(LOGITS, Y))
    assert isinstance(build_loss(spec(f"{mine}:Alone"), COUNTS), nn.Module)


def test_of_a_multi_label_task_targets_are_floats(mine):
    y = np.eye(3, dtype=np.int64)[Y.numpy()]
    loss = build_label_set_loss(spec(f"{mine}:sets"), y, None)
    ours = build_label_set_loss(spec("bce"), y, None)
    assert torch.isclose(
        loss(LOGITS, torch.from_numpy(y)), ours(LOGITS, torch.from_numpy(y))
    )


def test_options_that_it_cannot_take_are_refused_before_training(mine):
    for option in ({"smoothing": 0.1}, {"class_weights": "balanced"}):
        with pytest.raises(
            RequestError, match="counts only with a loss that takes a `task`"
        ):
            check_loss(spec(f"{mine}:plain", **option))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("each", r"returned a tensor \[6\]; expected one number"),
        ("one", r"takes \(logits\); expected a function \(logits, targets\)"),
        ("made_of_nothing", "made NoneType; expected an nn.Module"),
        ("missing", "has no 'missing'"),
    ],
)
def test_every_fault_of_a_loss_is_one_error_that_names_it(mine, name, said):
    with pytest.raises(RequestError, match=f"loss '{mine}:{name}'.*{said}"):
        build_loss(spec(f"{mine}:{name}"), COUNTS)(LOGITS, Y)


def test_other_packages_add_losses_that_hide_none_of_ours(mine, monkeypatch):
    added = [
        EntryPoint("plain", f"{mine}:plain", "ensembler.losses"),
        EntryPoint("bce", f"{mine}:plain", "ensembler.losses"),
    ]
    monkeypatch.setattr("ensembler.registry.entry_points", lambda **_: added)
    registry = Registry("loss", "ensembler.losses", LOSSES.places)
    monkeypatch.setattr(losses, "LOSSES", registry)
    monkeypatch.setattr("ensembler.training.catalogue.LOSSES", registry)
    plain = build_loss(spec("plain"), COUNTS)(LOGITS, Y)
    assert torch.isclose(plain, nn.functional.cross_entropy(LOGITS, Y))
    assert not torch.isclose(build_loss(spec("bce"), COUNTS)(LOGITS, Y), plain)
