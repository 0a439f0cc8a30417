"""Samplers of one's own; ours are tested beside the losses they go with."""

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from ensembler import own_code
from ensembler.errors import RequestError, UnknownNameError
from ensembler.registry import Registry
from ensembler.training import sampling
from ensembler.training.catalogue import SAMPLERS, check_loss_name, check_sampler_name
from ensembler.training.sampling import check_sampler, draw_rows, epoch_size

CODE = """
import numpy as np

def half(labels, rng):
    return rng.permutation(len(labels))[: len(labels) // 2]

def outside(labels, rng):
    return np.array([0, len(labels)])

def floats(labels, rng):
    return labels / 2

def broken(labels, rng):
    raise KeyError("no such class")

def alone(labels):
    return labels
"""
LABELS = np.array([0, 0, 0, 1, 1, -1, 2, 0])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "own_samplers_a.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_samplers_a"
    sys.modules.pop("own_samplers_a", None)
    own_code._digest.cache_clear()


@pytest.mark.parametrize("name", SAMPLERS.places)
def test_every_sampler_draws_as_many_rows_as_it_says_of_those_there_are(name):
    rows, weights = np.arange(100, 108), np.arange(8.0)
    drawn = draw_rows(rows, LABELS, name, np.random.default_rng(0), weights)
    assert len(drawn) == epoch_size(name, LABELS)
    assert set(drawn) <= set(rows)


def test_a_sampler_of_ones_own_draws_among_the_train_rows(mine):
    check_sampler(f"{mine}:half")
    drawn = draw_rows(np.arange(50, 58), LABELS, f"{mine}:half", np.random.default_rng(0))
    assert len(set(drawn)) == epoch_size(f"{mine}:half", LABELS) == 4
    assert set(drawn) <= set(range(50, 58))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("outside", r"returned int64 \[2\]; expected positions, whole numbers from 0 to 7"),
        ("floats", "returned float64"),
        ("broken", "failed on 8 labels: KeyError: 'no such class'"),
    ],
)
def test_every_fault_of_a_sampler_is_one_error_that_names_it(mine, name, said):
    with pytest.raises(RequestError, match=f"sampler '{mine}:{name}' {said}"):
        draw_rows(np.arange(8), LABELS, f"{mine}:{name}", np.random.default_rng(0))


def test_a_sampler_is_checked_before_anything_is_trained(mine):
    with pytest.raises(RequestError, match=r"alone' takes \(labels\); expected a function"):
        check_sampler(f"{mine}:alone")
    with pytest.raises(
        UnknownNameError, match="unknown sampler 'balancd'; did you mean 'balanced"
    ):
        check_sampler_name("balancd")
    with pytest.raises(UnknownNameError, match="unknown loss 'focl'; did you mean 'focal'"):
        check_loss_name("focl")


def test_other_packages_add_samplers_that_hide_none_of_ours(mine, monkeypatch):
    added = [
        EntryPoint("half", f"{mine}:half", "ensembler.samplers"),
        EntryPoint("none", f"{mine}:half", "ensembler.samplers"),
    ]
    monkeypatch.setattr("ensembler.registry.entry_points", lambda **_: added)
    registry = Registry("sampler", "ensembler.samplers", SAMPLERS.places)
    monkeypatch.setattr(sampling, "SAMPLERS", registry)
    assert epoch_size("half", LABELS) == 4
    assert epoch_size("none", LABELS) == 8
