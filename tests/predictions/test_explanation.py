import json

from ensembler.predictions.explanation import BlendExplanation
from ensembler.run import Run

OLD = {  # as version 0.1.0 wrote it
    "chosen": "loglinear",
    "candidates": {"simplex": 0.31, "loglinear": 0.3},
    "correction": 0.0004,
    "gains": [
        {
            "over": "greedy",
            "metric": "log_loss",
            "value": 0.01,
            "low": -0.001,
            "high": 0.02,
            "standard_error": 0.005,
            "beyond_noise": False,
        }
    ],
    "bias": [0.1, -0.1],
    "ridge": 1e-05,
    "ridge_scores": {"1e-05": 0.3, "0.001": None},
    "members": [{"member": "a", "weight": None, "solo": 0.4, "marginal": None}],
    "trajectory": [[1, 0.5], [0, 0.4]],
    "frontier": [{"members": ["a"], "seconds": 0.01, "log_loss": 0.4}],
    "of_a_later_version": {"kept": [1]},
}


def test_what_was_written_before_is_read_and_written_again_as_it_was():
    found = BlendExplanation.model_validate(OLD)
    assert found.chosen == "loglinear"
    assert found.gains[0].over == "greedy"
    assert found.ridge_scores == {1e-05: 0.3, 0.001: None}
    assert found.trajectory == ((1, 0.5), (0, 0.4))
    assert json.loads(json.dumps(found.to_json())) == OLD


def test_numbers_that_are_not_finite_are_none_in_the_file():
    found = BlendExplanation(candidates={"a": float("nan"), "b": float("inf"), "c": 1.0})
    assert found.to_json() == {"candidates": {"a": None, "b": None, "c": 1.0}}


def test_a_blend_of_the_store_says_how_it_was_found(fake_run):
    made = Run(fake_run).blend("auto").result.details
    kept = Run(fake_run).blends["auto"].record
    assert kept.details.chosen == made.chosen
    assert [worth.member for worth in kept.details.members] == ["a", "b"]
    assert kept.spec == {"method": "auto"} | kept.spec
    assert set(kept.made_from) == {"a", "b"}
