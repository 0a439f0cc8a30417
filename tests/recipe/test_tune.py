import pytest

from ensembler import Recipe
from ensembler.recipe.tune import DimensionSpec, TuneSpec, algorithm_name, is_met, label_of
from recipes import GOOD, problems

SPACE = "  space: {lr: {float: [1.0e-4, 1.0e-2], log: true}}\n"


@pytest.fixture
def written(tmp_path):
    def write(tune):
        path = tmp_path / "mine.yaml"
        path.write_text(f"{GOOD}tune:\n{tune}")
        return path

    return write


def test_a_search_is_read_from_a_recipe_with_its_defaults(written):
    tune = Recipe.load(written(SPACE)).spec.tune
    assert (tune.trials, tune.folds, tune.objective, tune.sampler) == (
        20,
        1,
        "log_loss",
        "tpe",
    )
    assert tune.space["lr"].range == (1e-4, 1e-2)


def test_a_list_is_short_for_choices_and_mappings_have_names_of_their_own():
    plain = DimensionSpec.model_validate(["a", 2, None, {"preset": "heavy"}])
    assert plain.by_label == {
        "a": "a",
        "2": 2,
        "null": None,
        "{preset: heavy}": {"preset": "heavy"},
    }
    named = DimensionSpec.model_validate(
        {"choices": {"strong": {"preset": "heavy", "p": 0.8}}}
    )
    assert named.by_label == {"strong": {"preset": "heavy", "p": 0.8}}
    assert label_of([1, True]) == "[1, true]"


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("  space: {lr: 0.1}\n", "0.1 is one value; expected choices"),
        (
            "  space: {lr: {flaot: [0, 1]}}\n",
            "tune.space.lr.flaot is not an option; did you mean",
        ),
        ("  space: {lr: {float: [0, 1], int: [0, 1]}}\n", "one of float, int and choices"),
        ("  space: {lr: {float: [1, 0]}}\n", "a lower and a higher number"),
        ("  space: {lr: {float: [0, 1], log: true}}\n", "log: true needs numbers above 0"),
        ("  space: {lr: {float: [1, 2], log: true, step: 1}}\n", "exclude each other"),
        ("  space: {epochs: {int: [1, 9], step: 0.5}}\n", "should be one, too"),
        ("  space: {opt: [sgd, sgd]}\n", "name one twice"),
        ("  space: {}\n", "at least 1"),
        (f"{SPACE}  sampler: tep\n", "unknown sampler 'tep'; did you mean 'tpe'"),
        (f"{SPACE}  pruner: mdian\n", "unknown pruner 'mdian'; did you mean 'median'"),
        (f"{SPACE}  objective: log_los\n", "did you mean 'log_loss'"),
        (f"{SPACE}  member: cn\n", "tune.member 'cn'; did you mean 'cnn'"),
        (f"{SPACE}  folds: 6\n", "at most folds.count, 5"),
        (f"{SPACE}  keep: 11\n", "weights 10 should be at least keep 11"),
        (f"{SPACE}  disk: much\n", "expected 500 MB or 20 GB"),
        (f"{SPACE}  timeout: soon\n", "expected 90s, 45m or 1h30m"),
        (f"{SPACE}  objective: blend\n  pruner: asha\n", "no trial is pruned"),
        (
            "  space: {lr: {float: [0, 1], when: {otp: sgd}}}\n",
            "when names 'otp'; did you mean 'opt'",
        ),
        (
            "  space: {lr: {float: [0, 1], when: {opt: sgd}}, opt: {choices: [a], when: {lr: 1}}}\n",
            "round in a circle",
        ),
    ],
)
def test_what_is_wrong_with_a_search_is_said_with_its_line(written, tune, message):
    found = " ".join(problems(written(tune)))
    assert message in found
    assert "mine.yaml line" in found


def test_the_keys_of_a_space_come_after_those_they_depend_on():
    tune = TuneSpec.model_validate(
        {
            "space": {
                "momentum": {"float": [0.8, 0.9], "when": {"opt": "sgd"}},
                "opt": ["sgd", "adamw"],
            }
        }
    )
    assert tune.order == ("opt", "momentum")


def test_samplers_and_pruners_are_known_by_optunas_names_too():
    names = ["TPESampler", "CmaEsSampler", "SuccessiveHalvingPruner", "NopPruner"]
    assert [algorithm_name(name) for name in names] == [
        "tpe",
        "cmaes",
        "successive_halving",
        "none",
    ]


def test_sizes_and_lengths_of_time_are_read():
    tune = TuneSpec.model_validate(
        {"space": {"lr": [1, 2]}, "disk": "1.5 GB", "timeout": "1h30m"}
    )
    assert (tune.disk_bytes, tune.timeout_seconds) == (1_500_000_000, 5400)


def test_a_condition_names_a_value_or_several():
    assert is_met("sgd", "sgd")
    assert is_met(["sgd", "lamb"], "lamb")
    assert not is_met(1, True)
    assert is_met(0.1, 0.1 + 1e-17)
