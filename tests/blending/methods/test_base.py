import pytest

from ensembler.blending import create_blend
from ensembler.blending.testing import invented_pool
from ensembler.errors import RequestError


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("greedy", "rounds", "many"),
        ("greedy", "rounds", 2.5),
        ("greedy", "rounds", True),
        ("greedy", "max_members", 0),
        ("greedy", "time_limit", "soon"),
        ("hill_climb", "step", 0),
        ("hill_climb", "step", -0.2),
        ("hill_climb", "smallest", 0.0),
        ("hill_climb", "negative", "maybe"),
        ("power", "power", "a"),
        ("power", "power", 0),
        ("power", "power", float("inf")),
        ("trimmed_mean", "share", "half"),
        ("trimmed_mean", "share", 0.5),
        ("simplex", "tolerance", -1),
        ("simplex", "tolerance", "small"),
        ("loglinear", "ridge", float("nan")),
        ("loglinear", "ridge", None),
        ("loglinear", "ridge", "none"),
        ("loglinear", "ridge", -1),
        ("loglinear", "inputs", "logit"),
        ("loglinear", "nonnegative", "yes"),
        ("stack", "shrinkage", float("nan")),
        ("stack", "ridge", None),
        ("stack", "max_iterations", 0),
        ("weights", "weights", ["a", "b", "c", "d"]),
        ("weights", "weights", 2),
    ],
)
def test_an_option_of_no_meaning_is_refused_by_name(name, option, value):
    with pytest.raises(RequestError, match=rf"{option}|\d weights for 4 members"):
        create_blend(name, **{option: value}).fit(*invented_pool())


def test_a_method_says_what_it_is():
    assert repr(create_blend("greedy", rounds=5)).startswith("GreedySelection(")
    assert repr(create_blend("loglinear", ridge=0.1)) == "LogLinearPool(ridge=0.1)"
    assert repr(create_blend("soft")) == "SoftVote()"
