"""A metric of one's own on the command line: announced, computed, and never run for a record."""

import itertools
import json

import pytest

from ensembler.files import write_json
from ensembler.predictions.testing import write_fake_run

NUMBERS = itertools.count()
CODE = """
def wrong(probs, y):
    return (probs.argmax(axis=1) != y).mean()
wrong.greater_is_better = False

def broken(probs, y):
    return probs
"""


@pytest.fixture
def run(tmp_path):
    """A fake run, and a module of one's own in the current folder, of a name for this test alone."""
    module = f"own_metric_{next(NUMBERS)}"
    (tmp_path / f"{module}.py").write_text(CODE)
    write_fake_run(tmp_path / "artifacts" / "fake", {"good": 2.0, "fair": 1.2}, n_train=120)
    return module


def test_a_blend_is_chosen_by_it_and_says_where_it_is(ens_here, run, tmp_path):
    done = ens_here(
        "blend", "fake", "--metric", f"{run}:wrong", "--method", "greedy", "--json"
    )
    found = json.loads(done.stdout)
    assert f"{run}:wrong" in found["scores"]["cross_fitted"]
    assert found["gain"]["metric"] == f"{run}:wrong"
    shown = ens_here("blend", "fake", "--metric", f"{run}:wrong", "--method", "greedy")
    assert f"uses code of yours: {run}:wrong ({tmp_path / run}.py)" in shown.stderr


def test_members_and_blends_are_evaluated_by_it(ens_here, run):
    given = (
        "evaluate",
        "fake",
        "--metrics",
        f"accuracy,{run}:wrong",
        "--over",
        "fair",
        "--json",
    )
    found = json.loads(ens_here(*given).stdout)
    for row in found["rows"]:
        assert row["metrics"][f"{run}:wrong"] == pytest.approx(
            1 - row["metrics"]["accuracy"]
        )
    gains = {row["metric"]: row["value"] for row in found["gains"]["rows"]}
    assert gains[f"{run}:wrong"] == pytest.approx(gains["accuracy"])
    assert f"{run}:wrong" in ens_here(*given[:-3]).stdout


@pytest.mark.parametrize(
    "command", [("blend", "fake", "--metric"), ("evaluate", "fake", "--metrics")]
)
def test_a_fault_of_it_is_one_error(ens_here, run, command):
    said = ens_here(*command, f"{run}:broken", expect=2).stderr
    assert f"metric '{run}:broken' returned an array [" in said
    assert "expected one number" in said


def test_what_only_a_record_names_is_not_run(ens_here, run, tmp_path):
    lock = tmp_path / "artifacts" / "fake" / "recipe.lock.json"
    write_json(lock, {"recipe": {"blend": {"metric": f"{run}:wrong", "method": "greedy"}}})
    said = ens_here("blend", "fake", expect=2).stderr
    assert f"if it is yours, name it: --metric {run}:wrong" in said
    ens_here("blend", "fake", "--metric", f"{run}:wrong")
