"""Metrics of one's own: what they are given, what they may say of themselves, and how they fail."""

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from ensembler.errors import RequestError
from ensembler.metrics import (
    check_metric,
    check_metric_name,
    is_better,
    registry,
    score,
    score_all,
)
from ensembler.metrics.registry import fits
from ensembler.registry import Registry
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL

CODE = """
import numpy as np
from ensembler.metrics import SINGLE_LABEL, Metric

def skill(probs, y):
    return (probs.argmax(axis=1) == y).mean()

def cost(probs, y):
    return 1 - skill(probs, y)
cost.greater_is_better = False

def errors(probs, y):
    return (probs.argmax(axis=1) != y).astype(float)

COST = Metric("cost", cost, greater_is_better=False, kinds=frozenset({SINGLE_LABEL}), row_losses=errors)

def broken(probs, y):
    raise KeyError("no such column")
def several(probs, y):
    return (probs.argmax(axis=1) == y)
def text(probs, y):
    return "good"
def undefined(probs, y):
    return float("nan")
def writes(probs, y):
    probs[:] = 0
def alone(probs):
    return 0.0
def types(probs, y):
    assert probs.dtype == np.float64
    return len(y)
def odd(probs, y):
    return 0.0
odd.greater_is_better = "yes"
NUMBER = 3
"""
PROBS, Y = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], np.float32), np.array([0, 1, 1])


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "own_metrics_a.py").write_text(CODE)
    sys.path.append(str(folder))
    yield "own_metrics_a"
    sys.path.remove(str(folder))
    sys.modules.pop("own_metrics_a", None)


def test_a_function_is_a_metric_of_which_more_is_better(mine):
    assert score(f"{mine}:skill", PROBS, Y) == pytest.approx(2 / 3)
    assert is_better(f"{mine}:skill", 0.9, 0.8)
    assert score_all(PROBS, Y, [f"{mine}:skill"]) == {f"{mine}:skill": pytest.approx(2 / 3)}


def test_an_attribute_says_that_less_is_better(mine):
    assert not check_metric(f"{mine}:cost").greater_is_better
    assert is_better(f"{mine}:cost", 0.1, 0.2)


def test_a_whole_metric_keeps_what_it_says_and_is_called_by_its_place(mine):
    found = check_metric(f"{mine}:COST")
    assert found.name == f"{mine}:COST"
    assert not found.greater_is_better
    assert found.row_losses(PROBS, Y).tolist() == [0, 1, 0]
    assert fits(f"{mine}:COST", of=SINGLE_LABEL)
    assert not fits(f"{mine}:COST", of=MULTI_LABEL)
    with pytest.raises(
        RequestError, match="is not for targets with several labels at once"
    ):
        score(f"{mine}:COST", PROBS, np.eye(2, dtype=int)[Y])


def test_it_is_given_probabilities_in_double_precision(mine):
    assert score(f"{mine}:types", PROBS, Y) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "broken",
            r"failed on probabilities \[3, 2\] and labels \[3\]: KeyError: 'no such column'",
        ),
        ("several", r"returned an array \[3\]; expected one number"),
        ("text", "returned 'good'; expected one number"),
        ("writes", "read-only"),
        ("alone", r"takes \(probs\); expected a function \(probs, y\) -> float"),
        ("odd", "greater_is_better is 'yes'; expected True or False"),
        ("NUMBER", "is int; expected a function"),
        ("missing", "has no 'missing'"),
    ],
)
def test_every_fault_is_one_error_that_names_the_metric(mine, name, said):
    with pytest.raises(RequestError, match=f"metric '{mine}:{name}'.*{said}"):
        score(f"{mine}:{name}", PROBS, Y)


def test_a_score_to_report_that_is_no_number_is_an_error(mine):
    assert np.isnan(score(f"{mine}:undefined", PROBS, Y))
    with pytest.raises(RequestError, match="undefined' returned nan for 3 samples"):
        score_all(PROBS, Y, [f"{mine}:undefined"])


def test_a_name_is_checked_without_importing_anything():
    check_metric_name("own_metrics_never:f")
    assert "own_metrics_never" not in sys.modules
    with pytest.raises(RequestError, match="there is no module 'own_metrics_never'"):
        check_metric("own_metrics_never:f")


def test_other_packages_add_metrics_that_hide_none_of_ours(mine, monkeypatch):
    added = [
        EntryPoint("skill", f"{mine}:skill", "ensembler.metrics"),
        EntryPoint("accuracy", f"{mine}:undefined", "ensembler.metrics"),
    ]
    monkeypatch.setattr("ensembler.registry.entry_points", lambda **_: added)
    monkeypatch.setattr(registry, "_PLUGINS", Registry("metric", "ensembler.metrics", {}))
    assert score("skill", PROBS, Y) == pytest.approx(2 / 3)
    assert "skill" in registry.metric_names()
    assert score("accuracy", PROBS, Y) == pytest.approx(2 / 3)
    registry._plugin.cache_clear()
